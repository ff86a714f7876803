"""The last steps of a job, merge and report, as plain functions; in ``tasks.py`` they are Prefect's."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
