"""The chunks of one data set in parallel: each a Prefect task as soon as its frames are there."""

from concurrent.futures import Executor
from queue import Empty, SimpleQueue

from prefect.futures import PrefectFuture

from flows.chunk_work import work_of
from flows.data_set_run import DataSetRun
from flows.display import ProgressDisplay
from flows.executor import WorkerDiedError
from flows.frames_to_come import POLL_S, FramesToCome
from flows.messages import one_line
from flows.records import SET_ASIDE, JobRecords
from flows.settings import SiteSettings
from flows.tasks import chunk_task
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.results import ResultStatus
from ssx_processing.pipeline.chunk_job import chunk_summary, is_done


def process_chunks(
    run: DataSetRun, site: SiteSettings, executor: Executor, records: JobRecords, display: ProgressDisplay
) -> None:
    """Process what is not done yet; ledger and ISPyB hear of each chunk as it arrives."""
    task = chunk_task.with_options(
        retries=site.chunk_retries,
        retry_delay_seconds=[site.chunk_retry_delay_s * 2**n for n in range(site.chunk_retries)],
    )
    records.collection(run, ResultStatus.RUNNING)
    to_come = FramesToCome(run, site)
    done: SimpleQueue[PrefectFuture] = SimpleQueue()
    computing: dict[PrefectFuture, int] = {}
    while True:
        for place in to_come.arrived():
            if is_settled(run, place, records):
                display.show(run, place)
                continue
            records.chunk(run, place, WorkStatus.RUNNING)
            future = task.submit(run.chunk_jobs[place], run.task_name(place), executor)
            computing[future] = place
            future.add_done_callback(done.put)
        if not computing and to_come.ended:
            break
        try:
            future = done.get(timeout=None if to_come.ended else POLL_S)
        except Empty:
            continue
        place = computing.pop(future)
        take_result(run, place, future, records)
        display.show(run, place)
        run.refresh_page_files()
        records.collection(run, ResultStatus.RUNNING)
    run.write_page_files()
    if not run.goes_on:
        records.collection(run, ResultStatus.FAILED if run.missing else ResultStatus.SUCCESS)


def is_settled(run: DataSetRun, place: int, records: JobRecords) -> bool:
    """Whether a chunk needs no task: it is done, or set aside; then that is entered.

    Those of a collection that goes on would be shown in Prefect again and again.
    """
    job = run.chunk_jobs[place]
    if is_done(job):
        run.add(place, chunk_summary(job, reused=True))
        records.chunk(run, place, WorkStatus.SUCCESS)
        return True
    reason = records.set_aside.get(job.key)
    if reason is None:
        return False
    run.fail(place, reason, None)
    records.chunk(run, place, WorkStatus.FAILED, message=reason)
    return True


def take_result(run: DataSetRun, place: int, future: PrefectFuture, records: JobRecords) -> None:
    """Enter a chunk that is done, or has failed for good."""
    result = future.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        reason = one_line(result)
        if isinstance(result, WorkerDiedError):
            reason = f"{SET_ASIDE}{reason}"
        run.fail(place, reason, work_of(result))
        attempts = getattr(result, "tries", 1)
        records.chunk(run, place, WorkStatus.FAILED, attempts=attempts, message=reason)
    else:
        summary, work, attempts = result
        run.add(place, summary, work)
        records.chunk(run, place, WorkStatus.SUCCESS, attempts=attempts)
