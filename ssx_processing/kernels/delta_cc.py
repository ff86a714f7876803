"""What each lattice does to CC1/2, in closed form.

CC1/2 by sigma-tau needs no halves: with V the mean variance of the mean of half the observations and T
the variance of the merged intensities over the reflections, it is (T - V / 2) / (T + V / 2); Assmann,
Brehm & Diederichs (2016), J. Appl. Cryst. 49, 1021. Leaving a lattice out changes only the sums of the
reflections that it saw, so all lattices take one pass over the observations.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

_MIN_OBSERVATIONS = 2  # a reflection observed once has no variance
_MIN_LATTICES = 4  # fewer have no quartiles


def delta_cc_half(
    offsets: NDArray[np.int64],
    uid: NDArray[np.integer],
    y: NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    n_unique: int,
) -> NDArray[np.float64]:
    """CC1/2 with all lattices less CC1/2 without each; positive where a lattice makes the data better.

    Parameters
    ----------
    offsets : (n_lattices + 1,) array
        Lattice f owns the observations offsets[f] to offsets[f + 1] - 1.
    uid : (n_observations,) array
        Unique reflection of each observation.
    y : (n_observations,) array
        Scaled intensities.
    weight : (n_observations,) array
        Weights in the mean; observations of weight 0 are left out. None: all count alike.

    Returns
    -------
    (n_lattices,) array
        nan where CC1/2 cannot be calculated.
    """
    used = np.ones(len(uid)) if weight is None else weight
    return _delta(offsets, uid, y, used, n_unique)


def cc_half_sigma_tau(
    uid: NDArray[np.integer], y: NDArray[np.floating], weight: NDArray[np.floating] | None, n_unique: int
) -> float:
    """CC1/2 by sigma-tau; parameters as of `delta_cc_half`; nan with fewer than 3 repeated reflections."""
    used = np.ones(len(uid)) if weight is None else weight
    sums = _sums(uid, y, used, n_unique)
    return float(_cc_of_totals(*_totals(sums)))


@dataclass(frozen=True)
class Rejection:
    """Lattices left out because the data are better without them."""

    kept: NDArray[np.bool_]
    """(n_lattices,)."""
    delta: NDArray[np.float64]
    """(n_lattices,) delta CC1/2 of the round in which it was judged last."""
    n_rounds: int
    """Rounds in which some were left out."""


def reject_by_delta_cc_half(
    offsets: NDArray[np.int64],
    uid: NDArray[np.integer],
    y: NDArray[np.floating],
    weight: NDArray[np.floating] | None,
    n_unique: int,
    *,
    max_loss: float,
    max_rounds: int = 10,
) -> Rejection:
    """Leave out, and again, lattices with delta CC1/2 further below the median than ``max_loss`` IQRs.

    As cctbx.xfel's deltaccint; the interquartile range because a few bad lattices must not set the scale
    by which they are judged. Parameters as of `delta_cc_half`.
    """
    used = np.ones(len(uid)) if weight is None else weight.copy()
    kept = np.ones(len(offsets) - 1, np.bool_)
    delta, n_rounds = np.full(len(kept), np.nan), 0
    while n_rounds < max_rounds:
        now = _delta(offsets, uid, y, used, n_unique)
        delta[kept] = now[kept]
        known = kept & np.isfinite(now)
        if known.sum() < _MIN_LATTICES:
            break
        low, median, high = np.percentile(now[known], (25, 50, 75))
        bad = known & (now < median - max_loss * (high - low)) & (now < 0)
        if not bad.any():
            break
        n_rounds += 1
        kept &= ~bad
        used[np.repeat(bad, np.diff(offsets))] = 0.0
    return Rejection(kept, delta, n_rounds)


@njit(cache=True, nogil=True, error_model="numpy")
def _sums(uid, y, weight, n_unique):
    """(n_unique, 6): count, w, w y, w², w² y, w² y²."""
    sums = np.zeros((n_unique, 6))
    for i in range(len(uid)):
        if weight[i] > 0.0:
            _add(sums[uid[i]], weight[i], y[i], 1.0)
    return sums


@njit(cache=True, nogil=True, error_model="numpy")
def _add(row, w, y, sign):
    row[0] += sign
    row[1] += sign * w
    row[2] += sign * w * y
    row[3] += sign * w * w
    row[4] += sign * w * w * y
    row[5] += sign * w * w * y * y


@njit(cache=True, nogil=True, error_model="numpy")
def _terms(row):
    """1, mean, mean², variance of the mean of half the observations; all 0 if observed only once."""
    n, w = row[0], row[1]
    if n < _MIN_OBSERVATIONS or w <= 0.0:
        return 0.0, 0.0, 0.0, 0.0
    mean = row[2] / w
    scatter = max(row[5] - 2.0 * mean * row[4] + mean * mean * row[3], 0.0)
    return 1.0, mean, mean * mean, 2.0 * scatter / (w * w) * n / (n - 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _totals(sums):
    count, mean, square, variance = 0.0, 0.0, 0.0, 0.0
    for u in range(len(sums)):
        a, b, c, d = _terms(sums[u])
        count += a
        mean += b
        square += c
        variance += d
    return count, mean, square, variance


@njit(cache=True, nogil=True, error_model="numpy")
def _cc_of_totals(count, mean, square, variance):
    if count < 3.0:
        return np.nan
    spread = (square - mean * mean / count) / (count - 1.0)
    half_error = 0.5 * variance / count
    return (spread - half_error) / (spread + half_error)


@njit(cache=True, nogil=True, error_model="numpy")
def _delta(offsets, uid, y, weight, n_unique):
    sums = _sums(uid, y, weight, n_unique)
    totals = _totals(sums)
    whole = _cc_of_totals(*totals)
    n_lattices = len(offsets) - 1
    delta = np.empty(n_lattices)
    touched = np.empty(n_unique, np.int64)
    left = np.empty((n_unique, 6))
    is_touched = np.zeros(n_unique, np.bool_)
    for f in range(n_lattices):
        n_touched = 0
        for i in range(offsets[f], offsets[f + 1]):
            if weight[i] <= 0.0:
                continue
            u = uid[i]
            if not is_touched[u]:  # a lattice may see a reflection more than once, by symmetry
                is_touched[u] = True
                touched[n_touched] = u
                n_touched += 1
                left[u] = sums[u]
            _add(left[u], weight[i], y[i], -1.0)
        count, mean, square, variance = totals
        for k in range(n_touched):
            u = touched[k]
            is_touched[u] = False
            a, b, c, d = _terms(sums[u])
            p, q, r, s = _terms(left[u])
            count += p - a
            mean += q - b
            square += r - c
            variance += s - d
        delta[f] = whole - _cc_of_totals(count, mean, square, variance)
    return delta
