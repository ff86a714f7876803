"""Standard errors of integrated intensities that do not depend on how the pixels fluctuated.

A sigma made from the reflection's own counts is too small where they fluctuated down and too large
where they fluctuated up: I / sigma of empty reflections then has a mean below zero and a standard
deviation other than one, the more so the fewer photons there are. So

    sigma² = noise + signal,   noise = V (n + n² l)

with n pixels of the mask, V the variance of a background pixel, l V that of the background (1 / n
of the ring for a flat one; Leslie 2006, Acta Cryst. D62, 48, eq. 4). V is the sample variance of the
ring, drawn towards that of the shell of resolution the fewer photons the ring has. The signal's own
variance is the intensity expected after the measurement, with an exponential distribution about the
shell's mean, less its standard error, before it (acentric Wilson; as French & Wilson 1978, Acta
Cryst. A34, 517, for the intensity itself), or what is left of the intensity after three
sigmas and two photons, if that is more.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.integration_table import (
    AREA,
    BACKGROUND,
    EMPTY_AREA,
    EMPTY_REACH,
    FLAGS,
    FOREIGN,
    FOREIGN_VARIANCE,
    FRACTION,
    INTENSITY,
    LEVERAGE,
    MODEL_ERROR,
    N_RING,
    NOISE,
    REACH,
    REJECTED_FLAGS,
    SIGMA,
    SIGNAL,
    SPREAD,
)

PRIOR_PHOTONS = 200.0
"""The shell's variance counts like a ring with so many photons: a ring that fluctuated up makes the
intensity too low and the noise too large, and with less of the shell's, weights would show it."""
LEAST_VARIANCE = 0.01
"""Photons² per pixel, below which no variance of the background is believed."""
SURE_SIGMAS, SURE_PHOTONS = 3.0, 2.0
"""So much above the noise, and so many photons more, an intensity is real whatever its shell is like."""


@njit(cache=True, nogil=True)
def set_noise(
    out: NDArray[np.float64], known: NDArray[np.float64], shell: NDArray[np.int64], gain: float
) -> None:
    """Fill in noise and sigma, photons.

    Parameters
    ----------
    out, known
        As in `integration`, intensities still in counts.
    shell : (n,) array
        From 0.
    """
    n = out.shape[0]
    n_shells = 0
    for i in range(n):
        n_shells = max(n_shells, shell[i] + 1)
    pixels, spread, level = np.zeros(n_shells), np.zeros(n_shells), np.zeros(n_shells)
    members, signal = np.zeros(n_shells), np.zeros(n_shells)
    for i in range(n):
        s, weight = shell[i], known[i, N_RING]
        pixels[s] += weight
        spread[s] += weight * known[i, SPREAD]
        level[s] += weight * out[i, BACKGROUND]
        if not int(out[i, FLAGS]) & REJECTED_FLAGS:
            members[s] += 1.0
            signal[s] += out[i, INTENSITY]
    for i in range(n):
        if known[i, N_RING] == 0.0 or known[i, AREA] == 0.0:
            continue
        s = shell[i]
        photons = max(level[s] / pixels[s] / gain, 1e-4)
        prior = PRIOR_PHOTONS / photons
        weight = known[i, N_RING]
        pixel = (prior * spread[s] / pixels[s] + weight * known[i, SPREAD]) / (prior + weight) / gain**2
        pixel = max(pixel, LEAST_VARIANCE)
        other = max(known[i, FOREIGN], 0.0) / gain / out[i, FRACTION] ** 2
        other += known[i, FOREIGN_VARIANCE] / gain**2
        pixel /= out[i, FRACTION] ** 2
        lever = known[i, LEVERAGE]
        out[i, NOISE] = pixel * (known[i, EMPTY_AREA] + lever * known[i, EMPTY_REACH] ** 2) + other
        noise = pixel * (known[i, AREA] + lever * known[i, REACH] ** 2) + other
        intensity = out[i, INTENSITY] / gain
        members_here = max(members[s], 1.0)
        mean = float(signal[s] / members_here / gain) - math.sqrt(noise / members_here)
        own = known[i, SIGNAL] * expected_signal(intensity, noise, mean) / out[i, FRACTION]
        out[i, SIGMA] = math.sqrt(noise + own + (known[i, MODEL_ERROR] * intensity) ** 2)


@njit(cache=True, nogil=True, inline="always")
def sure_signal(intensity: float, variance: float) -> float:
    """Photons that are there whatever was expected.

    Examples
    --------
    >>> sure_signal(100.0, 4.0), sure_signal(5.0, 4.0)
    (92.0, 0.0)
    """
    return max(intensity - SURE_SIGMAS * math.sqrt(variance) - SURE_PHOTONS, 0.0)


@njit(cache=True, nogil=True)
def expected_signal(intensity: float, variance: float, mean: float) -> float:
    """True intensity to be expected of a measured one.

    Parameters
    ----------
    intensity, variance
        Measured, and of the noise; photons and photons².
    mean
        Of intensities in the shell, photons.

    Examples
    --------
    >>> [round(expected_signal(intensity, 25.0, 50.0), 2) for intensity in (-5.0, 0.0, 5.0, 1000.0)]
    [2.53, 3.81, 6.13, 999.5]
    """
    sure = sure_signal(intensity, variance)
    if mean <= 0.0:
        return sure
    sigma = math.sqrt(variance)
    z = intensity / sigma - sigma / mean
    if z < -8.0:  # the tail of a normal distribution is an exponential one
        after = sigma / -z
    else:
        density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        after = sigma * (z + density / (0.5 * math.erfc(-z / math.sqrt(2.0))))
    return max(sure, after)
