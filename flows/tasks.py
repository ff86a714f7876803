"""The steps of the flows as Prefect tasks: thin, no decisions, nothing cached by Prefect.

What is done is found again by the content keys of our own folders.
"""

import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import task_run

from flows.chunk_work import ChunkWork, work_of, work_on_chunk
from flows.executor import WorkerDiedError
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


@task(name="sample", task_run_name="sample", cache_policy=NO_CACHE, persist_result=False)
def sample_task(plan: Plan, settings: RequestedSettings, folder: Path) -> SampleSettings:
    """Cell and space group as given, or sought in the images."""
    return sample_of_plan(plan, settings, folder)


@task(name="calibrate", task_run_name="calibrate", cache_policy=NO_CACHE, persist_result=False)
def calibrate_task(plan: Plan, settings: ProcessingSettings, folder: Path) -> Calibration:
    """Learn from some frames what all are processed with."""
    return calibrate(plan, settings, folder)


def is_worth_another_try(task: object, run: object, state: State[Any]) -> bool:
    """Prefect's question: a worker that was killed, a disk that was away come back, wrong input does not."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, WorkerDiedError):
        return True
    work = work_of(error) if isinstance(error, BaseException) else None
    return work is not None and work.may_pass


@task(
    name="chunk",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=is_worth_another_try,
)
def chunk_task(chunk_job: ChunkJob, name: str, executor: Executor) -> tuple[ChunkSummary, ChunkWork, int]:
    """Wait until the executor has processed a chunk; returns its summary, its work and the number of tries.

    What the steps said in the worker stands in the log of this task.
    """
    try:
        summary, work = executor.submit(work_on_chunk, chunk_job).result()
    except Exception as error:
        pass_on_log(work_of(error))
        error.__dict__["tries"] = task_run.run_count
        raise
    pass_on_log(work)
    return summary, work, task_run.run_count


def pass_on_log(work: ChunkWork | None) -> None:
    """Log here what was said in the worker."""
    for line in work.log if work else ():
        logging.getLogger(line.name).log(line.level, "%s", line.text)


merge_task = task(name="merge", task_run_name="merge", cache_policy=NO_CACHE, persist_result=False)(
    merge_step
)
report_task = task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)(
    report_step
)

LAST_STEPS = LastSteps(merge_task, report_task)
"""A job is concluded by Prefect's tasks."""
