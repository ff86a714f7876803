"""The ``process`` flow: plan, calibrate, chunks in parallel, merge, record, report. Read this first.

Works for images named by a user and for a data collection group of ISPyB; what is told to ledger
and ISPyB is in ``records.py``, the end of a job in ``conclusion.py``. A chunk that fails is retried,
then recorded as failed; the merge goes on with the others, and the flow ends as failed ("Partial")
though there is a result.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.chunk_work import work_of
from flows.conclusion import conclude, settled
from flows.data_set_run import DataSetRun, chunk_jobs, write_plan
from flows.databases import open_databases
from flows.delivery_thread import delivering
from flows.display import ProgressDisplay, publish_summary
from flows.engine import chunk_engine
from flows.event_chains import check_events
from flows.folder_lock import exclusive
from flows.job import Job, ProcessRequest
from flows.job_of_request import find_job
from flows.messages import one_line
from flows.outcome import Outcome, PartialResultError, UnfinishedResultError, raise_if_unfinished
from flows.prefect_server import start_embedded_server
from flows.records import JobRecords
from flows.settings import SiteSettings
from flows.tasks import LAST_STEPS, calibrate_task, chunk_task, plan_task, sample_task
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.results import ResultStatus
from ssx_processing.errors import SettingsError
from ssx_processing.models import Plan
from ssx_processing.settings import SampleSettings


@flow(name="process", flow_run_name="{request.title}", persist_result=False)
def process(request: ProcessRequest) -> State[Outcome]:
    """Process images, or a data collection group of ISPyB, and record what comes of it."""
    site = SiteSettings()
    with open_databases(site, request.folder if request.files else None) as databases:
        job = find_job(request, site, databases)
        with exclusive(job.folder), delivering(databases) as delivery:
            outcome = run_job(
                job, site, JobRecords(databases, job, delivery, record_images=site.record_images)
            )
    return final_state(outcome)


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


def final_state(outcome: Outcome) -> State[Outcome]:
    """Green only if every chunk is in the result, and ISPyB refused none of it."""
    publish_summary(outcome)
    try:
        raise_if_unfinished(outcome)
    except UnfinishedResultError as error:
        name = "Partial" if isinstance(error, PartialResultError) else "NotRecorded"
        return Failed(name=name, message=str(error), data=error)
    return Completed(message=outcome.message, data=outcome)


def result_of(state: State[Any]) -> Any:
    """What a flow run returned; raises what stopped it."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def run_job(job: Job, site: SiteSettings, records: JobRecords) -> Outcome:
    """All steps of a job; whatever stops it is recorded before it is raised."""
    records.begin()
    try:
        runs = process_data_sets(job, site, records)
        outcome = conclude(job, runs, records, LAST_STEPS)
    except Exception as error:
        records.fail(error)
        records.settle(site.ispyb_wait_s)
        raise
    records.finish(outcome.status, outcome.message, asdict(outcome.counts))
    return settled(outcome, records, site.ispyb_wait_s)


def process_data_sets(job: Job, site: SiteSettings, records: JobRecords) -> list[DataSetRun]:
    """Process one data set after the other, the chunks of each in parallel."""
    runs: list[DataSetRun] = []
    plans = [plan_task(data_set, job.settings) for data_set in job.data_sets]
    check_events(job, [plan.frames_total for plan in plans])
    with chunk_engine(site, job.folder) as executor, ProgressDisplay(plans) as display:
        display.say("looking for the cell")
        settings = job.settings.with_sample(known_sample(job, plans))
        for line in settings.sample.assumed:
            display.note(line)
        for data_set, plan in zip(job.data_sets, plans, strict=True):
            display.say(f"calibrating {data_set.name}")
            calibration = calibrate_task(plan, settings, data_set.folder)
            jobs = chunk_jobs(plan, settings, calibration.folder, data_set.folder)
            first = sum(len(r.chunk_jobs) for r in runs)
            run = DataSetRun(data_set, plan, jobs, first, notices=calibration.cell_notices)
            for line in calibration.cell_notices:
                display.note(line)
            runs.append(run)
            write_plan(run)
            display.say(data_set.name)
            process_chunks(run, site, executor, records, display)
    return runs


def known_sample(job: Job, plans: Sequence[Plan]) -> SampleSettings:
    """Cell and space group; what is unknown is sought in one data set after the other.

    Raises
    ------
    SettingsError
        The cell is unknown and found in none.
    """
    error: SettingsError | None = None
    for data_set, plan in zip(job.data_sets, plans, strict=True):
        try:
            return sample_task(plan, job.settings, data_set.folder)
        except SettingsError as caught:
            error = caught
    raise error or SettingsError(f"{job.name} has no data sets")


def process_chunks(
    run: DataSetRun, site: SiteSettings, executor: Executor, records: JobRecords, display: ProgressDisplay
) -> None:
    """One Prefect task per chunk; ledger and ISPyB hear of each as it arrives."""
    task = chunk_task.with_options(retries=site.chunk_retries, retry_delay_seconds=site.chunk_retry_delay_s)
    records.collection(run, ResultStatus.RUNNING)
    futures: dict[PrefectFuture, int] = {}
    for place, chunk_job in enumerate(run.chunk_jobs):
        records.chunk(run, place, WorkStatus.RUNNING)
        futures[task.submit(chunk_job, executor)] = place
    for future in as_completed(list(futures)):
        place, result = futures[future], future.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            run.fail(place, one_line(result), work_of(result))
            attempts = site.chunk_retries + 1
            records.chunk(run, place, WorkStatus.FAILED, attempts=attempts, message=one_line(result))
        else:
            summary, work, attempts = result
            run.add(place, summary, work)
            records.chunk(run, place, WorkStatus.SUCCESS, attempts=attempts)
        display.show(run, place)
        run.write_page_files()
        records.collection(run, ResultStatus.RUNNING)
    records.collection(run, ResultStatus.FAILED if run.missing else ResultStatus.SUCCESS)
