"""Merge again what is processed, with other settings; no image is read.

Prefect takes longer to start than all the rest, and its embedded server ends with the command: so it
sees a merge only where it has a server of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from flows.conclusion import conclude, settled
from flows.data_set_run import DataSetRun, read_run
from flows.databases import Databases, open_databases, processing_of
from flows.delivery_thread import delivering
from flows.event_chains import check_events
from flows.folder_lock import exclusive
from flows.image_paths import with_image_paths
from flows.job import Job, collection_folder, merged_mappings, sample_folder
from flows.outcome import Outcome, UnfinishedResultError, raise_if_unfinished
from flows.permissions import check_files
from flows.prefect_environment import server_is_configured
from flows.records import JobRecords
from flows.settings import SiteSettings
from flows.steps import LastSteps, last_steps
from ispyb_io.ledger_records import Processing
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.settings import RequestedSample, RequestedSettings


class MergeRequest(BaseModel):
    """Parameters of the ``merge`` flow; either a group or the folder of a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    group_id: int | None = None
    """dataCollectionGroupId in ISPyB."""
    folder: Path | None = None
    """Folder of images processed without ISPyB."""
    settings: dict[str, Any] = {}
    """Settings that differ from the last result's, e.g. {"merging": {"d_min": 1.8}}."""

    @property
    def title(self) -> str:
        """Name of the flow run."""
        return f"group {self.group_id}" if self.folder is None else self.folder.name

    @model_validator(mode="after")
    def _folder_or_group(self) -> Self:
        if (self.group_id is None) == (self.folder is None):
            raise ValueError("give either a group or the folder of a result")
        return self


def run_merge(
    request: MergeRequest,
    tell: Callable[[Outcome], None] = lambda outcome: None,
    worker: Executor | None = None,
) -> Outcome:
    """Merge again, as a flow where Prefect has a server.

    Parameters
    ----------
    tell
        Told of the outcome as soon as all is merged, before the report is written.
    worker
        Merges and reports in place of this process, where Prefect has no server.

    Raises
    ------
    UnfinishedResultError
        There is a result, but chunks are missing, or ISPyB refused it.
    Exception
        Whatever stopped it.
    """
    if not server_is_configured():
        outcome = merge_result(request, last_steps(tell, worker))
        raise_if_unfinished(outcome)
        return outcome
    from flows.merge_flow import run_merge_flow

    try:
        outcome = run_merge_flow(request)
    except UnfinishedResultError as error:
        tell(error.outcome)
        raise
    tell(outcome)
    return outcome


def merge_result(request: MergeRequest, steps: LastSteps) -> Outcome:
    """Merge the chunks of the last processing of a group or folder with other settings."""
    site = SiteSettings()
    with open_databases(site, request.folder, create=request.folder is None) as databases:
        last = processing_of(databases.ledger, request.group_id, request.folder)
        settings = changed_settings(last, request.settings)
        with exclusive(last.folder), delivering(databases) as delivery:
            job, runs = processed_before(last, settings, databases, site)
            # before the ledger hears of it: the result that there is stands
            check_events(job, [run.plan.frames_total for run in runs])
            records = JobRecords(databases, job, delivery)
            outcome = merge_again(job, runs, records, last, steps)
            return settled(outcome, records, site.ispyb_wait_s)


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
    """The job of a processing and its chunks as they lie there."""
    group_id, folder = last.data_collection_group_id, last.folder
    group = databases.group(group_id, site) if group_id is not None else None
    check_files(site, group.proposal if group else None, settings=settings, others=[folder])
    places = (
        [(collection_folder(folder, collection), collection) for collection in group.data_collections]
        if group
        else [(folder, None)]
    )
    runs: list[DataSetRun] = []
    for place, collection in places:
        runs.append(read_run(place, collection, sum(len(run.chunk_jobs) for run in runs)))
        refuse_other_settings(runs[-1], last)
    data_sets = tuple(run.data_set for run in runs)
    name = f"group {group_id}" if group else data_sets[0].name
    of_sample = sample_folder(_with_paths_if_there(group, site), folder, site) if group else folder
    return Job(name, data_sets, settings, folder, group, of_sample), runs


def _with_paths_if_there(group: DataCollectionGroup, site: SiteSettings) -> DataCollectionGroup:
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


def merge_again(
    job: Job, runs: list[DataSetRun], records: JobRecords, last: Processing, steps: LastSteps
) -> Outcome:
    """Merge and record; chunks that are missing keep the reason that the ledger has."""
    reasons = {chunk.index: chunk.message for chunk in records.databases.ledger.chunks(last.key)}
    records.begin()
    try:
        for run in runs:
            for place in run.failures:
                run.failures[place] = reasons.get(run.first_chunk + place) or run.failures[place]
            records.chunks_found(run)
        changes = tuple(differences(last.settings, job.settings.model_dump(mode="json")))
        outcome = conclude(job, runs, records, steps, changes)
    except Exception as error:
        records.fail_merge(error)
        raise
    records.finish(outcome.status, outcome.message, asdict(outcome.counts))
    return outcome


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
