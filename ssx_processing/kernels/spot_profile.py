"""The Gaussian profile of reflections, and intensities fitted with it.

    I = sum w P (v - b) / sum w P²,   w = 1 / (V + I P)

with P the profile, v the pixels, b and V background and its variance per pixel; the weights follow the
intensity in a few rounds, as far as it is sure. Where the signal is far below the background it is a
matched filter, with less than half the variance of the sum over a mask of 3 sigmas; where it is far
above, it is the sum.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.integration_noise import LEAST_VARIANCE, sure_signal
from ssx_processing.kernels.integration_table import (
    AREA,
    BACKGROUND,
    EMPTY_AREA,
    EMPTY_REACH,
    FLAGS,
    INTENSITY,
    N_RING,
    REACH,
    SIGNAL,
    SLOPE_X,
    SLOPE_Y,
    SPREAD,
)
from ssx_processing.kernels.spot_mask import MASK, MASK_HEIGHT, MASK_SIGMAS, rows, span

MIDDLE = 3
"""Column of the profile's density at its middle."""
ROUNDS = 3
"""Of weights; those of weak reflections are fixed, as they follow the sure part of an intensity only."""


@njit(cache=True, nogil=True)
def profile_precisions(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4): inverse xx, xy, yy, and the density of the profile at its middle, its mask holding 1."""
    out = np.empty((covariance.shape[0], 4))
    inside = 1.0 - math.exp(-0.5 * MASK_SIGMAS**2)
    for i in range(covariance.shape[0]):
        xx, xy, yy = covariance[i]
        determinant = max(xx * yy - xy * xy, 1e-9)
        out[i] = yy / determinant, -xy / determinant, xx / determinant, 0.0
        out[i, 3] = 1.0 / (2.0 * math.pi * math.sqrt(determinant) * inside)
    return out


@njit(cache=True, nogil=True, inline="always")
def squared_deviation(precision: NDArray[np.float64], dx: float, dy: float) -> float:
    """Squared distance in standard deviations."""
    return precision[0] * dx * dx + 2.0 * precision[1] * dx * dy + precision[2] * dy * dy


@njit(cache=True, nogil=True)
def fit_profiles(
    image: np.ndarray,
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    precision: NDArray[np.float64],
    outlines: NDArray[np.float64],
    gain: float,
    out: NDArray[np.float64],
    known: NDArray[np.float64],
) -> None:
    """Replace summed intensities by fitted ones where no flag is set.

    Parameters
    ----------
    image, x_px, y_px, gain
        As in `integration.integrate_reflections`.
    precision
        Of `profile_precisions`.
    outlines
        Of `spot_mask.mask_outlines`: pixels of the mask are fitted.
    out, known
        As in `integration`, intensities in counts; changed.
    """
    for i in range(out.shape[0]):
        if out[i, FLAGS] == 0.0 and known[i, N_RING] > 0.0:
            _fit_one(image, x_px[i], y_px[i], precision[i], outlines[i], gain, out[i], known[i])


@njit(cache=True, nogil=True)
def _fit_one(
    image: np.ndarray,
    x: float,
    y: float,
    precision: NDArray[np.float64],
    outline: NDArray[np.float64],
    gain: float,
    row: NDArray[np.float64],
    known: NDArray[np.float64],
) -> None:
    """Fit one reflection. Its weights c = w P / sum w P² say how errors of the pixels add up."""
    variance = max(known[SPREAD], gain * row[BACKGROUND], LEAST_VARIANCE * gain * gain)
    intensity = noise = 0.0
    bend = math.exp(-precision[0])
    first, end = rows(outline, MASK_HEIGHT, y)
    for turn in range(ROUNDS):
        above = square = 0.0
        area = reach = signal = 0.0
        for yy in range(first, end):
            dy = yy + 0.5 - y
            left, right = span(outline, MASK, x, dy)
            dx = left + 0.5 - x
            # along a row a Gaussian goes on by a factor, and that by one that is always the same
            p = precision[MIDDLE] * math.exp(-0.5 * squared_deviation(precision, dx, dy))
            step = math.exp(-precision[0] * (dx + 0.5) - precision[1] * dy)
            for xx in range(left, right):
                dx = xx + 0.5 - x
                wp = p / (variance + gain * intensity * p)
                above += wp * (image[yy, xx] - row[BACKGROUND] - dx * known[SLOPE_X] - dy * known[SLOPE_Y])
                square += wp * p
                area += wp * wp
                reach += wp
                signal += wp * wp * p
                p *= step
                step *= bend
        known[AREA], known[REACH], known[SIGNAL] = area / square**2, reach / square, signal / square**2
        row[INTENSITY] = above / square
        if turn == 0:
            known[EMPTY_AREA], known[EMPTY_REACH] = known[AREA], known[REACH]
            noise = variance * known[AREA] / gain**2
        intensity = gain * sure_signal(row[INTENSITY] / gain, noise)
        if intensity == 0.0:
            return
