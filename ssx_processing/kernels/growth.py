"""How the merged data grow with the number of lattices, and what more of them would bring."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.agreement import cc_half, cc_half_error
from ssx_processing.kernels.statistics import r_split

N_CHECKPOINTS = 12


@dataclass(frozen=True)
class Growth:
    """Statistics of the first lattices; arrays with one element for each checkpoint, the last is all."""

    n_lattices: NDArray[np.int64]
    n_observations: NDArray[np.int64]
    n_reflections: NDArray[np.int64]
    """Unique ones measured."""
    completeness: NDArray[np.float64]
    multiplicity: NDArray[np.float64]
    cc_half: NDArray[np.float64]
    cc_half_error: NDArray[np.float64]
    r_split: NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """What is expected of some number of lattices, with standard errors.

    The errors hold the chance error of the present data, and how far the same forecast made at half of the
    lattices is off now.
    """

    n_lattices: int
    cc_half: float
    cc_half_error: float
    completeness: float
    completeness_error: float
    multiplicity: float


def growth(
    offsets: NDArray[np.int64],
    uid: NDArray[np.integer],
    y: NDArray[np.floating],
    weight: NDArray[np.floating],
    half: NDArray[np.uint8],
    n_unique: int,
    *,
    full: NDArray[np.floating] | None = None,
    min_full: float = 0.0,
    n_checkpoints: int = N_CHECKPOINTS,
) -> Growth:
    """Merge lattice by lattice, in their order, and look at what there is at evenly spaced checkpoints.

    Parameters
    ----------
    offsets : (n_lattices + 1,) array
        Lattice f owns the observations offsets[f] to offsets[f + 1] - 1.
    uid : (n_observations,) array
        Unique reflection of each observation.
    y : (n_observations,) array
        Scaled intensities.
    weight : (n_observations,) array
        Weights in the mean; 0 where an observation is not merged.
    half : (n_lattices,) array
        0 or 1.
    n_unique
        Reflections that are possible.
    full : (n_observations,) array
        As how much of a full observation each counts, see `merging.FULL`; None: 1.
    min_full
        Reflections with less, in all or in a half, are not determined.
    """
    counts_as = np.ones(len(uid), np.float32) if full is None else full
    n_lattices = len(offsets) - 1
    counted = np.cumsum(_has_any(offsets, weight))
    stops = np.unique(np.linspace(0, n_lattices, n_checkpoints + 1).round().astype(np.int64))[1:]
    sums, n = np.zeros((n_unique, 2, 3)), np.zeros(n_unique, np.int64)
    rows, start = [], 0
    for stop in stops:
        _add(offsets, uid, y, weight, counts_as, half, start, stop, sums, n)
        start = stop
        rows.append((int(counted[stop - 1]), *_statistics(sums, n, min_full)))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    n_lattices_at, n_observations, n_reflections = (np.array(column, np.int64) for column in columns[:3])
    figures = (np.array(column, np.float64) for column in columns[3:])
    return Growth(n_lattices_at, n_observations, n_reflections, *figures)


@njit(cache=True, nogil=True)
def _has_any(offsets, weight):
    """Which lattices have an observation that is merged."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for f in range(len(found)):
        for i in range(offsets[f], offsets[f + 1]):
            found[f] |= weight[i] > 0.0
    return found


@njit(cache=True, nogil=True)
def _add(offsets, uid, y, weight, full, half, start, stop, sums, n):
    for f in range(start, stop):
        for i in range(offsets[f], offsets[f + 1]):
            if weight[i] > 0.0:
                sums[uid[i], half[f], 0] += weight[i]
                sums[uid[i], half[f], 1] += weight[i] * y[i]
                sums[uid[i], half[f], 2] += full[i]
                n[uid[i]] += 1


def _statistics(
    sums: NDArray[np.float64], n: NDArray[np.int64], min_full: float
) -> tuple[int, int, float, float, float, float, float]:
    means = np.full(sums.shape[:2], np.nan)
    determined = (sums[:, :, 0] > 0) & (sums[:, :, 2] >= min_full)
    np.divide(sums[:, :, 1], sums[:, :, 0], out=means, where=determined)
    measured = (n > 0) & (sums[:, :, 2].sum(axis=1) >= min_full)
    n_observations, n_reflections = int(n[measured].sum()), int(measured.sum())
    return (
        n_observations,
        n_reflections,
        n_reflections / len(n) if len(n) else 0.0,
        n_observations / n_reflections if n_reflections else 0.0,
        cc_half(means[:, 0], means[:, 1]),
        cc_half_error(means[:, 0], means[:, 1]),
        r_split(means[:, 0], means[:, 1]),
    )


