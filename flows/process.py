"""The ``process`` flow: plan, calibrate, chunks in parallel, merge, record, report. Read this first.

Works for images named by a user and for a data collection group of ISPyB; what is told to ledger
and ISPyB is in ``records.py``, the end of a job in ``conclusion.py``. A chunk that fails is retried,
then recorded as failed; the merge goes on with the others, and the flow ends as failed ("Partial")
though there is a result.
"""

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import publish_chunks, publish_shells, publish_summary
from flows.cancellation import RunCancelledError, is_being_cancelled
from flows.claim import claimed
from flows.conclusion import conclude, settled
from flows.confirmation import whom_to_ask
from flows.data_sets import process_data_sets
from flows.databases import open_databases
from flows.delivery_thread import delivering
from flows.job import Job, ProcessRequest
from flows.job_of_request import find_job
from flows.notices import failure_notices, notices_of, tell_people
from flows.outcome import (
    LATENCY,
    Outcome,
    PartialResultError,
    UnfinishedResultError,
    counted,
    raise_if_unfinished,
    read_outcome,
)
from flows.prefect_environment import log_from_info
from flows.prefect_server import start_embedded_server
from flows.provenance import user_name
from flows.records import JobRecords
from flows.run_names import name_run
from flows.run_titles import title_of
from flows.settings import SiteSettings
from flows.tasks import LAST_STEPS
from ispyb_io.ledger_records import Chunk, WorkStatus

LAST_WORDS_S = 5.0
"""A run that is cancelled has 30 s before it is killed."""


@flow(name="process", flow_run_name="{request.title}", persist_result=False)
def process(request: ProcessRequest) -> State[Outcome]:
    """Process images, or a data collection group of ISPyB, and record what comes of it."""
    site = SiteSettings()
    log_from_info()
    with open_databases(site, request.folder if request.files else None) as databases:
        job = find_job(request, site, databases)
        proposal = job.group.proposal if job.group else None
        with (
            claimed(job.key, job.folder, databases.ledger, site, proposal) as held,
            delivering(databases) as delivery,
        ):
            records = JobRecords(
                databases, job, delivery, held.check,
                record_images=site.record_images, started_by=request.asked_by or user_name(),
            )  # fmt: skip
            if request.automatic:
                known = databases.ledger.processing(job.key)
                if known is not None and known.status is WorkStatus.SUCCESS:  # since the watcher looked
                    return Completed(
                        message=f"done already: {known.message}", data=read_outcome(known.folder)
                    )
                records.leave_set_aside()
            name_run(job)
            try:
                outcome = run_job(job, site, records, request)
            except Exception as error:
                tell_people(failure_notices(error, title_of(job)), job, site)
                raise
            finally:
                chunks = databases.ledger.chunks(job.key)
                publish_chunks(chunks)
    tell_people(notices_of(outcome, title_of(job), site), job, site)
    return final_state(outcome, site, chunks)


def run_process(request: ProcessRequest, site: SiteSettings) -> Outcome:
    """Run the flow, with as many tasks at a time as keep the site's engine busy.

    Raises
    ------
    UnfinishedResultError
        There is a result, but chunks are missing, or ISPyB refused it.
    Exception
        Whatever stopped the flow.
    """
    start_embedded_server()
    runner = ThreadPoolTaskRunner(max_workers=site.chunks_at_once + 1)
    sized = process.with_options(task_runner=runner)  # pyright: ignore[reportArgumentType]  # invariant
    return result_of(sized(request, return_state=True))


def final_state(outcome: Outcome, site: SiteSettings, chunks: Sequence[Chunk] = ()) -> State[Outcome]:
    """Green only if every chunk is in the result, and ISPyB refused none of it."""
    publish_summary(outcome, site.file_url, chunks)
    publish_shells(outcome)
    try:
        raise_if_unfinished(outcome)
    except UnfinishedResultError as error:
        name = "Partial" if isinstance(error, PartialResultError) else "NotRecorded"
        return Failed(name=name, message=str(error), data=error)
    if outcome.goes_on:
        return Completed(name="LiveSoFar", message=outcome.message, data=outcome)
    return Completed(message=outcome.message, data=outcome)


def result_of(state: State[Any]) -> Any:
    """What a flow run returned; raises what stopped it."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def run_job(job: Job, site: SiteSettings, records: JobRecords, request: ProcessRequest) -> Outcome:
    """All steps of a job; whatever stops it is recorded before it is raised."""
    records.begin()
    try:
        runs = process_data_sets(job, site, records, whom_to_ask(request, site))
        outcome = conclude(job, runs, records, LAST_STEPS)
    except TerminationSignal:
        if is_being_cancelled():
            records.fail(RunCancelledError())
            records.settle(min(site.ispyb_wait_s, LAST_WORDS_S))
        raise
    except Exception as error:
        records.fail(error)
        records.settle(site.ispyb_wait_s)
        raise
    counts = counted(outcome)
    if request.automatic and (seconds := job.seconds_since_last_frame()) is not None:
        counts[LATENCY] = round(seconds, 1)
    records.finish(outcome.status, outcome.message, counts, goes_on=outcome.goes_on)
    return settled(outcome, records, site.ispyb_wait_s)
