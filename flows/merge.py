"""Merge again what is processed, with other settings; no image is read.

Prefect takes longer to start than all the rest, and its embedded server ends with the command: so it
sees a merge only where it has a server of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from flows.claim import Held, claimed
from flows.conclusion import conclude, settled
from flows.databases import Databases, open_databases, processing_of
from flows.delivery_thread import delivering
from flows.group_merge import MergePlan, plan_merge
from flows.group_names import group_named
from flows.outcome import Outcome, UnfinishedResultError, counted, raise_if_unfinished
from flows.prefect_environment import server_is_configured
from flows.processed_job import changed_settings, differences, processed_before
from flows.provenance import user_name
from flows.records import JobRecords
from flows.settings import SiteSettings
from flows.steps import LastSteps, merge_step, report_step
from ispyb_io.ledger_records import Processing, ProcessingGroup


class MergeRequest(BaseModel):
    """Parameters of the ``merge`` flow: a group of ISPyB, a processing group or the folder of a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    group_id: int | None = None
    """dataCollectionGroupId in ISPyB."""
    group_name: str | None = None
    """Name of a processing group, or its number in the ledger."""
    folder: Path | None = None
    """Folder of images processed without ISPyB."""
    settings: dict[str, Any] = {}
    """Settings that differ from the last result's, e.g. {"merging": {"d_min": 1.8}}."""
    asked_by: str | None = None
    """Who wants it; None: the account that the command runs in."""

    @property
    def title(self) -> str:
        """Name of the flow run."""
        if self.folder is not None:
            return self.folder.name
        return self.group_name or f"group {self.group_id}"

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(given is not None for given in (self.group_id, self.group_name, self.folder)) != 1:
            raise ValueError("give either a group, the name of one or the folder of a result")
        return self


def run_merge(request: MergeRequest, tell: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Merge again, as a flow where Prefect has a server.

    Parameters
    ----------
    tell
        Told of the outcome as soon as all is merged, before the report is written.

    Raises
    ------
    UnfinishedResultError
        There is a result, but chunks are missing, or ISPyB refused it.
    Exception
        Whatever stopped it.
    """
    if not server_is_configured():
        outcome = merge_result(request, LastSteps(merge_step, report_step, tell))
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
        asked_for = what_to_merge(request, databases)
        if isinstance(asked_for, ProcessingGroup):
            plan = plan_merge(asked_for, request.settings, databases, site)
            key, proposal = plan.job.key, asked_for.proposal
            with claimed(key, plan.job.folder, databases.ledger, site, proposal) as held:
                return merge_and_tell(plan, databases, site, steps, held, request.asked_by)
        settings = changed_settings(asked_for, request.settings)
        with claimed(asked_for.key, asked_for.folder, databases.ledger, site) as held:
            job, runs = processed_before(asked_for, settings, databases, site)
            plan = MergePlan(job, tuple(runs), asked_for.settings)
            return merge_and_tell(plan, databases, site, steps, held, request.asked_by)


def merge_and_tell(
    plan: MergePlan,
    databases: Databases,
    site: SiteSettings,
    steps: LastSteps,
    held: Held,
    asked_by: str | None,
) -> Outcome:
    """Merge, record, and wait a moment for ISPyB to take the result."""
    with delivering(databases) as delivery:
        if plan.job.may_have_events:
            from flows.event_chains import check_events

            # before the ledger hears of it: the result that there is stands
            check_events(plan.job, [run.plan.frames_total for run in plan.runs])
        records = JobRecords(databases, plan.job, delivery, held.check, started_by=asked_by or user_name())
        outcome = merge_again(plan, records, steps)
        return settled(outcome, records, site.ispyb_wait_s)


def what_to_merge(request: MergeRequest, databases: Databases) -> ProcessingGroup | Processing:
    """The group that somebody chose, or else the processing to be merged again."""
    ledger, group_id = databases.ledger, request.group_id
    if request.group_name is not None:
        group = group_named(request.group_name, ledger)
        if group.data_collection_group_id is None:
            return group
        group_id = group.data_collection_group_id
    last = processing_of(ledger, group_id, request.folder)
    if last.group_id is not None and last.data_collection_group_id is None:
        return group_named(last.group_id, ledger)  # by its folder
    return last


def merge_again(plan: MergePlan, records: JobRecords, steps: LastSteps) -> Outcome:
    """Merge and record, with what differs from the settings before."""
    job, runs = plan.job, plan.runs
    records.begin()
    try:
        for run in runs:
            records.chunks_found(run)
        changes = tuple(differences(plan.settings_before, job.settings.model_dump(mode="json")))
        outcome = conclude(job, runs, records, steps, changes)
    except Exception as error:
        records.fail_merge(error)
        raise
    records.finish(outcome.status, outcome.message, counted(outcome))
    return outcome
