"""Pixels that stand out alone again and again: hot, not Bragg."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

MIN_FRAMES = 4
"""A pixel is never called hot on the word of fewer frames."""


@njit(cache=True, nogil=True)
def count_isolated(
    image: np.ndarray, ring: NDArray[np.uint16], threshold: NDArray[np.float32], counts: NDArray[np.uint16]
) -> None:
    """Count one for each strong pixel none of whose eight neighbours is strong.

    A Bragg spot that recurs on the same pixels (one crystal in one orientation, frame after frame)
    spreads over neighbours and is not counted.

    Parameters
    ----------
    image : (slow, fast) array
        Raw pixels.
    ring : (slow, fast) array
        Ring of each pixel.
    threshold : (n_rings + 1,) array
        Of this frame, by ring; infinite for bad pixels.
    counts : (slow, fast) array
        Incremented.
    """
    n_slow, n_fast = image.shape
    for y in range(n_slow):
        for x in range(n_fast):
            if not image[y, x] > threshold[ring[y, x]]:
                continue
            alone = True
            for yy in range(max(y - 1, 0), min(y + 2, n_slow)):
                for xx in range(max(x - 1, 0), min(x + 2, n_fast)):
                    if (yy != y or xx != x) and image[yy, xx] > threshold[ring[yy, xx]]:
                        alone = False
            if alone:
                counts[y, x] += 1


def hot_pixels(counts: NDArray[np.uint16], n_frames: int, fraction: float) -> NDArray[np.bool_]:
    """(slow, fast) array: True where a pixel stood out alone on more than ``fraction`` of the frames.

    Parameters
    ----------
    counts : (slow, fast) array
        From `count_isolated`.
    """
    return counts >= max(MIN_FRAMES, fraction * n_frames)
