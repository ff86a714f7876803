"""What is there to be processed, and in which ranges of frames."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.models import FrameRange, Plan
from ssx_processing.pipeline.stream_plan import (
    are_streams,
    frames_of_streams,
    identity_of_streams,
    wavelength_of_stream,
)
from ssx_processing.settings import StageSettings, content_key


def make_plan(paths: Sequence[Path], settings: StageSettings, geometry_file: Path | None = None) -> Plan:
    """Look at the files and cut their frames into chunks.

    Parameters
    ----------
    geometry_file
        A .geom or .expt file that stands in for the geometry of all files.

    Raises
    ------
    ImageReadError
        There is no file, one is given twice, cannot be read, holds no frame, or is not complete.
    GeometryError
        The files have no geometry that can be used, or not all the same.
    """
    if not paths:
        raise ImageReadError("no image file was given; name at least one")
    twice = [path for path, n in Counter(Path(p).resolve() for p in paths).items() if n > 1]
    if twice:
        raise ImageReadError(f"{twice[0]}: given twice; its frames would count double")
    geometry_file = None if geometry_file is None else Path(geometry_file).resolve()
    if are_streams(paths):
        return _plan_of_streams([Path(p).resolve() for p in paths], settings, geometry_file)
    with FrameSet(paths, geometry_file) as frames:
        available = frames.frames_available()
        if available < frames.n_frames:
            raise ImageReadError(
                f"{frames.missing()}; {available} of {frames.n_frames} frames can be read now, "
                "wait until all are written"
            )
        return Plan(
            paths=tuple(Path(p).resolve() for p in paths),
            frames_total=frames.n_frames,
            ranges=frame_ranges(frames.n_frames, settings.frames_per_chunk),
            identity=content_key(frames.identity()),
            wavelength=frames.geometry.wavelength,
            geometry_file=geometry_file,
        )


def _plan_of_streams(paths: Sequence[Path], settings: StageSettings, geometry_file: Path | None) -> Plan:
    """Look at CrystFEL streams instead of images."""
    n_frames = sum(frames_of_streams(paths))
    return Plan(
        paths=tuple(paths),
        frames_total=n_frames,
        ranges=frame_ranges(n_frames, settings.frames_per_chunk),
        identity=identity_of_streams(paths, geometry_file),
        wavelength=wavelength_of_stream(paths[0], geometry_file),
        geometry_file=geometry_file,
    )


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
