"""Where the results of a group are."""

from pathlib import Path

from ssx_processing.errors import SettingsError


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
