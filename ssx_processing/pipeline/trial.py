"""What a frame takes, tried on a few."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.pipeline.frame_processing import FrameProcessor

N_FRAMES = 24
"""Frames tried after the first, which wakes the kernels."""
BYTES_PER_FRAME, BYTES_PER_SPOT, BYTES_PER_OBSERVATION = 330, 54, 65
"""Of a chunk's tables on disk, and of what a merge keeps of them; of a simulated chip with 40 % hits."""


@dataclass(frozen=True)
class Trial:
    """What processing a frame takes, on average."""

    n_frames: int
    """Tried."""
    cpu_seconds: float
    """CPU time of one frame."""
    result_bytes: float
    """Size of what is stored of it."""


def try_frames(frames: FrameSet, chosen: NDArray[np.int64], processor: FrameProcessor) -> Trial | None:
    """Process some of the chosen frames from reading to integration; None if none of them can be read."""
    some = np.unique(chosen[np.linspace(0, len(chosen) - 1, N_FRAMES + 1).astype(int)])
    seconds: list[float] = []
    sizes: list[float] = []
    for frame in [some[0], *some]:
        started = time.thread_time()
        try:
            result = processor.process(frames.read(int(frame)))
        except (ImageReadError, GeometryError):
            continue
        seconds.append(time.thread_time() - started)
        n_observations = sum(len(one) for one in result.integrated)
        sizes.append(
            BYTES_PER_FRAME + BYTES_PER_SPOT * len(result.spots) + BYTES_PER_OBSERVATION * n_observations
        )
    if len(seconds) < 2:
        return None
    return Trial(len(seconds) - 1, float(np.mean(seconds[1:])), float(np.mean(sizes[1:])))
