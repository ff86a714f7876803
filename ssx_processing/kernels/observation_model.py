"""What an observation of a full intensity J is expected to be, as a function of how far off the sphere it is.

With k the lattice's scale and u its excitation error in standard deviations of the rocking width:

    mean      k P(u) J
    variance  noise_factor (noise + mean) + S(u)² (k J)² + own error of J

P, the partiality, and S, the spread of partialities about it, are learnt from the observations as
piecewise linear functions: no shape of node, mosaic spread or spectrum is assumed.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

KNOT_STEP, N_KNOTS = 0.25, 17
"""P and S are given at |u| = 0, 0.25 ... 4, and constant beyond."""
LEAST_PARTIALITY = 0.2
"""Below it P is not believed: dividing by less makes single observations of a reflection worthless."""
NOISE_FACTOR_RANGE = (0.5, 20.0)
SPREAD_RANGE = (0.03, 3.0)

SIGNAL, SQUARE, NOISE_SPREAD, SPREAD_SPREAD, SPREAD_EXCESS = range(5)
"""Moments per knot, see `empty_moments`."""


@dataclass(frozen=True)
class ObservationModel:
    """Partiality and variance of observations."""

    noise_factor: float
    """Counting noise is this many times what the integration says."""
    partiality: NDArray[np.float64]
    """(N_KNOTS,) P at the knots, 1 at 0."""
    spread: NDArray[np.float64]
    """(N_KNOTS,) S at the knots."""

    @property
    def is_flat(self) -> bool:
        """Nothing is made of the distance from the sphere."""
        return bool((self.partiality == 1.0).all())


def flat_model(spread: float = 0.7, noise_factor: float = 1.0) -> ObservationModel:
    """Partiality 1 everywhere: what it really is counts as spread."""
    return ObservationModel(noise_factor, np.ones(N_KNOTS), np.full(N_KNOTS, spread))


def gaussian_partiality() -> NDArray[np.float64]:
    """(N_KNOTS,) exp(-u² / 2), never below `LEAST_PARTIALITY`."""
    return np.maximum(np.exp(-0.5 * (KNOT_STEP * np.arange(N_KNOTS)) ** 2), LEAST_PARTIALITY)


@njit(cache=True, nogil=True, inline="always")
def at_knots(table: NDArray[np.float64], u: float) -> float:
    """Linear interpolation at u >= 0."""
    x = u / KNOT_STEP
    i = int(x)
    if i >= N_KNOTS - 1:
        return table[N_KNOTS - 1]
    return table[i] + (x - i) * (table[i + 1] - table[i])


@njit(cache=True, nogil=True, inline="always")
def slope_at_knots(table: NDArray[np.float64], u: float) -> float:
    """Slope of the interpolation at u >= 0."""
    i = int(u / KNOT_STEP)
    return (table[i + 1] - table[i]) / KNOT_STEP if i < N_KNOTS - 1 else 0.0


def empty_moments() -> NDArray[np.float64]:
    """(N_KNOTS + 1, 5) zeros for the sums from which a model is estimated.

    Per knot (the nearest to u), with r the residual, v its variance, x = k J: sums of x I / v,
    x² / v (less the error of J), n x² / v², x⁴ / v², x² (r² - own error of J) / v², n the noise; in the
    last row sums of n² / v² and n r² / v².
    """
    return np.zeros((N_KNOTS + 1, 5))


def estimate_model(moments: NDArray[np.float64], start: ObservationModel, *, learn: bool) -> ObservationModel:
    """The model whose means and variances equal what was observed, by weighted least squares.

    Parameters
    ----------
    moments
        See `empty_moments`; summed over any partition of the observations.
    start
        Kept where the moments say nothing.
    learn
        Learn P and S as functions of u; else P stays and S is one number.
    """
    by_knot, (noise, excess) = moments[:N_KNOTS], moments[N_KNOTS, :2]
    if not learn:
        by_knot = by_knot.sum(axis=0, keepdims=True)
    ns, ss, sr = by_knot[:, NOISE_SPREAD], by_knot[:, SPREAD_SPREAD], by_knot[:, SPREAD_EXCESS]
    used = ss > 0
    determinant = noise - (ns[used] ** 2 / ss[used]).sum()
    if not used.any() or not determinant > 1e-12 * noise:
        return start  # too few repeats, or all of one intensity: nothing to learn from
    factor = (excess - (ns[used] * sr[used] / ss[used]).sum()) / determinant
    factor = float(np.clip(factor, *NOISE_FACTOR_RANGE))
    squared = np.divide(sr - factor * ns, ss, out=np.zeros(len(ss)), where=used)
    if not learn:
        spread = np.full(N_KNOTS, np.sqrt(max(squared[0], 0.0)))
        return ObservationModel(factor, start.partiality, np.clip(spread, *SPREAD_RANGE))
    spread = np.sqrt(np.maximum(_smoothed(np.maximum(squared, 0.0), ss), 0.0))
    return ObservationModel(factor, _learnt_partiality(by_knot), np.clip(spread, *SPREAD_RANGE))


def _learnt_partiality(by_knot: NDArray[np.float64]) -> NDArray[np.float64]:
    """P falls from 1 at 0: the nearest function that does (pooling adjacent violators)."""
    weight = np.maximum(by_knot[:, SQUARE], 0.0)
    value = np.divide(by_knot[:, SIGNAL], weight, out=np.zeros(N_KNOTS), where=weight > 0)
    value = _smoothed(value, weight)
    pools: list[tuple[float, float, int]] = []
    for y, w in zip(value, weight + 1e-9 * weight.sum(), strict=True):
        pool = (float(y), float(w), 1)
        while pools and pools[-1][0] < pool[0]:
            before = pools.pop()
            total = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / total, total, before[2] + pool[2])
        pools.append(pool)
    falling = np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])
    if not falling[0] > 0:
        return np.ones(N_KNOTS)
    return np.maximum(falling / falling[0], LEAST_PARTIALITY)


def _smoothed(value: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means over neighbouring knots; beyond the last that was observed, as there."""
    kernel = np.array([0.25, 0.5, 0.25])
    total = np.convolve(np.pad(weight * value, 1, "edge"), kernel, "valid")
    norm = np.convolve(np.pad(weight, 1, "edge"), kernel, "valid")
    smooth = np.divide(total, norm, out=np.zeros(N_KNOTS), where=norm > 0)
    observed = np.flatnonzero(norm > 1e-6 * norm.max(initial=0.0))
    if len(observed):
        smooth[observed[-1] + 1 :] = smooth[observed[-1]]
    return smooth
