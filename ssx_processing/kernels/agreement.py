"""How well repeated observations, and half sets of them, agree."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True)
class Repeats:
    """Sums over the observations of each unique reflection; arrays of n_unique elements."""

    deviation: NDArray[np.float64]
    """Sum of |I - mean|, with the merged intensity as mean."""
    total: NDArray[np.float64]
    """Sum of I."""

    def inside(self, inside: NDArray[np.bool_]) -> "Repeats":
        """Those of some reflections."""
        return Repeats(self.deviation[inside], self.total[inside])


@dataclass(frozen=True)
class RFactors:
    """Agreement of equivalent observations; nan where no reflection was measured twice."""

    r_merge: float = math.nan
    """sum |I - mean| / sum I."""
    r_meas: float = math.nan
    """Each reflection's deviations times sqrt(n / (n - 1)); Diederichs & Karplus (1997)."""
    r_pim: float = math.nan
    """Each reflection's deviations times sqrt(1 / (n - 1)); Weiss (2001)."""


def repeats_of(
    uid: NDArray[np.integer],
    intensity: NDArray[np.floating],
    mean: NDArray[np.float64],
    weight: NDArray[np.floating] | None = None,
) -> Repeats:
    """Sums for the R factors.

    Parameters
    ----------
    uid : (n_observations,) array
        Unique reflection of each observation.
    intensity : (n_observations,) array
        Scaled intensities.
    mean : (n_unique,) array
        Merged intensities; observations of reflections without one do not count.
    weight : (n_observations,) array
        0 where an observation was not merged; None: all were.
    """
    used = np.ones(len(uid), np.float32) if weight is None else weight
    deviation, total = np.zeros(len(mean)), np.zeros(len(mean))
    _add_deviations(uid, intensity, mean, used, deviation, total)
    return Repeats(deviation, total)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_deviations(uid, intensity, mean, weight, deviation, total):
    for i in range(len(uid)):
        if weight[i] > 0.0 and mean[uid[i]] == mean[uid[i]]:
            deviation[uid[i]] += abs(intensity[i] - mean[uid[i]])
            total[uid[i]] += intensity[i]


def r_factors_of_sums(n: NDArray[np.integer], repeats: Repeats) -> RFactors:
    """R factors over the reflections with at least two observations.

    Parameters
    ----------
    n : (n_unique,) array
        Observations of each reflection.

    Examples
    --------
    One reflection observed as 9 and 11, another as 5:

    >>> r = r_factors_of_sums(np.array([2, 1]), Repeats(np.array([2.0, 0.0]), np.array([20.0, 5.0])))
    >>> r.r_merge, round(r.r_meas, 4), r.r_pim
    (0.1, 0.1414, 0.1)
    """
    repeated = n > 1
    total = float(repeats.total[repeated].sum())
    if total <= 0:
        return RFactors()
    n, deviation = n[repeated], repeats.deviation[repeated]
    return RFactors(
        r_merge=float(deviation.sum()) / total,
        r_meas=float((deviation * np.sqrt(n / (n - 1))).sum()) / total,
        r_pim=float((deviation * np.sqrt(1 / (n - 1))).sum()) / total,
    )


def r_factors(
    uid: NDArray[np.integer], intensity: NDArray[np.float64], mean: NDArray[np.float64]
) -> RFactors:
    """R factors of observations; parameters as of `repeats_of`."""
    return r_factors_of_sums(np.bincount(uid, minlength=len(mean)), repeats_of(uid, intensity, mean))


def cc_half(half_1: NDArray[np.float64], half_2: NDArray[np.float64]) -> float:
    """Pearson correlation of half sets, over reflections that are in both; nan with fewer than 3.

    Karplus & Diederichs (2012), Science 336, 1030.
    """
    x, y = _standard_scores(half_1, half_2)
    return float(x @ y / len(x)) if len(x) else math.nan


def cc_half_error(half_1: NDArray[np.float64], half_2: NDArray[np.float64]) -> float:
    """Standard error of `cc_half`, by the infinitesimal jackknife over reflections; nan with fewer than 3.

    With standard scores x and y, a reflection moves r by (x y - r (x² + y²) / 2) / n; the error is the
    root of the sum of squares. Unlike (1 - r²) / sqrt(n - 1) it needs no normal distribution, and
    intensities have none: the few strong ones count for most. Efron (1982), The Jackknife, the Bootstrap
    and Other Resampling Plans, SIAM, chapter 6.

    Examples
    --------
    Halves that agree have a correlation without error:

    >>> round(cc_half_error(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])), 6)
    0.0
    """
    x, y = _standard_scores(half_1, half_2)
    if not len(x):
        return math.nan
    influence = x * y - float(x @ y / len(x)) * (x * x + y * y) / 2
    return float(np.sqrt(influence @ influence) / len(x))


def _standard_scores(
    half_1: NDArray[np.float64], half_2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values in both halves less their mean, over their standard deviation; empty where there is none."""
    both = np.isfinite(half_1) & np.isfinite(half_2)
    empty = np.empty(0)
    if both.sum() < 3:
        return empty, empty
    x, y = half_1[both] - half_1[both].mean(), half_2[both] - half_2[both].mean()
    spread_x, spread_y = np.sqrt(x @ x / len(x)), np.sqrt(y @ y / len(y))
    return (x / spread_x, y / spread_y) if spread_x * spread_y > 0 else (empty, empty)
