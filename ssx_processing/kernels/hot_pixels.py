"""Pixels that stand out alone again and again: hot, not Bragg.

A Bragg spot that recurs on the same pixels (one crystal in one orientation, frame after frame)
spreads over neighbours; `spot_finding` tells the strong pixels without a strong neighbour.
"""

import numpy as np
from numpy.typing import NDArray

MIN_FRAMES = 4
"""A pixel is never called hot on the word of fewer frames."""


def hot_pixels(isolated: NDArray[np.integer], n_frames: int, fraction: float) -> NDArray[np.int64]:
    """Flat addresses of pixels that stood out alone on more than ``fraction`` of the frames, ascending.

    Parameters
    ----------
    isolated
        ``SpotFinder.isolated`` of all frames, one after the other.
    """
    addresses, counts = np.unique(isolated, return_counts=True)
    return addresses[counts >= max(MIN_FRAMES, fraction * n_frames)].astype(np.int64)
