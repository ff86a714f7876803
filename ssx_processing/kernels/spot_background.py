"""Background under a reflection from the ring around it.

A flat background is unbiased under any gradient while the ring lies evenly around the mask, as
disc and ring have the same centre. Where pixels are missing on one side it is not, and a plane is
fitted, if there are enough photons to see a gradient at all: it costs precision.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.spot_mask import HEIGHT, INNER, MASK_HEIGHT, MASK_WIDTH, OUTER, rows, span

MIN_RING_PIXELS = 12
CLIP_SIGMAS = 5.0
"""Pixels more than so many sigmas of counting, and 2 photons, above the mean are not background,
nor are those around them."""
CLIP_PASSES = 8
MOST_OUTLIERS = 64
OFF_CENTRE_PX = 0.4
"""A ring whose middle is farther from the reflection has a plane fitted."""
MIN_PLANE_PHOTONS = 40.0
"""In the ring; with fewer no plane is fitted."""


@njit(cache=True, nogil=True)
def background_of_ring(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    outline: NDArray[np.float64],
    gain: float,
    owners: NDArray[np.uint8],
    ring: NDArray[np.float64],
) -> tuple[float, float, float, float, float, float]:
    """Background at the middle of one reflection; pixels that stand out (spots, hot ones) are left out.

    Parameters
    ----------
    image, bad_pixels, rectangle, owners, gain
        As in `integration.integrate_reflections`.
    outline
        Row of `spot_mask.mask_outlines`.
    ring
        Scratch with room for all pixels of the ring.

    Returns
    -------
    tuple
        Counts per pixel; pixels used, 0 if too few; their variance about the background, counts²;
        variance of the background in units of that; slopes along fast and slow, counts per px.
    """
    n = 0
    total = highest = at_x = at_y = 0.0
    x_end, y_end = rectangle[0] + rectangle[2], rectangle[1] + rectangle[3]
    first, end = rows(outline, HEIGHT, y)
    for yy in range(max(first, rectangle[1]), min(end, y_end)):
        dy = yy + 0.5 - y
        left, right = span(outline, OUTER, x, dy)
        hole, hole_end = span(outline, INNER, x, dy)
        n_before, sum_x = n, 0
        for half in range(2):
            start = max(left, rectangle[0]) if half == 0 else max(hole_end, rectangle[0])
            stop = min(hole, x_end) if half == 0 else min(right, x_end)
            for xx in range(start, stop):
                if bad_pixels[yy, xx] or owners[yy, xx] > 0:
                    continue
                v = float(image[yy, xx])
                ring[n] = v
                n += 1
                sum_x += xx
                total += v
                highest = max(highest, v)
        at_x += sum_x + (n - n_before) * (0.5 - x)
        at_y += (n - n_before) * dy
    if n < MIN_RING_PIXELS:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    off_centre = math.hypot(at_x, at_y) > OFF_CENTRE_PX * n
    n_all = n
    n, mean, limit = _clipped_mean(ring, n, total, highest, gain)
    if n < n_all:
        n, mean = _away_from(image, bad_pixels, x, y, rectangle, outline, owners, limit, ring)
    if n < MIN_RING_PIXELS:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if off_centre and n * mean > MIN_PLANE_PHOTONS * gain:
        return _plane(image, bad_pixels, x, y, rectangle, outline, owners, limit, mean)
    squares = 0.0
    for i in range(n):
        squares += (ring[i] - mean) ** 2
    return mean, float(n), squares / (n - 1), 1.0 / n, 0.0, 0.0


@njit(cache=True, nogil=True)
def _clipped_mean(
    ring: NDArray[np.float64], n: int, total: float, highest: float, gain: float
) -> tuple[int, float, float]:
    """Number and mean of the values that do not stand out, moved to the front, and their limit."""
    mean = limit = 0.0
    for _ in range(CLIP_PASSES):
        mean = total / n
        limit = mean + CLIP_SIGMAS * math.sqrt(gain * max(mean, 0.0)) + 2.0 * gain
        if highest <= limit:
            break
        kept = 0
        total, highest = 0.0, -1e30
        for i in range(n):
            v = ring[i]
            if v <= limit:
                ring[kept] = v
                kept += 1
                total += v
                highest = max(highest, v)
        n = kept
        if n < MIN_RING_PIXELS:
            break
    return n, mean, limit


@njit(cache=True, nogil=True)
def _away_from(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    outline: NDArray[np.float64],
    owners: NDArray[np.uint8],
    limit: float,
    ring: NDArray[np.float64],
) -> tuple[int, float]:
    """Collect the ring again without what is near pixels above the limit; number and mean.

    Around such a pixel the flanks of a spot stay below the limit, and would raise the mean.
    """
    outliers = np.empty((MOST_OUTLIERS, 2), np.int64)
    n_outliers, n, total = 0, 0, 0.0
    reach = outline[MASK_WIDTH] * outline[MASK_HEIGHT]
    first, end = rows(outline, HEIGHT, y)
    for second_time in (False, True):
        for yy in range(max(first, rectangle[1]), min(end, rectangle[1] + rectangle[3])):
            left, right = span(outline, OUTER, x, yy + 0.5 - y)
            hole, hole_end = span(outline, INNER, x, yy + 0.5 - y)
            for xx in range(max(left, rectangle[0]), min(right, rectangle[0] + rectangle[2])):
                if hole <= xx < hole_end or bad_pixels[yy, xx] or owners[yy, xx] > 0:
                    continue
                v = float(image[yy, xx])
                if not second_time:
                    if v > limit and n_outliers < MOST_OUTLIERS:
                        outliers[n_outliers] = xx, yy
                        n_outliers += 1
                    continue
                near = v > limit
                for m in range(n_outliers):
                    near = near or (outliers[m, 0] - xx) ** 2 + (outliers[m, 1] - yy) ** 2 <= reach
                if not near:
                    ring[n] = v
                    n += 1
                    total += v
    return n, total / max(n, 1)


@njit(cache=True, nogil=True)
def _plane(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    outline: NDArray[np.float64],
    owners: NDArray[np.uint8],
    limit: float,
    mean: float,
) -> tuple[float, float, float, float, float, float]:
    """The same with slopes, by least squares over the pixels up to the limit."""
    sums = np.zeros((3, 3))
    right_side = np.zeros(3)
    terms = np.ones(3)
    squares = 0.0
    first, end = rows(outline, HEIGHT, y)
    for yy in range(max(first, rectangle[1]), min(end, rectangle[1] + rectangle[3])):
        terms[2] = yy + 0.5 - y
        left, right = span(outline, OUTER, x, terms[2])
        hole, hole_end = span(outline, INNER, x, terms[2])
        for xx in range(max(left, rectangle[0]), min(right, rectangle[0] + rectangle[2])):
            if hole <= xx < hole_end or bad_pixels[yy, xx] or owners[yy, xx] > 0 or image[yy, xx] > limit:
                continue
            terms[1] = xx + 0.5 - x
            v = float(image[yy, xx]) - mean
            squares += v * v
            for a in range(3):
                right_side[a] += terms[a] * v
                for b in range(3):
                    sums[a, b] += terms[a] * terms[b]
    n = sums[0, 0]
    if n < MIN_RING_PIXELS or np.linalg.det(sums) < 1e-6:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    inverse = np.linalg.inv(sums)
    fit = inverse @ right_side
    return (
        mean + fit[0],
        n,
        max(squares - fit @ right_side, 0.0) / (n - 3),
        inverse[0, 0],
        fit[1],
        fit[2],
    )
