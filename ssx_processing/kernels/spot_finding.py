"""Strong pixels -> connected spots -> centroids, as peakfinder8 does, in one pass over the image.

Barty et al. (2014), J. Appl. Cryst. 47, 1118: a pixel is strong above its ring's mean by so many
deviations; connected strong pixels are a spot if they stand out from their local background.
Differences: thresholds come from a sample of each ring, 64 pixels are compared at once, centroids
are weighted by counts above background, and the signal-to-noise ratio includes counting
statistics and the error of the background.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.rings import BLOCK, GROUP, RingTable, ring_statistics
from ssx_processing.kernels.spot_measuring import measure_spot
from ssx_processing.models import SpotList

N_COLUMNS = 9
"""Columns of the kernel's table: those of `SpotList`, in its order."""
LARGEST_REGION = 100_000
"""Connected strong pixels followed at most; far more than any spot has."""


@dataclass
class SpotFinder:
    """Everything that finding spots needs and that does not change from frame to frame.

    Also the buffers, so that a frame allocates nothing: one finder per thread.
    """

    rings: RingTable
    rectangles: NDArray[np.int64]
    """(p, 4) panels, from `geometry.panel_rectangles`."""
    image_shape: tuple[int, int]
    min_snr: float = 5.0
    min_significance: float = 4.0
    min_counts: float = 2.0
    min_pixels: int = 2
    max_pixels: int = 200
    background_radius_px: int = 3
    max_spots: int = 2000
    gain: float = 1.0
    mean: NDArray[np.float32] = field(init=False)
    deviation: NDArray[np.float32] = field(init=False)
    threshold: NDArray[np.float32] = field(init=False)
    seen: NDArray[np.uint8] = field(init=False)
    stamp: int = 0
    table: NDArray[np.float64] = field(init=False)
    stack: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Make the buffers."""
        n = self.rings.n_rings
        self.mean, self.deviation = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.threshold = np.full(n + 1, np.inf, np.float32)
        self.seen = np.zeros(self.rings.ring.size, np.uint8)
        self.table = np.empty((self.max_spots, N_COLUMNS))
        self.stack = np.empty(LARGEST_REGION, np.int64)

    def find(self, image: np.ndarray) -> SpotList:
        """Spots of one frame.

        Parameters
        ----------
        image : (slow, fast) array
            Raw pixels, C order, any integer or floating type.
        """
        flat = image.reshape(-1)
        rings = self.rings
        ring_statistics(
            flat, rings.sample, rings.sample_start, self.min_snr, self.gain, self.mean, self.deviation
        )
        self.stamp = self.stamp % 255 + 1
        if self.stamp == 1:
            self.seen[:] = 0
        n = find_strong_spots(
            flat,
            self.image_shape[1],
            rings.ring,
            rings.block_groups,
            self.mean,
            self.deviation,
            self.threshold,
            self.rectangles,
            self.seen,
            self.stamp,
            self.stack,
            (self.min_snr, self.min_significance, self.min_counts, self.gain),
            (self.min_pixels, self.max_pixels, self.background_radius_px),
            self.table,
        )
        t = self.table[:n]
        return SpotList(
            x_px=t[:, 0].copy(),
            y_px=t[:, 1].copy(),
            intensity=t[:, 2].copy(),
            snr=t[:, 3].copy(),
            peak_snr=t[:, 4].copy(),
            n_pixels=t[:, 5].astype(np.int32),
            peak_value=t[:, 6].copy(),
            background=t[:, 7].copy(),
            panel=t[:, 8].astype(np.int32),
        )


@njit(cache=True, nogil=True)
def find_strong_spots(
    image: np.ndarray,
    width: int,
    ring: NDArray[np.uint16],
    block_groups: NDArray[np.uint16],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    threshold: NDArray[np.float32],
    rectangles: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    stack: NDArray[np.int64],
    limits: tuple[float, float, float, float],
    sizes: tuple[int, int, int],
    table: NDArray[np.float64],
) -> int:
    """Fill ``table`` with the spots of a frame and return their number.

    Parameters
    ----------
    image : (slow * fast,) array
    width
        Columns of the image.
    ring, block_groups
        From `RingTable`.
    mean, deviation : (n_rings,) array
        From `ring_statistics`.
    threshold : (n_rings + 1,) array
        Scratch; the last element stays infinite.
    rectangles : (p, 4) array
        Panels.
    seen : (slow * fast,) array
        Scratch; equal to ``stamp`` where a pixel was visited on this frame.
    stamp
        1-255, another one than on the frames before.
    stack
        Scratch for the pixels of one region.
    limits
        Strong-pixel sigmas, least significance of a spot, least counts above the mean, gain.
    sizes
        Fewest and most pixels, background radius.
    table : (max_spots, 9) array
        Columns as in `SpotList`.
    """
    n_rings = mean.shape[0]
    n_groups = (n_rings + GROUP - 1) // GROUP
    lowest = np.full(n_groups, np.float32(np.inf), np.float32)
    for r in range(n_rings):
        above = max(limits[0] * deviation[r], limits[2])
        threshold[r] = np.float32(mean[r] + above)
        lowest[r // GROUP] = min(lowest[r // GROUP], threshold[r])
    n_spots = 0
    for block in range(block_groups.shape[0]):
        if block_groups[block, 0] > block_groups[block, 1]:
            continue
        level = np.float32(np.inf)
        for g in range(block_groups[block, 0], block_groups[block, 1] + 1):
            level = min(level, lowest[g])
        if level == np.inf:
            continue
        start, stop = block * BLOCK, min((block + 1) * BLOCK, image.shape[0])
        # a whole number compares faster and selects the same integer pixels, or for floats a few more
        whole = image.dtype.type(min(math.floor(level), 32000.0))
        if stop - start == BLOCK:
            pixels = image[start:stop]
            hit = np.uint8(0)
            for i in range(
                BLOCK
            ):  # an OR of comparisons over a constant length vectorises, a maximum does not
                hit |= np.uint8(pixels[i] > whole)
            if not hit:
                continue
        for i in range(start, stop):
            if image[i] > threshold[ring[i]] and seen[i] != stamp:
                if n_spots < table.shape[0] and measure_spot(
                    image,
                    width,
                    i,
                    ring,
                    threshold,
                    rectangles,
                    seen,
                    stamp,
                    limits,
                    sizes,
                    stack,
                    table[n_spots],
                ):
                    n_spots += 1
    return n_spots
