"""What people see while a flow runs and when it ends: terminal, Prefect's artifacts."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from flows.artifacts import begin_progress, publish_progress
from flows.data_set_run import DataSetRun
from flows.expected_work import Ask, ExpectedWork
from ssx_processing.models import FrameCounts, Plan

PUBLISH_EVERY_S = 5.0


class ProgressDisplay:
    """Bar on the terminal and progress artifact in Prefect, over all data sets of a job."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._frames_total = sum(plan.frames_total for plan in plans)
        self._frames_done = 0
        self._frames_computed = 0
        self._counts = FrameCounts()
        self._started = time.monotonic()
        self._published = -PUBLISH_EVERY_S
        self._artifact = begin_progress()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("planning", total=self._frames_total, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, what: str) -> None:
        """Name what is being done."""
        self._bar.update(self._task, description=what if len(what) <= 30 else what[:29] + "…")

    def note(self, line: str) -> None:
        """Print a line that stays."""
        self._bar.console.print(Text(line), soft_wrap=True)

    def paused(self, ask: Ask) -> Ask:
        """``ask`` without a bar that runs over the question."""

        def without_bar(work: ExpectedWork) -> bool:
            self._bar.stop()
            try:
                return ask(work)
            finally:
                self._bar.start()

        return without_bar

    def show(self, run: DataSetRun, place: int) -> None:
        """Take in a chunk that is done or has failed."""
        frames = run.chunk_jobs[place].frames.n_frames
        self._frames_done += frames
        summary = run.summaries.get(place)
        if summary is not None:
            self._counts += summary.counts
            self._frames_computed += 0 if summary.reused else frames
        self._bar.update(self._task, completed=self._frames_done, figures=self._figures())
        self._publish()

    def _publish(self) -> None:
        """Tell Prefect, which costs some milliseconds, now and then and at the end."""
        now, is_all = time.monotonic(), self._frames_done >= self._frames_total
        if is_all or now - self._published >= PUBLISH_EVERY_S:
            publish_progress(self._artifact, self._frames_done / self._frames_total)
            self._published = now

    def _figures(self) -> str:
        rate = self._frames_computed / (time.monotonic() - self._started)
        return f"frames  {rate:.0f}/s  {self._counts.frame_hits} hits  {self._counts.frames_indexed} indexed"
