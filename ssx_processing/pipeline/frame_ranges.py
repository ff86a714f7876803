"""Frames cut into chunks; quick to import."""

from ssx_processing.models import FrameRange


def frame_ranges(n_frames: int, frames_per_chunk: int) -> tuple[FrameRange, ...]:
    """Contiguous ranges that cover all frames; the last may be shorter.

    Examples
    --------
    >>> [(r.start, r.stop) for r in frame_ranges(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    return tuple(
        FrameRange(start, min(start + frames_per_chunk, n_frames))
        for start in range(0, n_frames, frames_per_chunk)
    )
