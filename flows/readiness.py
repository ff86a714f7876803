"""Whether the frames of a group can be processed now: all of them, those there are by now, or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.arrival import Arrival, look_at_files
from flows.job import DataSet, Job
from flows.planning import planned_before
from flows.settings import SiteSettings
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Processing, WorkStatus
from ssx_processing.pipeline.chunk_size import SIZES
from ssx_processing.settings import StageSettings


@dataclass(frozen=True)
class Readiness:
    """What can be done with a group."""

    state: Literal["ready", "waiting", "nothing new", "nothing there"]
    """``nothing new``: an attempt had all that is there, and no more is to come."""
    detail: str
    is_live: bool = False
    """Its collection goes on."""


def readiness(job: Job, known: Processing | None, site: SiteSettings, ledger: Ledger) -> Readiness:
    """Judge by the frames that are there and those that the last attempt had.

    Parameters
    ----------
    known
        That attempt.

    Raises
    ------
    SsxError, OSError
        Files are not there, or cannot be opened.
    """
    looks = [(d, look_at_files(d, site)) for d in job.data_sets if d.collection is not None]
    arrivals = [arrival for _, arrival in looks]
    lacking = next((arrival.lacking for arrival in arrivals if arrival.lacking), "")
    is_live = any(arrival.goes_on for arrival in arrivals)
    to_process = sum(a.frames_to_process(frames_per_chunk(d, job.settings)) for d, a in looks)
    is_news = known is None or has_more(known, to_process, ledger, is_live=is_live)
    if not is_live:
        if lacking and not to_process:
            return Readiness("nothing there", lacking)
        if not is_news:
            return Readiness("nothing new", lacking)
        return Readiness("ready", f"no more frames come: {lacking}" if lacking else "ready")
    there, expected = sum(a.there for a in arrivals), sum(a.expected for a in arrivals)
    was_killed = known is not None and known.status is WorkStatus.RUNNING
    may_try = known is None or known.attempts < site.group_attempts
    if can_be_learnt_from(arrivals, job) and ((is_news and to_process) or (was_killed and may_try)):
        return Readiness("ready", f"live, {there} of {expected} frames are there", is_live=True)
    return Readiness("waiting", lacking, is_live=True)


def can_be_learnt_from(arrivals: Sequence[Arrival], job: Job) -> bool:
    """Whether each data set has as many frames as its calibration wants to look at."""
    wanted = job.settings.calibration.n_frames
    return all(arrival.there >= min(wanted, arrival.expected) for arrival in arrivals)


def frames_per_chunk(data_set: DataSet, settings: StageSettings) -> int:
    """As set, or as chosen before; else the least that may be chosen."""
    if settings.frames_per_chunk != "auto":
        return settings.frames_per_chunk
    return planned_before(data_set).get("frames_per_chunk", SIZES[0])


def has_more(known: Processing, to_process: int, ledger: Ledger, *, is_live: bool) -> bool:
    """Whether there are frames that the last attempt did not have.

    One that failed, for want of hits perhaps, is not repeated for every chunk that comes: for twice as many
    frames, or for all.
    """
    if known.status is WorkStatus.FAILED:
        had = known.counts.get("frames_there")
        return had is not None and to_process > (2 * had if is_live else had)
    if known.status is not WorkStatus.PARTIAL:  # it was killed, with whatever it had
        return False
    had = sum(chunk.stop - chunk.start for chunk in ledger.chunks(known.key))
    return 0 < had < to_process
