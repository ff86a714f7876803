"""How many frames make a chunk."""

from ssx_processing.models import Plan
from ssx_processing.pipeline.plan import USUAL_SIZE
from ssx_processing.settings import StageSettings

SECONDS_PER_CHUNK = 30.0
"""Long beside what a chunk costs apart from its frames, short enough to lose with a worker that dies."""
SIZES = (50, 100, 200, 250, 500, 1000)
"""Few, so that what was measured once more gives the same chunks, which are then found again."""
CHUNKS_AT_LEAST = 8
"""So that a few workers share a small data set."""
CHUNKS_AT_MOST = 250
"""Each is a task for people to look at."""


def frames_per_chunk(n_frames: int, seconds_per_frame: float, period: int = 1) -> int:
    """Choose by what a frame takes.

    Parameters
    ----------
    seconds_per_frame
        CPU time.
    period
        A chunk ends with a row of the chip, or with a run of the events, which is so many frames long.

    Examples
    --------
    >>> [frames_per_chunk(n, 0.015) for n in (400, 2000, 26_000, 1_000_000)]
    [50, 250, 1000, 4000]
    >>> frames_per_chunk(26_000, 0.25), frames_per_chunk(25_600, 0.015, period=160)
    (104, 960)
    """
    wanted = min(SECONDS_PER_CHUNK / max(seconds_per_frame, 1e-6), n_frames / CHUNKS_AT_LEAST)
    size = max(s for s in SIZES if s <= max(wanted, SIZES[0]))
    at_least = -(-n_frames // CHUNKS_AT_MOST)
    return max(size // period, -(-at_least // period), 1) * period


def chosen_size(
    plan: Plan, settings: StageSettings, seconds_per_frame: float | None, period: int | None
) -> int:
    """Frames of a chunk as the settings say, or chosen.

    Parameters
    ----------
    seconds_per_frame
        None where it was not measured.
    period
        Frames of one run of the events; None where it is not known.
    """
    if settings.frames_per_chunk != "auto":
        return settings.frames_per_chunk
    if seconds_per_frame is None:
        return USUAL_SIZE
    return frames_per_chunk(plan.frames_total, seconds_per_frame, settings.frames_per_row or period or 1)
