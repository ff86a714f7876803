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

from ssx_processing.kernels.geometry import panel_of_pixel
from ssx_processing.kernels.rings import BLOCK, GROUP, RingTable, ring_statistics
from ssx_processing.models import SpotList

N_COLUMNS = 9
"""Columns of the kernel's table: those of `SpotList`, in its order."""
MIN_BACKGROUND_PIXELS = 12
SKIRT_PX = 1.5
"""Width of the ring around a spot that is neither spot nor background."""
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
                if n_spots < table.shape[0] and _measure_spot(
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


@njit(cache=True, nogil=True)
def _measure_spot(
    image: np.ndarray,
    width: int,
    first: int,
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    rectangles: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    limits: tuple[float, float, float, float],
    sizes: tuple[int, int, int],
    stack: NDArray[np.int64],
    row: NDArray[np.float64],
) -> bool:
    """Grow the spot that contains pixel ``first`` and measure it; False if it is none."""
    panel = panel_of_pixel(first % width, first // width, rectangles)
    if panel < 0:
        return False
    n, touches_bad = _grow(image, width, first, ring, threshold, rectangles[panel], seen, stamp, stack)
    if n < sizes[0] or n > sizes[1] or (touches_bad and n < 4):
        return False
    cx = cy = 0.0
    top = -1e30
    for k in range(n):
        cx += stack[k] % width
        cy += stack[k] // width
        top = max(top, float(image[stack[k]]))
    background, variance, highest, n_background = _local_background(
        image,
        width,
        cx / n,
        cy / n,
        ring,
        threshold,
        rectangles[panel],
        math.sqrt(n / math.pi),
        2.0 * sizes[2],
    )
    if n_background < MIN_BACKGROUND_PIXELS:
        return False
    total = sx = sy = 0.0
    for k in range(n):
        above = float(image[stack[k]]) - background
        total += above
        sx += above * (stack[k] % width + 0.5)
        sy += above * (stack[k] // width + 0.5)
    gain = limits[3]
    floor = gain * max(background, gain / n_background)
    variance = max(variance, floor)
    snr = total / math.sqrt(n * variance * (1.0 + n / n_background) + gain * max(total, 0.0))
    peak_snr = total / math.sqrt(variance)
    if peak_snr < limits[0] or snr < limits[1] or top < highest:
        return False
    row[0], row[1], row[2], row[3], row[4] = sx / total, sy / total, total, snr, peak_snr
    row[5], row[6], row[7], row[8] = n, top, background, panel
    return True


@njit(cache=True, nogil=True)
def _grow(
    image: np.ndarray,
    width: int,
    first: int,
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    rectangle: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    stack: NDArray[np.int64],
) -> tuple[int, bool]:
    """Collect the 8-connected strong pixels around ``first`` in ``stack``.

    Returns their number and whether any of them has a bad neighbour. All are marked in ``seen``.
    """
    dead = threshold.shape[0] - 1
    x_end, y_end = rectangle[0] + rectangle[2], rectangle[1] + rectangle[3]
    stack[0] = first
    seen[first] = stamp
    n, done = 1, 0
    touches_bad = False
    while done < n:
        x, y = stack[done] % width, stack[done] // width
        done += 1
        for yy in range(max(y - 1, rectangle[1]), min(y + 2, y_end)):
            for xx in range(max(x - 1, rectangle[0]), min(x + 2, x_end)):
                j = yy * width + xx
                if ring[j] == dead:
                    touches_bad = True
                elif seen[j] != stamp and image[j] > threshold[ring[j]]:
                    seen[j] = stamp
                    if n == stack.shape[0]:
                        continue
                    stack[n] = j
                    n += 1
    return n, touches_bad


@njit(cache=True, nogil=True)
def _local_background(
    image: np.ndarray,
    width: int,
    cx: float,
    cy: float,
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    rectangle: NDArray[np.int64],
    spot_radius: float,
    reach: float,
) -> tuple[float, float, float, int]:
    """Mean, variance, largest value and number of the pixels around a spot that are not strong.

    The pixels next to the spot are left out: its tails, below the threshold, are no background.
    """
    dead = threshold.shape[0] - 1
    radius, inner = spot_radius + reach, spot_radius + SKIRT_PX
    y0, y1 = (
        max(math.ceil(cy - radius), rectangle[1]),
        min(math.floor(cy + radius) + 1, rectangle[1] + rectangle[3]),
    )
    x0, x1 = (
        max(math.ceil(cx - radius), rectangle[0]),
        min(math.floor(cx + radius) + 1, rectangle[0] + rectangle[2]),
    )
    total = squares = 0.0
    highest = -1e30
    n = 0
    for yy in range(y0, y1):
        for xx in range(x0, x1):
            distance = (xx - cx) ** 2 + (yy - cy) ** 2
            if distance > radius * radius or distance < inner * inner:
                continue
            j = yy * width + xx
            v = float(image[j])
            if ring[j] != dead and v <= threshold[ring[j]]:
                n += 1
                total += v
                squares += v * v
                highest = max(highest, v)
    if n == 0:
        return 0.0, 0.0, 0.0, 0
    mu = total / n
    return mu, max(squares / n - mu * mu, 0.0), highest, n