def forecast(found: Growth, n_lattices: int) -> Forecast:
    """What to expect of ``n_lattices`` of the same quality, in all.

    CC1/2 by Spearman and Brown (1910): 1 / CC1/2 - 1 falls as 1 / n. Completeness from a negative binomial
    number of observations of each reflection, whose mean and share of zeros are those found.

    Parameters
    ----------
    n_lattices
        More than there are.
    """
    if not len(found.n_lattices) or not found.cc_half[-1] > 0:
        return Forecast(n_lattices, math.nan, math.nan, math.nan, math.nan, math.nan)
    last = len(found.n_lattices) - 1
    factor = n_lattices / float(found.n_lattices[last])
    cc, completeness = _expected(found, last, factor)
    now, chance = float(found.cc_half[last]), float(found.cc_half_error[last])
    miss_cc, miss_completeness = (miss * math.log(factor) for miss in _misses(found))
    n_possible = float(found.n_reflections[last] / found.completeness[last])
    return Forecast(
        n_lattices=n_lattices,
        cc_half=cc,
        cc_half_error=math.hypot(chance * (cc / now) ** 2 / factor, cc * (1 - cc) * miss_cc),
        completeness=completeness,
        completeness_error=math.hypot(
            math.sqrt(completeness * (1 - completeness) / n_possible), (1 - completeness) * miss_completeness
        ),
        multiplicity=float(found.n_observations[last]) * factor / (completeness * n_possible),
    )


def lattices_needed(found: Growth, cc_half: float) -> float:
    """Lattices, in all, for which CC1/2 is expected to reach a value; nan where nothing can be said."""
    if not len(found.n_lattices) or not 0 < found.cc_half[-1] < 1:
        return math.nan
    return float(found.n_lattices[-1] * (1 / found.cc_half[-1] - 1) / (1 / cc_half - 1))


def _expected(found: Growth, i: int, factor: float) -> tuple[float, float]:
    """CC1/2 and completeness with ``factor`` times the lattices of checkpoint i."""
    cc = float(found.cc_half[i])
    cc = 1 / (1 + (1 / cc - 1) / factor) if cc > 0 else math.nan
    share = float(found.completeness[i])
    if not 0 < share < 1:
        return cc, share
    mean = float(found.multiplicity[i]) * share
    unseen = -math.log(1 - share)
    if unseen >= mean * (1 - 1e-6):  # as evenly spread as chance allows, or more: Poisson
        return cc, 1 - (1 - share) ** factor
    from scipy.optimize import brentq  # takes as long to import as all else here

    log_k = brentq(lambda x: math.exp(x) * math.log1p(mean / math.exp(x)) - unseen, -30, 30)
    k = math.exp(float(log_k))  # type: ignore[arg-type]
    return cc, 1 - (1 + mean * factor / k) ** -k


def _misses(found: Growth) -> tuple[float, float]:
    """How far off forecasts made at half of the lattices are now.

    In the logarithms of 1 / CC1/2 - 1 and of what is missing from completeness, per factor e in lattices.
    """
    last = len(found.n_lattices) - 1
    earlier = np.flatnonzero(found.cc_half[:last] > 0)
    if not len(earlier):
        return math.nan, math.nan
    i = int(earlier[np.argmin(np.abs(found.n_lattices[earlier] - found.n_lattices[last] / 2))])
    factor = float(found.n_lattices[last] / found.n_lattices[i])
    cc, completeness = _expected(found, i, factor)
    miss = abs(_log_odds(cc, float(found.cc_half[last])))
    missing = (1 - completeness, 1 - float(found.completeness[last]))
    of_completeness = abs(math.log(missing[0] / missing[1])) if min(missing) > 0 else 0.0
    return miss / math.log(factor), of_completeness / math.log(factor)


def _log_odds(expected: float, found: float) -> float:
    """Logarithm of the ratio of 1 / CC1/2 - 1; 0 where both are perfect."""
    x, y = 1 / expected - 1, 1 / found - 1
    return math.log(x / y) if min(x, y) > 0 else 0.0
