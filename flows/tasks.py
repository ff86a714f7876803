"""The steps of the flows as Prefect tasks: thin, no decisions, nothing cached by Prefect.

What is done is found again by the content keys of our own folders.
"""

from concurrent.futures import Executor
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from flows.chunk_work import ChunkWork, work_on_chunk
from flows.job import DataSet
from flows.planning import plan_now
from flows.settings import SiteSettings
from flows.steps import LastSteps, merge_step, report_step
from ssx_processing.models import ChunkSummary, Plan
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.calibration import Calibration
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.sample import sample_of_plan
from ssx_processing.settings import ProcessingSettings, RequestedSettings, SampleSettings, StageSettings


@task(name="plan", task_run_name="plan {data_set.name}", cache_policy=NO_CACHE, persist_result=False)
def plan_task(data_set: DataSet, settings: StageSettings, site: SiteSettings) -> Plan:
    """Look at the files and cut their frames into chunks."""
    return plan_now(data_set, settings, site)


@task(name="sample", cache_policy=NO_CACHE, persist_result=False)
def sample_task(plan: Plan, settings: RequestedSettings, folder: Path) -> SampleSettings:
    """Cell and space group as given, or sought in the images."""
    return sample_of_plan(plan, settings, folder)


@task(name="calibrate", cache_policy=NO_CACHE, persist_result=False)
def calibrate_task(plan: Plan, settings: ProcessingSettings, folder: Path) -> Calibration:
    """Learn from some frames what all are processed with."""
    return calibrate(plan, settings, folder)


@task(
    name="chunk",
    task_run_name="frames {chunk_job.frames.start}-{chunk_job.frames.stop}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def chunk_task(chunk_job: ChunkJob, executor: Executor) -> tuple[ChunkSummary, ChunkWork, int]:
    """Wait until the executor has processed a chunk; returns its summary, its work and the number of tries.

    Retried because a disk that was away for a moment, or a worker that was killed, comes back.
    """
    summary, work = executor.submit(work_on_chunk, chunk_job).result()
    return summary, work, task_run.run_count


merge_task = task(name="merge", cache_policy=NO_CACHE, persist_result=False)(merge_step)
report_task = task(name="report", cache_policy=NO_CACHE, persist_result=False)(report_step)

LAST_STEPS = LastSteps(merge_task, report_task)
"""A job is concluded by Prefect's tasks."""
