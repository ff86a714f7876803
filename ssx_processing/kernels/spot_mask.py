"""Outlines of the ellipses that a reflection is summed in and its background taken from."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

MASK_SIGMAS = 3.3
"""Semi-axes of the mask in standard deviations of the profile: 99.6 % of a Gaussian."""
MASK, INNER, OUTER = 0, 3, 6
"""First columns of the ellipses: mask, inner and outer edge of the background ring."""
MASK_WIDTH, MASK_HEIGHT, WIDTH, HEIGHT = 9, 10, 11, 12
"""Columns of half widths and heights of the boxes around mask and ring."""


@njit(cache=True, nogil=True)
def mask_outlines(covariance: NDArray[np.float64], widths: tuple[float, float, float]) -> NDArray[np.float64]:
    """Mask, inner and outer edge of the background ring of each reflection.

    Parameters
    ----------
    covariance : (n, 3) array
        Of the profile: xx, xy, yy, px².
    widths
        Margin of the mask (may be negative), gap and ring, px: added to the semi-axes one after the other.

    Returns
    -------
    (n, 13) array
        Three times a, b, c of an ellipse (dx + a dy)² = b - c dy² (mask, inner edge, outer edge), then
        half width and half height of the boxes around mask and outer edge.
    """
    out = np.empty((covariance.shape[0], 13))
    for i in range(covariance.shape[0]):
        xx, xy, yy = covariance[i]
        middle, half = 0.5 * (xx + yy), math.hypot(0.5 * (xx - yy), xy)
        angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
        cosine, sine = math.cos(angle), math.sin(angle)
        long = MASK_SIGMAS * math.sqrt(middle + half)
        short = MASK_SIGMAS * math.sqrt(max(middle - half, 1e-6))
        grown = max(widths[0], 1.0 - short)
        for edge in range(3):
            if edge > 0:
                grown += widths[edge]
            p, r = (long + grown) ** -2, (short + grown) ** -2
            xx_form = p * cosine * cosine + r * sine * sine
            out[i, 3 * edge] = (p - r) * cosine * sine / xx_form
            out[i, 3 * edge + 1] = 1.0 / xx_form
            out[i, 3 * edge + 2] = p * r / xx_form**2
            if edge != 1:
                at = MASK_WIDTH if edge == 0 else WIDTH
                out[i, at] = math.hypot((long + grown) * cosine, (short + grown) * sine)
                out[i, at + 1] = math.hypot((long + grown) * sine, (short + grown) * cosine)
    return out


@njit(cache=True, nogil=True, inline="always")
def span(outline: NDArray[np.float64], ellipse: int, x: float, dy: float) -> tuple[int, int]:
    """Columns of one row, first and end, whose middles are inside; the row's middle is dy from the centre.

    Examples
    --------
    >>> outline = mask_outlines(np.array([[1.0, 0.0, 1.0]]), (0.0, 1.0, 2.0))[0]
    >>> span(outline, MASK, 100.5, 0.0), span(outline, OUTER, 100.5, 0.0), span(outline, MASK, 100.5, 3.4)
    ((97, 104), (94, 107), (100, 100))
    """
    square = outline[ellipse + 1] - outline[ellipse + 2] * dy * dy
    middle = x - outline[ellipse] * dy - 0.5
    if square < 0.0:
        at = math.ceil(middle)
        return at, at
    half = math.sqrt(square)
    return math.ceil(middle - half), math.floor(middle + half) + 1


@njit(cache=True, nogil=True, inline="always")
def rows(outline: NDArray[np.float64], half_height: int, y: float) -> tuple[int, int]:
    """Rows, first and end, that an ellipse may have pixels on."""
    return math.floor(y - outline[half_height]), math.floor(y + outline[half_height]) + 1
