"""Failed chunks of a result once more, with the settings of the result."""

from flows.data_set_run import read_run
from flows.databases import Databases
from flows.job import ProcessRequest
from ispyb_io.ledger_records import Chunk, Processing, WorkStatus
from ssx_processing.errors import SettingsError


def failed_chunks(last: Processing, databases: Databases) -> list[Chunk]:
    """The chunks that are not in a result."""
    return [c for c in databases.ledger.chunks(last.key) if c.status is not WorkStatus.SUCCESS]


def request_again(last: Processing, databases: Databases) -> ProcessRequest:
    """What was asked for when a result was made; done chunks are found again when it is run.

    Raises
    ------
    SettingsError
        It is a merge of a processing group, which has no chunks of its own.
    ChunkError
        What was processed in its folder cannot be read.
    """
    settings = dict(last.settings)
    sample = settings.pop("sample")
    known = {name: sample[name] for name in ("unit_cell", "space_group", "cell_cluster")}
    if last.data_collection_group_id is not None:
        of_group = {"group_id": last.data_collection_group_id, "folder": last.folder}
        return ProcessRequest.model_validate(of_group | known | {"settings": settings})
    if last.group_id is not None:
        name = next(g.name for g in databases.ledger.groups() if g.group_id == last.group_id)
        raise SettingsError(
            f"{name} is a merge of several results: retry that of the member that lacks chunks (ssx status), "
            f"then ssx merge {name!r}"
        )
    data_set = read_run(last.folder, None, 0).data_set
    of_files = {"files": data_set.paths, "folder": last.folder, "geometry_file": data_set.geometry_file}
    return ProcessRequest.model_validate(of_files | known | {"settings": settings})
