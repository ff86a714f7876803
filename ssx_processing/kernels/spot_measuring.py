"""One spot: grow it from a strong pixel, then measure it against its surroundings."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.geometry import panel_of_pixel

MIN_BACKGROUND_PIXELS = 12
SKIRT_PX = 1.5
"""Width of the ring around a spot that is neither spot nor background."""


@njit(cache=True, nogil=True)
def measure_spot(
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
