"""The chunks of a data set, handed out as their frames come."""

import math
import time
from collections.abc import Iterator

from flows.arrival import look_at_files
from flows.data_set_run import DataSetRun
from flows.messages import one_line
from flows.settings import SiteSettings
from ssx_processing.errors import ImageReadError, SsxError

POLL_S = 2.0
"""Time from one look at growing files to the next."""


class FramesToCome:
    """Hands out each chunk of a data set once all its frames are there.

    Of a collection that goes on the frames are waited for, but not longer than ``live_wait_s`` for the next
    chunk: then the run is left as it is, and the watcher takes it up again when there are more.
    """

    def __init__(self, run: DataSetRun, site: SiteSettings) -> None:
        self._run, self._site = run, site
        self._given = 0
        self._looked, self._last_news = -math.inf, time.monotonic()
        self.ended = False
        """Whether no more chunks come."""

    def arrived(self) -> Iterator[int]:
        """Places of the chunks whose frames have come since it was asked last."""
        if self._run.plan.frames_there is None:
            self.ended = True
            yield from self._up_to(self._run.plan.frames_total)
        elif not self.ended and time.monotonic() - self._looked > POLL_S:
            yield from self._look()
            self._looked = time.monotonic()

    def _look(self) -> Iterator[int]:
        try:
            arrival = look_at_files(self._run.data_set, self._site)
        except (SsxError, OSError) as error:  # a disk that is away comes back, or the run is left
            self._leave_if_idle(one_line(error))
            return
        self._run.grow(arrival)
        if not arrival.goes_on:
            self.ended = True
            self._run.end_at(arrival.there)
        before = self._given
        yield from self._up_to(arrival.frames_to_process(self._run.frames_per_chunk))
        if self._given > before:
            self._last_news = time.monotonic()
        elif not self.ended:
            self._leave_if_idle(arrival.lacking)

    def _leave_if_idle(self, lacking: str) -> None:
        if time.monotonic() - self._last_news > self._site.live_wait_s:
            if not self._given:
                chunk = f"{self._run.data_set.name}: not one chunk of {self._run.frames_per_chunk} frames"
                raise ImageReadError(f"{chunk} came within {self._site.live_wait_s:g} s; {lacking}")
            self.ended = True
            self._run.leave_at(self._given)

    def _up_to(self, n_frames: int) -> Iterator[int]:
        for place, job in enumerate(self._run.chunk_jobs):
            if self._given < job.frames.stop <= n_frames:
                self._given = job.frames.stop
                yield place
