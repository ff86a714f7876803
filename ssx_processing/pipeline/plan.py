"""What is there to be processed, and in which ranges of frames."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.geometry_file import geometry_identity
from ssx_processing.models import FrameRange, Plan
from ssx_processing.pipeline.frame_ranges import frame_ranges
from ssx_processing.pipeline.stream_plan import (
    are_streams,
    frames_of_streams,
    identity_of_streams,
    wavelength_of_stream,
)
from ssx_processing.settings import StageSettings, content_key

USUAL_SIZE = 250
"""Frames of a chunk where nothing is known of what they take."""
FIRST_FRAMES = 10
"""So many are tried until one can be read, which stands for a collection that grows."""


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
            ranges=chunk_ranges(frames.n_frames, settings),
            identity=content_key(frames.identity()),
            wavelength=frames.geometry.wavelength,
            geometry_file=geometry_file,
        )


def make_growing_plan(
    paths: Sequence[Path], settings: StageSettings, n_expected: int, geometry_file: Path | None = None
) -> Plan:
    """Cut the frames of files that are still being written into chunks.

    Parameters
    ----------
    n_expected
        Frames that will come, as far as anybody knows; the files may announce more.

    Raises
    ------
    ImageReadError
        No file can be opened, or not one frame is there yet.
    """
    first = Path(paths[0]).resolve()
    with FrameSet(paths, geometry_file) as frames:
        there = frames.frames_available()
        if not there:
            raise ImageReadError(f"{first}: no frame is there yet; {frames.missing()}")
        n_frames = max(n_expected, frames.n_frames)
        identity = {"growing": str(first), "pixels": _first_pixels(frames, there)}
        if geometry_file is not None:
            identity["geometry"] = asdict(geometry_identity(geometry_file))
        return Plan(
            paths=tuple(Path(p).resolve() for p in paths),
            frames_total=n_frames,
            ranges=chunk_ranges(n_frames, settings),
            identity=content_key(identity),
            wavelength=frames.geometry.wavelength,
            geometry_file=geometry_file,
            frames_there=there,
        )


def _first_pixels(frames: FrameSet, there: int) -> list[object]:
    """Number and hash of the first frame that can be read; of another collection they are others."""
    for frame in range(min(there, FIRST_FRAMES)):
        with suppress(ImageReadError, GeometryError):
            return [frame, hashlib.sha256(frames.read(frame).tobytes()).hexdigest()]
    raise ImageReadError(
        f"{frames.paths[0]}: of the first {min(there, FIRST_FRAMES)} frames none can be read"
    )


def _plan_of_streams(paths: Sequence[Path], settings: StageSettings, geometry_file: Path | None) -> Plan:
    """Look at CrystFEL streams instead of images."""
    n_frames = sum(frames_of_streams(paths))
    return Plan(
        paths=tuple(paths),
        frames_total=n_frames,
        ranges=chunk_ranges(n_frames, settings),
        identity=identity_of_streams(paths, geometry_file),
        wavelength=wavelength_of_stream(paths[0], geometry_file),
        geometry_file=geometry_file,
    )


def with_chunks(plan: Plan, frames_per_chunk: int) -> Plan:
    """The plan with chunks of another size."""
    return replace(plan, ranges=frame_ranges(plan.frames_total, frames_per_chunk))


def chunk_ranges(n_frames: int, settings: StageSettings) -> tuple[FrameRange, ...]:
    """Ranges of the size that is set; of some size where it is still to be chosen."""
    size = settings.frames_per_chunk
    return frame_ranges(n_frames, USUAL_SIZE if size == "auto" else size)
