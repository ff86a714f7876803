"""Re-processing that somebody asks for in ISPyB: carried out, and answered there.

Each job is answered once: who works on it holds a claim in the ledger, as for a group, and a job whose worker
died is taken up again.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.claim import check_unclaimed, claimed
from flows.cli_input import parse_cell, parse_settings
from flows.databases import Databases, open_databases
from flows.folder_lock import BusyError
from flows.group_members import Choice, create_group, find_chosen
from flows.job import ProcessRequest
from flows.merge import MergeRequest, run_merge
from flows.messages import one_line
from flows.outcome import Outcome
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.asked import MERGE, PROCESS, Answer, AskedJob
from ispyb_io.protocol import NotFoundError, UnavailableError
from ispyb_io.results import ResultStatus
from ssx_processing.errors import SettingsError
from ssx_processing.settings import content_key

logger = logging.getLogger(__name__)

OF_SAMPLE = ("unit_cell", "space_group")
"""Parameters that are no settings."""


def waiting_jobs(site: SiteSettings) -> list[AskedJob]:
    """What is asked for and not answered for good."""
    with open_databases(site) as databases:
        return databases.require_ispyb().asked_jobs()


def unclaimed_jobs(site: SiteSettings) -> list[AskedJob]:
    """Those of them that nobody works on."""
    with open_databases(site) as databases:
        return [job for job in databases.require_ispyb().asked_jobs() if _is_free(job, databases, site)]


def _is_free(job: AskedJob, databases: Databases, site: SiteSettings) -> bool:
    try:
        check_unclaimed(*claim_of(job, site), databases.ledger, site)
    except BusyError:
        return False
    return True


def claim_of(job: AskedJob, site: SiteSettings) -> tuple[str, Path]:
    """Key of the claim, and the folder whose lock goes with it."""
    return content_key({"asked job": job.job_id}), site.data_home / "asked-jobs" / str(job.job_id)


@flow(name="asked-job", flow_run_name="ISPyB job {job_id}", persist_result=False)
def asked_job(job_id: int) -> State[Answer | None]:
    """Carry out what somebody asks for in ISPyB, and answer there."""
    site = SiteSettings()
    job = next((job for job in waiting_jobs(site) if job.job_id == job_id), None)
    answer = None if job is None else answer_job(job, site)
    if answer is not None and answer.status is ResultStatus.FAILED:
        return Failed(message=answer.message)
    return Completed(message="nothing is to be done" if answer is None else answer.message, data=answer)


def answer_job(job: AskedJob, site: SiteSettings) -> Answer | None:
    """Carry a job out and answer it; None if somebody else does, or its data are being worked on.

    Raises
    ------
    UnavailableError
        A database does not answer; the job is taken up again later.
    """
    with open_databases(site) as databases:
        ispyb = databases.require_ispyb()
        try:
            with claimed(*claim_of(job, site), databases.ledger, site):
                if job.job_id not in {waiting.job_id for waiting in ispyb.asked_jobs()}:
                    return None  # it was answered since it was listed
                taken_up = Answer(job_id=job.job_id, status=ResultStatus.RUNNING, message="taken up")
                ispyb.answer_job(taken_up)
                answer = carry_out(job, databases, site)
                ispyb.answer_job(answer)
                return answer
        except BusyError as error:
            logger.info("ISPyB job %d waits: %s", job.job_id, error)
            return None


def carry_out(job: AskedJob, databases: Databases, site: SiteSettings) -> Answer:
    """Process or merge; whatever is wrong with what was asked for is the answer."""
    try:
        outcome = process_or_merge(job, databases, site)
    except (BusyError, UnavailableError):  # they pass
        raise
    except Exception as error:
        message, status = f"{job.recipe}: {one_line(error)}", ResultStatus.FAILED
    else:
        programs = ", ".join(map(str, outcome.program_ids))
        message = f"{outcome.message}; result: programs {programs}, {outcome.merge.folder}"
        status = ResultStatus.SUCCESS
    return Answer(job_id=job.job_id, status=status, message=message)


def process_or_merge(job: AskedJob, databases: Databases, site: SiteSettings) -> Outcome:
    """Do what is asked for, with the errors of the commands ``ssx process`` and ``ssx merge``."""
    settings = parse_settings(f"{k}={v}" for k, v in job.parameters.items() if k not in OF_SAMPLE)
    asked_by = f"ISPyB job {job.job_id}"
    group_ids, is_whole = groups_of(job, databases, site)
    if job.recipe == PROCESS:
        if len(group_ids) > 1:
            raise SettingsError(
                f"data collections of groups {', '.join(map(str, group_ids))}: expected those of one; "
                f"process each, then ask for {MERGE} of all"
            )
        request = ProcessRequest(
            group_id=group_ids[0],
            unit_cell=parse_cell(job.parameters.get("unit_cell")),
            space_group=job.parameters.get("space_group"),
            settings=settings,
            asked_by=asked_by,
        )
        return run_process(request, site)
    if given := [name for name in OF_SAMPLE if name in job.parameters]:
        raise SettingsError(f"{given[0]}: a merge keeps that of the processing; ask for {PROCESS}")
    if is_whole:
        return run_merge(MergeRequest(group_id=group_ids[0], settings=settings, asked_by=asked_by))
    known = databases.ledger.find_groups(asked_by)
    if not known:  # else it was begun before
        create_group(asked_by, Choice(collections=job.data_collection_ids), None, databases, site)
    return run_merge(MergeRequest(group_name=asked_by, settings=settings, asked_by=asked_by))


def groups_of(job: AskedJob, databases: Databases, site: SiteSettings) -> tuple[Sequence[int], bool]:
    """Groups of the job's data collections, and whether these are all of one group."""
    if not job.data_collection_ids:
        raise SettingsError("it names no data collection, neither itself nor in a ProcessingJobImageSweep")
    try:
        found = find_chosen(Choice(collections=job.data_collection_ids), databases, site)
    except NotFoundError as error:
        raise SettingsError(f"{error}; is it of the proposal that this site processes?") from error
    ids = sorted(group.group_id for group in found.groups)
    every = {c.data_collection_id for group in found.groups for c in group.data_collections}
    return ids, len(ids) == 1 and every == set(found.collection_ids)
