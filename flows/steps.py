"""The last steps of a job, merge and report, as plain functions; in ``tasks.py`` they are Prefect's."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.prefect_environment import server_is_configured
from ssx_processing.models import ChunkSummary, MergeSummary
from ssx_processing.settings import ProcessingSettings

if TYPE_CHECKING:
    from flows.outcome import Outcome  # workers need not know the ledger


@dataclass(frozen=True)
class LastSteps:
    """How a job is concluded."""

    merge: Callable[..., MergeSummary]
    """`merge_step`, or a Prefect task of it."""
    report: Callable[..., Path]
    """`report_step`, or a Prefect task of it."""
    tell: "Callable[[Outcome], None]" = lambda outcome: None
    """Told of the outcome when all is merged, before the report is written and ISPyB is told."""


@contextmanager
def merging_worker() -> Iterator[Executor | None]:
    """A process that imports what merging needs while the command still looks for the result.

    Each takes as long as the other. None where Prefect has a server, which then does the work.
    """
    if server_is_configured():
        yield None
        return
    from flows.executor import worker_processes

    with worker_processes(1, ["ssx_processing.pipeline.merge"], one_thread=False) as worker:
        ready = worker.submit(_get_ready)
        try:
            yield worker
        finally:
            ready.exception()  # a process that is killed while it starts says so at length


def last_steps(tell: "Callable[[Outcome], None]", worker: Executor | None = None) -> LastSteps:
    """The plain steps, in this process or in a worker."""
    if worker is None:
        return LastSteps(merge_step, report_step, tell)
    return LastSteps(
        lambda *arguments, **named: worker.submit(merge_step, *arguments, **named).result(),
        lambda *arguments, **named: worker.submit(report_step, *arguments, **named).result(),
        tell,
    )


def _get_ready() -> None:
    from ssx_processing.pipeline.merge import wake_kernels

    wake_kernels()


def merge_step(
    chunks: Sequence[ChunkSummary],
    settings: ProcessingSettings,
    folder: Path,
    expected: int,
    missing: Sequence[str],
    wavelength: float,
    sample_folder: Path,
) -> MergeSummary:
    """Merge the observations of all chunks there are."""
    from ssx_processing.pipeline.merge import merge_chunks  # its kernels take long to import

    return merge_chunks(
        [chunk.folder for chunk in chunks],
        settings,
        folder,
        chunks_expected=expected,
        missing=missing,
        wavelength=wavelength,
        n_threads=len(os.sched_getaffinity(0)),  # the workers of the chunks are idle by now
        sample_folder=sample_folder,
    )


def report_step(
    run_folder: Path,
    merge_folder: Path | None,
    *,
    missing: Sequence[str] = (),
    problem: str = "",
    reused: Collection[str],
    facts: Mapping[str, str],
    page: Path | None = None,
) -> Path:
    """Write the page for people."""
    from ssx_processing.pipeline.report import write_report  # its plots take long to import

    return write_report(
        run_folder,
        merge_folder,
        missing=missing,
        merge_problem=problem,
        reused=reused,
        facts=facts,
        page=page,
    )
