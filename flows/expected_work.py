"""What a job will take, told before it is begun; above the site's limit somebody must say yes."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.data_set_run import DataSetRun
from flows.settings import SiteSettings
from ssx_processing.errors import SsxError
from ssx_processing.pipeline.chunk_job import is_done
from ssx_processing.pipeline.stored_spots import n_with_spots


@dataclass(frozen=True)
class ExpectedWork:
    """Work that is still to be done."""

    chunks: int
    frames: int
    cpu_hours: float
    gigabytes: float
    """Of results, on disk."""
    hours: float
    """Wall time."""
    from_spots: int = 0
    """Chunks whose spots are there already: they take less, how much depends on the hits."""

    @property
    def words(self) -> str:
        """One line for people."""
        if not self.chunks:
            return "all chunks are there already"
        end = datetime.datetime.now() + datetime.timedelta(hours=self.hours)
        when = f"{end:%H:%M}" if self.hours < 12 else f"{end:%Y-%m-%d %H:%M}"
        cpu = _time_words(self.cpu_hours)
        size = f"{self.gigabytes:.1f} GB" if self.gigabytes >= 1 else f"{1000 * self.gigabytes:.0f} MB"
        todo = f"{self.chunks} chunks with {self.frames} frames to do"
        if self.from_spots:
            todo += f", {self.from_spots} chunks from spots found before"
            cpu, when = f"at most {cpu}", f"{when} at the latest"
            return f"{todo}: {cpu}, {size} of results, done {when}"
        return f"{todo}: {cpu}, {size} of results, done about {when}"


def _time_words(hours: float) -> str:
    """CPU time in a unit that fits.

    Examples
    --------
    >>> _time_words(2.0), _time_words(0.5), _time_words(0.001)
    ('2.0 CPU hours', '30.0 CPU minutes', '4 CPU seconds')
    """
    if hours >= 1:
        return f"{hours:.1f} CPU hours"
    return f"{60 * hours:.1f} CPU minutes" if hours >= 1 / 60 else f"{3600 * hours:.0f} CPU seconds"


class ConfirmationNeededError(SsxError):
    """A job is larger than the site lets begin by itself."""


Ask = Callable[[ExpectedWork], bool]
"""Asks somebody whether to go on."""


def expected_work(runs: Sequence[DataSetRun], site: SiteSettings) -> ExpectedWork:
    """Sum over the chunks that are not there yet, by what frames took when they were tried."""
    chunks = frames = from_spots = 0
    seconds = size = 0.0
    for run in runs:
        to_do = [job for job in run.chunk_jobs if not is_done(job)]
        n = [job.frames.n_frames for job in to_do]
        chunks, frames = chunks + len(n), frames + sum(n)
        from_spots += n_with_spots(to_do)
        if run.trial is not None:
            seconds += sum(n) * run.trial.cpu_seconds
            size += sum(n) * run.trial.result_bytes
    at_once = max(min(site.workers, chunks), 1)
    hours = seconds / 3600
    return ExpectedWork(chunks, frames, hours, size / 1e9, hours / at_once, from_spots)


def confirm(work: ExpectedWork, site: SiteSettings, ask: Ask | None, what: str) -> None:
    """Go on if the work is within the site's limit, or somebody says yes.

    Parameters
    ----------
    ask
        None: there is nobody to be asked.

    Raises
    ------
    ConfirmationNeededError
        Nobody is there, or the answer is no.
    """
    limit = site.confirm_cpu_hours
    if limit is None or work.cpu_hours <= limit:
        return
    above = (
        f"{what}: {work.words}; the site begins up to {limit:g} CPU hours by itself (SSX_CONFIRM_CPU_HOURS)"
    )
    if ask is None:
        raise ConfirmationNeededError(f"{above}; to begin it all the same give --yes: ssx process ... --yes")
    if not ask(work):
        raise ConfirmationNeededError(f"{above}; the answer was no")
