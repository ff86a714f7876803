"""Outlines of the ellipses that a reflection is summed in and its background taken from."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

MASK_SIGMAS = 3.0
"""Semi-axes of the mask in standard deviations of the profile: 98.9 % of a Gaussian."""
HALF_WIDTH, HALF_HEIGHT = 11, 12
"""Columns of the outlines: of the box around the background ring."""


@njit(cache=True, nogil=True)
def mask_outlines(covariance: NDArray[np.float64], widths: tuple[float, float]) -> NDArray[np.float64]:
    """Mask, inner and outer edge of the background ring of each reflection.

    Parameters
    ----------
    covariance : (n, 3) array
        Of the profile: xx, xy, yy, px².
    widths
        Of gap and ring, px; they are added to the semi-axes of the mask.

    Returns
    -------
    (n, 13) array
        Three times f, g, h of an ellipse f dx² + g dx dy + h dy² = 1 (mask, inner edge, outer edge),
        then half width and half height of the boxes around mask and outer edge.
    """
    out = np.empty((covariance.shape[0], 13))
    for i in range(covariance.shape[0]):
        xx, xy, yy = covariance[i]
        middle, half = 0.5 * (xx + yy), math.hypot(0.5 * (xx - yy), xy)
        angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
        cosine, sine = math.cos(angle), math.sin(angle)
        long = MASK_SIGMAS * math.sqrt(middle + half)
        short = MASK_SIGMAS * math.sqrt(max(middle - half, 1e-6))
        grown = 0.0
        for edge in range(3):
            if edge > 0:
                grown += widths[edge - 1]
            p, r = (long + grown) ** -2, (short + grown) ** -2
            out[i, 3 * edge] = p * cosine * cosine + r * sine * sine
            out[i, 3 * edge + 1] = 2.0 * (p - r) * cosine * sine
            out[i, 3 * edge + 2] = p * sine * sine + r * cosine * cosine
            if edge != 1:
                at = 9 if edge == 0 else HALF_WIDTH
                out[i, at] = math.hypot((long + grown) * cosine, (short + grown) * sine)
                out[i, at + 1] = math.hypot((long + grown) * sine, (short + grown) * cosine)
    return out
