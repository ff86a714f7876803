"""What became of a job."""

from dataclasses import dataclass
from pathlib import Path

from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SsxError
from ssx_processing.models import FrameCounts, MergeSummary


@dataclass(frozen=True)
class Outcome:
    """Results of a job and where they are."""

    name: str
    folder: Path
    status: WorkStatus
    """Success only if every chunk is in the result."""
    message: str
    """One line: chunks, what is missing, counts."""
    counts: FrameCounts
    chunks_expected: int
    chunks_done: int
    chunks_reused: int
    """Of those done, the ones that were there already."""
    merge: MergeSummary
    reports: tuple[Path, ...]
    program_ids: tuple[int, ...] = ()
    """ISPyB's autoProcProgramIds, empty without ISPyB."""


class PartialResultError(SsxError):
    """There is a result, but some chunks are not in it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.name}: partial result, {outcome.message}")
        self.outcome = outcome
