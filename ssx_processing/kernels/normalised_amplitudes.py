"""Normalised amplitudes: what tells one way of indexing a still from another.

The intensity of a partial observation is the full one times a partiality that is hardly known, so
intensities within a lattice scatter over decades. Their square roots, divided by the mean of their
resolution and cut at 2.4, correlate better with the truth than the intensities themselves, and weak
observations must count less (docs/explanations/indexing-ambiguity.md has the comparison).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

N_SHELLS = 20
"""Of equal volume in reciprocal space, for the mean intensity."""
MAX_NORMALISED = 6.0
"""Normalised intensities are cut here; e^-6 of Wilson's acentric ones are larger."""
NOISE_IN_WEIGHT = 2.0
"""Weight 1 / (1 + 2 variance): the scatter of normalised amplitudes beside the counting noise."""
_N_PASSES = 3


@dataclass(frozen=True)
class FallOff:
    """How intensities fall off with resolution."""

    volume: float
    """(sin(theta)/lambda)³ at the highest resolution, 1/Å³; shells are equal parts of it."""
    means: NDArray[np.float64]
    """(N_SHELLS,) mean intensity of each shell, on any scale."""


def normalised_amplitudes(
    offsets: NDArray[np.int64],
    s_squared: NDArray[np.float64],
    intensity: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
    factor: NDArray[np.float64],
    fall_off: FallOff | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amplitudes with mean 0 in each lattice, and their weights.

    Parameters
    ----------
    offsets : (n_lattices + 1,) array
        Lattice f owns the observations offsets[f] to offsets[f + 1] - 1.
    s_squared : (n_observations,) array
        (sin(theta)/lambda)² in 1/Å².
    intensity, noise_variance : (n_observations,) array
        Photons, and photons² at zero intensity.
    factor : (n_observations,) array
        How near to the Ewald sphere, at most 1.
    fall_off
        Of these or of other lattices; by default of these. With a given one the amplitudes of a lattice do
        not depend on which others there are.

    Returns
    -------
    value, weight : (n_observations,) array
        Dimensionless; a lattice with a mean intensity below zero has weights 0.
    """
    if fall_off is None:
        fall_off = mean_fall_off(offsets, s_squared, intensity)
    shell, means = _shells(s_squared, fall_off.volume), fall_off.means
    log_g, slope = _scales(offsets, shell, intensity, s_squared, means)
    return _values(offsets, shell, intensity, noise_variance, factor, s_squared, means, log_g, slope)


def mean_fall_off(
    offsets: NDArray[np.int64], s_squared: NDArray[np.float64], intensity: NDArray[np.float64]
) -> FallOff:
    """Mean intensities against resolution, all lattices on one scale."""
    volume = max(float(s_squared.max(initial=0.0)) ** 1.5, 1e-12)
    shell = _shells(s_squared, volume)
    means = np.ones(N_SHELLS)
    log_g, slope = np.zeros(len(offsets) - 1), np.zeros(len(offsets) - 1)
    for _ in range(_N_PASSES):
        means = _shell_means(offsets, shell, intensity, s_squared, log_g, slope)
        log_g, slope = _scales(offsets, shell, intensity, s_squared, means)
    return FallOff(volume, means)


def _shells(s_squared: NDArray[np.float64], volume: float) -> NDArray[np.int64]:
    return np.minimum((N_SHELLS * s_squared**1.5 / volume).astype(np.int64), N_SHELLS - 1)


@njit(cache=True, nogil=True)
def _shell_means(offsets, shell, intensity, s_squared, log_g, slope):
    """Mean scaled intensity of each shell, taken from the one below where there is none."""
    sums, n = np.zeros(N_SHELLS), np.zeros(N_SHELLS)
    for f in range(len(offsets) - 1):
        for i in range(offsets[f], offsets[f + 1]):
            sums[shell[i]] += intensity[i] / np.exp(log_g[f] + slope[f] * s_squared[i])
            n[shell[i]] += 1.0
    means = np.empty(N_SHELLS)
    last = max(sums.sum() / max(n.sum(), 1.0), 1e-12)
    for j in range(N_SHELLS):
        if n[j] > 0 and sums[j] > 0:
            last = max(sums[j] / n[j], 1e-3 * last)
        means[j] = last
    return means


@njit(cache=True, nogil=True)
def _scales(offsets, shell, intensity, s_squared, means):
    """Scale of each lattice against the shell means, and its fall-off, from a line through the ratios."""
    n_lattices = len(offsets) - 1
    log_g, slope = np.zeros(n_lattices), np.zeros(n_lattices)
    for f in range(n_lattices):
        n, sx, sy, sxx, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            w = means[shell[i]] / means[0]  # weak shells say little
            x, y = s_squared[i], intensity[i] / means[shell[i]]
            n, sx, sy, sxx, sxy = n + w, sx + w * x, sy + w * y, sxx + w * x * x, sxy + w * x * y
        if n <= 0:
            continue
        mean = max(sy / n, 0.05)
        spread = sxx / n - (sx / n) ** 2
        # a relative slope is known to about sqrt(2 / (n spread)); 10 Å² of B are 20 of it
        prior = 2.0 / (n * 400.0)
        relative = (sxy / n - sx * sy / n / n) / mean / (spread + prior)
        relative = min(max(relative, -60.0), 60.0)
        slope[f], log_g[f] = relative, np.log(mean) - relative * sx / n
    return log_g, slope


@njit(cache=True, nogil=True)
def _values(offsets, shell, intensity, noise_variance, factor, s_squared, means, log_g, slope):
    value, weight = np.zeros(len(intensity)), np.zeros(len(intensity))
    for f in range(len(offsets) - 1):
        sw, swv = 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            mean = means[shell[i]] * np.exp(log_g[f] + slope[f] * s_squared[i])
            weight[i] = factor[i] / (1.0 + NOISE_IN_WEIGHT * noise_variance[i] / (mean * mean))
            value[i] = np.sqrt(min(max(intensity[i] / mean, 0.0), MAX_NORMALISED))
            sw, swv = sw + weight[i], swv + weight[i] * value[i]
        centre = swv / sw if sw > 0 else 0.0
        for i in range(offsets[f], offsets[f + 1]):
            value[i] -= centre
    return value, weight
