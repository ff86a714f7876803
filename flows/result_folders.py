"""Where the results of a group are, and the merge in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import SUMMARY


def folder_of_group(group_id: int | None) -> Path:
    """Where the group was processed last, with or without a result.

    Raises
    ------
    SettingsError
        It never was.
    """
    from flows.databases import open_databases
    from flows.settings import SiteSettings

    with open_databases(SiteSettings()) as databases:
        processings = databases.ledger.processings(data_collection_group_id=group_id)
    if not processings:
        raise SettingsError(f"group {group_id} was never processed; run ssx process --group {group_id}")
    return max(processings, key=lambda processing: str(processing.started)).folder


def result_of_name(name: str) -> tuple[int | None, Path | None]:
    """Id in ISPyB of the group of this name, or the folder of its last result if a person made it.

    Raises
    ------
    SettingsError
        There is neither.
    """
    from flows.databases import open_databases
    from flows.group_names import group_named
    from flows.settings import SiteSettings
    from ispyb_io.ledger_records import newest_result

    with open_databases(SiteSettings()) as databases:
        if not databases.ledger.find_groups(name):
            raise SettingsError(
                f"{name} is neither a folder here nor a processing group; ssx status lists the results, "
                "ssx groups the groups"
            )
        group = group_named(name, databases.ledger)
        if group.data_collection_group_id is not None:
            return group.data_collection_group_id, None
        last = newest_result(databases.ledger.processings(group_id=group.group_id))
    if last is None:
        raise SettingsError(f"the group {name} was never merged; run ssx merge {name!r}")
    return None, last.folder


@dataclass(frozen=True)
class MergePlace:
    """A merge and the runs behind it."""

    name: str
    """Of the folder of the result."""
    merged_folder: Path
    run_folders: tuple[Path, ...]
    facts: Mapping[str, str]
    """What ISPyB knows of the sample; empty without ISPyB."""


def merge_of_result(folder: Path) -> MergePlace:
    """The last merge of a result, or the one whose own folder is given.

    Raises
    ------
    ChunkError
        There is no result, or the runs behind it are gone.
    """
    from flows.group_file import GROUP_FILE, folders_in_group_file
    from flows.outcome import read_facts, read_outcome
    from ssx_processing.pipeline.recut import run_folders

    if folder.parent.name == "merged" and (folder / SUMMARY).is_file():
        top = folder.parent.parent
        is_of_group = (folder / GROUP_FILE).is_file()
        runs = folders_in_group_file(folder / GROUP_FILE) if is_of_group else tuple(run_folders(top))
        return MergePlace(top.name, folder, runs, read_facts(top))
    outcome = read_outcome(folder)
    runs = outcome.run_folders or tuple(run_folders(folder))
    return MergePlace(folder.name, outcome.merge.folder, runs, outcome.facts)
