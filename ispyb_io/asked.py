"""What somebody asks for in ISPyB, and what becomes of it."""

from ispyb_io.records import Record
from ispyb_io.results import ResultStatus

PROCESS, MERGE = "ssx-process", "ssx-merge"
RECIPES = (PROCESS, MERGE)
"""Of jobs that are for us."""


class AskedJob(Record):
    """What somebody asks for."""

    job_id: int
    recipe: str
    data_collection_ids: tuple[int, ...]
    """Of its sweeps; without any, the one it names itself."""
    parameters: dict[str, str]
    comments: str = ""


class Answer(Record):
    """What becomes of it."""

    job_id: int
    status: ResultStatus
    message: str
