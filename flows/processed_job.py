"""What is processed already, to be merged again: its settings, and its chunks as they lie there."""

from collections.abc import Iterator, Mapping
from typing import Any

from flows.data_set_run import DataSetRun, read_run
from flows.databases import Databases
from flows.image_paths import with_image_paths
from flows.job import Job, collection_folder, merged_mappings, sample_folder
from flows.permissions import check_files
from flows.settings import SiteSettings
from ispyb_io.ledger_records import Processing
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.settings import RequestedSample, RequestedSettings


def changed_settings(last: Processing, overrides: Mapping[str, Any]) -> RequestedSettings:
    """The last settings with those of the merge changed.

    Raises
    ------
    SettingsError
        Others are changed, which need the images.
    """
    others = [name for name in overrides if name != "merging"]
    if others:
        raise SettingsError(
            f"a merge can change merging.* only, not {others[0]}; for that run ssx process again"
        )
    return RequestedSettings.model_validate(merged_mappings(last.settings, overrides))


def processed_before(
    last: Processing, settings: RequestedSettings, databases: Databases, site: SiteSettings
) -> tuple[Job, list[DataSetRun]]:
    """The job of a processing and its chunks as they lie there; missing ones with the ledger's reason."""
    group_id, folder = last.data_collection_group_id, last.folder
    group = databases.included(databases.group(group_id, site)) if group_id is not None else None
    check_files(site, group.proposal if group else None, settings=settings, others=[folder])
    places = (
        [(collection_folder(folder, collection), collection) for collection in group.data_collections]
        if group
        else [(folder, None)]
    )
    reasons = {chunk.index: chunk.message for chunk in databases.ledger.chunks(last.key)}
    runs: list[DataSetRun] = []
    for place, collection in places:
        run = read_run(place, collection, sum(len(run.chunk_jobs) for run in runs))
        refuse_other_settings(run, last)
        for missing in run.failures:
            run.failures[missing] = reasons.get(run.first_chunk + missing) or run.failures[missing]
        runs.append(run)
    data_sets = tuple(run.data_set for run in runs)
    name = f"group {group_id}" if group else data_sets[0].name
    of_sample = sample_folder(with_paths_if_there(group, site), folder, site) if group else folder
    return Job(name, data_sets, settings, folder, group, of_sample), runs


def with_paths_if_there(group: DataCollectionGroup, site: SiteSettings) -> DataCollectionGroup:
    """The group with the paths of its images; the images may be gone by now."""
    try:
        return with_image_paths(group, site)
    except (ImageReadError, SettingsError):
        return group


def refuse_other_settings(run: DataSetRun, last: Processing) -> None:
    """Raise if the chunks planned last are not those of the last result: it would be mislabelled."""
    planned = run.settings.model_dump(mode="json", exclude={"merging"})
    recorded = {name: value for name, value in last.settings.items() if name != "merging"}
    if RequestedSample.model_validate(recorded["sample"]).known is None:  # found since
        del planned["sample"], recorded["sample"]
    else:
        recorded["sample"] = {"assumed": []} | recorded["sample"]
        del recorded["sample"]["cell_cluster"]
    changes = ", ".join(differences(recorded, planned))
    if changes:
        raise SettingsError(
            f"{run.data_set.folder}: processing with other settings began since and was not finished "
            f"({changes}); run ssx process first"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings that differ, as ``name: old -> new``.

    Examples
    --------
    >>> list(differences({"merging": {"d_min": None, "min_cc": 0}}, {"merging": {"d_min": 1.8, "min_cc": 0}}))
    ['merging.d_min: None -> 1.8']
    """
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}: {before} -> {after}"
