"""Background under a reflection from the ring around it.

A flat background is unbiased under any gradient while the ring lies evenly around the mask, as
disc and ring have the same centre. Where pixels are missing on one side it is not, and a plane is
fitted, if there are enough photons to see a gradient at all: it costs precision.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

MIN_RING_PIXELS = 12
CLIP_SIGMAS = 5.0
"""Pixels more than so many sigmas of counting, and 2 photons, above the mean are not background."""
CLIP_PASSES = 8
OFF_CENTRE_PX = 0.4
"""A ring whose middle is farther from the reflection has a plane fitted."""
MIN_PLANE_PHOTONS = 40.0
"""In the ring; with fewer no plane is fitted."""


@njit(cache=True, nogil=True)
def background_of_ring(
    ring: NDArray[np.float64], gain: float
) -> tuple[float, int, float, float, float, float]:
    """Background at the middle of the reflection.

    Parameters
    ----------
    ring : (3, n) array
        Value in counts, and place relative to the reflection in px, of each pixel. Pixels that stand
        out (other spots, hot pixels) are left out; the array is reordered.

    Returns
    -------
    tuple
        Counts per pixel; pixels used, 0 if too few; their variance about the background, counts²;
        variance of the background in units of that; slopes along fast and slow, counts per px.
    """
    n = ring.shape[1]
    mean = 0.0
    for _ in range(CLIP_PASSES):
        if n < MIN_RING_PIXELS:
            return 0.0, 0, 0.0, 0.0, 0.0, 0.0
        mean = np.sum(ring[0, :n]) / n
        limit = mean + CLIP_SIGMAS * math.sqrt(gain * max(mean, 0.0)) + 2.0 * gain
        kept = 0
        for i in range(n):
            if ring[0, i] <= limit:
                if kept < i:
                    ring[:, kept] = ring[:, i]
                kept += 1
        if kept == n:
            break
        n = kept
    squares = sum_x = sum_y = 0.0
    for i in range(n):
        squares += (ring[0, i] - mean) ** 2
        sum_x += ring[1, i]
        sum_y += ring[2, i]
    if math.hypot(sum_x, sum_y) > OFF_CENTRE_PX * n and n * mean > MIN_PLANE_PHOTONS * gain:
        return _plane(ring[:, :n], mean, sum_x / n, sum_y / n)
    return mean, n, squares / (n - 1), 1.0 / n, 0.0, 0.0


@njit(cache=True, nogil=True)
def _plane(
    ring: NDArray[np.float64], mean: float, mid_x: float, mid_y: float
) -> tuple[float, int, float, float, float, float]:
    """The same with slopes, by least squares about the ring's own middle."""
    n = ring.shape[1]
    xx = xy = yy = xv = yv = 0.0
    for i in range(n):
        dx, dy, dv = ring[1, i] - mid_x, ring[2, i] - mid_y, ring[0, i] - mean
        xx += dx * dx
        xy += dx * dy
        yy += dy * dy
        xv += dx * dv
        yv += dy * dv
    determinant = max(xx * yy - xy * xy, 1e-9)
    slope_x, slope_y = (yy * xv - xy * yv) / determinant, (xx * yv - xy * xv) / determinant
    squares = 0.0
    for i in range(n):
        from_plane = ring[0, i] - mean - slope_x * (ring[1, i] - mid_x) - slope_y * (ring[2, i] - mid_y)
        squares += from_plane * from_plane
    leverage = 1.0 / n + (yy * mid_x**2 - 2.0 * xy * mid_x * mid_y + xx * mid_y**2) / determinant
    centre = mean - slope_x * mid_x - slope_y * mid_y
    return centre, n, squares / (n - 3), leverage, slope_x, slope_y
