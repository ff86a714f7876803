"""One spot: grow it from a strong pixel, then measure it against its surroundings."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.geometry import panel_of_pixel

N_COLUMNS = 10
"""Columns of a row: those of `models.SpotList`, in its order."""
MIN_BACKGROUND_PIXELS = 12
FINITE = np.float32(1e30)
"""The threshold of bad pixels is larger."""
MIN_REST = 0.05
"""The pixels of a spot other than its highest hold at least this fraction of what that one holds."""
SKIRT_PX = 1.5
"""Width of the ring around a spot that is neither spot nor background."""


@njit(cache=True, nogil=True)
def measure_spot(
    image: np.ndarray,
    width: int,
    first: int,
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    edge: NDArray[np.float32],
    rectangles: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    limits: tuple[float, float, float, float, float],
    sizes: tuple[int, int, int],
    region: NDArray[np.int32],
    row: NDArray[np.float64],
) -> tuple[int, bool]:
    """Grow the spot that contains pixel ``first`` and measure it.

    Parameters
    ----------
    threshold, edge : (n_rings + 1,) array
        What a strong pixel, and a pixel connected to one, exceeds; infinite for bad pixels.
    limits
        Least peakfinder8 ratio, least significance, counts per photon, lowest count, saturation.
    sizes
        Fewest and most pixels, background radius.
    row : (N_COLUMNS,) array
        Result, where there is a spot.

    Returns
    -------
    Number of connected pixels, 1 also where the others hold next to nothing, and whether they are a spot.
    """
    panel = panel_of_pixel(first % width, first // width, rectangles)
    if panel < 0:
        return 0, False
    n, touches_bad = _grow(image, width, first, ring, edge, rectangles[panel], seen, stamp, region)
    if n < sizes[0] or n > sizes[1] or (touches_bad and n < 4):
        return n, False
    sum_x = sum_y = n_saturated = 0
    top = -1e30
    for k in range(n):
        x, y = region[k, 0], region[k, 1]
        v = float(image[y * width + x])
        sum_x += x
        sum_y += y
        top = max(top, v)
        n_saturated += v >= limits[4]
    if n_saturated == n:
        return n, False  # a saturated spot has flanks: these are dead pixels that the mask does not know
    spot_radius = math.sqrt(n / math.pi)
    background, variance, highest, n_background = _local_background(
        image, width, sum_x / n, sum_y / n, ring, threshold, rectangles[panel],
        spot_radius + SKIRT_PX, spot_radius + 2.0 * sizes[2], limits[3],
    )  # fmt: skip
    if n_background < MIN_BACKGROUND_PIXELS or top < highest:
        return n, False
    total = sx = sy = 0.0
    for k in range(n):
        x, y = region[k, 0], region[k, 1]
        above = float(image[y * width + x]) - background
        total += above
        sx += above * (x + 0.5)
        sy += above * (y + 0.5)
    if total - (top - background) < MIN_REST * (top - background):
        return 1, False  # a hot pixel with a neighbour that happens to be high
    gain = limits[2]
    poisson = gain * max(background, gain / n_background)
    structure = max(variance - poisson * (1.0 + 3.0 * math.sqrt(2.0 / n_background)), 0.0)
    variance = max(variance, poisson)
    snr = total / math.sqrt(n * variance * (1.0 + n / n_background) + gain * max(total, 0.0))
    peak_snr = total / math.sqrt(variance)
    # what counting does not explain, such as the flank of an ice ring, is alike for neighbouring pixels
    if peak_snr < limits[0] or total < limits[1] * math.sqrt(n * variance + n * n * structure):
        return n, False
    off = max(background, 0.0) * n_background / gain
    if significance(total / gain + off * n / n_background, off, n / n_background) < limits[1]:
        return n, False
    row[0], row[1], row[2], row[3], row[4] = sx / total, sy / total, total, snr, peak_snr
    row[5], row[6], row[7], row[8], row[9] = n, top, background, panel, n_saturated
    return n, True


@njit(cache=True, nogil=True)
def significance(n_on: float, n_off: float, alpha: float) -> float:
    """Standard deviations by which a count exceeds chance; Li & Ma (1983), ApJ 272, 317, equation 17.

    Intensity over its own standard error says how well a spot is measured, not whether there is
    one: four photons where 0.04 are expected are 2 sigma of the first kind and 5.4 of this.

    Parameters
    ----------
    n_on
        Photons in the spot's pixels.
    n_off
        Photons in the background's pixels.
    alpha
        Number of the spot's pixels over that of the background's.
    """
    if n_on <= alpha * n_off:
        return 0.0
    both = n_on + n_off
    likelihood = n_on * math.log((1.0 + alpha) / alpha * n_on / both)
    if n_off > 0.0:
        likelihood += n_off * math.log((1.0 + alpha) * n_off / both)
    return math.sqrt(2.0 * likelihood)


@njit(cache=True, nogil=True)
def _grow(
    image: np.ndarray,
    width: int,
    first: int,
    ring: NDArray[np.uint16],
    edge: NDArray[np.float32],
    rectangle: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    region: NDArray[np.int32],
) -> tuple[int, bool]:
    """Collect the 8-connected pixels above ``edge`` around ``first`` in ``region``, as x and y.

    Returns their number and whether any of them has a bad neighbour. All are marked in ``seen``.
    """
    dead = edge.shape[0] - 1
    x_end, y_end = rectangle[0] + rectangle[2], rectangle[1] + rectangle[3]
    region[0, 0], region[0, 1] = first % width, first // width
    seen[first] = stamp
    n, done = 1, 0
    touches_bad = False
    while done < n:
        x, y = region[done, 0], region[done, 1]
        done += 1
        for yy in range(max(y - 1, rectangle[1]), min(y + 2, y_end)):
            for xx in range(max(x - 1, rectangle[0]), min(x + 2, x_end)):
                j = yy * width + xx
                if ring[j] == dead:
                    touches_bad = True
                elif image[j] > edge[ring[j]] and seen[j] != stamp:
                    seen[j] = stamp
                    if n == region.shape[0]:
                        continue
                    region[n, 0], region[n, 1] = xx, yy
                    n += 1
    return n, touches_bad


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _local_background(
    image: np.ndarray,
    width: int,
    cx: float,
    cy: float,
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    rectangle: NDArray[np.int64],
    inner: float,
    outer: float,
    lowest: float,
) -> tuple[float, float, float, int]:
    """Mean, variance, largest value and number of the pixels around a spot that are not strong.

    The pixels next to the spot are left out: its tails, below the threshold, are no background.
    Sums are of differences to ``base``, whose squares keep their digits in single precision.
    """
    y0, y1 = (
        max(math.ceil(cy - outer), rectangle[1]),
        min(math.floor(cy + outer) + 1, rectangle[1] + rectangle[3]),
    )
    x_start, x_end = rectangle[0], rectangle[0] + rectangle[2]
    total = squares = n = np.float32(0.0)
    highest, least, inner2 = np.float32(-1e30), np.float32(lowest), np.float32(inner * inner)
    base = threshold[ring[int(cy) * width + int(cx)]]
    if base > FINITE:  # the middle of a hollow shape: any number of that size will do
        base = np.float32(0.0)
    for yy in range(y0, y1):
        dy2 = np.float32((yy - cy) ** 2)
        half = math.sqrt(max(outer * outer - dy2, 0.0))
        x0, x1 = max(math.ceil(cx - half), x_start), min(math.floor(cx + half) + 1, x_end)
        for xx in range(x0, x1):
            j = yy * width + xx
            v, limit = np.float32(image[j]), threshold[ring[j]]
            dx = np.float32(xx - cx)
            if least <= v and v <= limit and limit < FINITE and dy2 + dx * dx >= inner2:
                n += np.float32(1.0)
                total += v - base
                squares += (v - base) * (v - base)
                highest = max(highest, v)
    if n == 0:
        return 0.0, 0.0, 0.0, 0
    mu = float(total / n)
    return mu + float(base), max(float(squares / n) - mu * mu, 0.0), float(highest), int(n)
