"""Repeated observations of unmerged files merged as iotbx.merging_statistics does, to compare figures.

Weights are 1/sigma², the merged sigma is the larger of internal and external, and halves are dealt out
at random within each reflection. Our own merge weights differently and splits by lattice (`merging`).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.agreement import Repeats
from ssx_processing.kernels.anomalous import AnomalousHalves, anomalous_halves
from ssx_processing.kernels.statistics import MergedReflections

_SEED = 1  # of iotbx's Mersenne twister: with the same draws its CC1/2 is found to the last digit


@dataclass(frozen=True)
class RepeatedObservations:
    """Observations of some file; arrays of n_observations elements unless said otherwise."""

    uid: NDArray[np.integer]
    """Unique reflection, a row of `hkl`."""
    minus: NDArray[np.integer]
    """1 for Friedel mates of the asymmetric unit's reflections, else 0."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    """Positive."""
    hkl: NDArray[np.integer]
    """(n_unique, 3) the asymmetric unit, sorted."""
    d: NDArray[np.float64]
    """(n_unique,) Å."""
    centric: NDArray[np.bool_]
    """(n_unique,)."""

    def inside(self, inside: NDArray[np.bool_]) -> "RepeatedObservations":
        """Observations of the reflections ``inside``, of the same asymmetric unit."""
        kept = inside[self.uid]
        return RepeatedObservations(
            self.uid[kept], self.minus[kept], self.intensity[kept], self.sigma[kept],
            self.hkl, self.d, self.centric,
        )  # fmt: skip


def merge_repeats(observations: RepeatedObservations, *, apart: bool = False) -> MergedReflections:
    """Merge, and deal out halves.

    Parameters
    ----------
    apart
        Friedel mates are different reflections: the result has the asymmetric unit's reflections and
        then the mates of the acentric ones.
    """
    o = observations
    n_unique, order = len(o.d), _signed_order(o.hkl)
    signed = np.asarray(order[2 * o.uid.astype(np.int64) + o.minus], np.int64)
    anomalous = _anomalous(o, signed, order)
    if not apart:
        merged = _merged(o.uid.astype(np.int64), o, n_unique)
        return _reflections(o.d, merged, np.arange(n_unique), anomalous)
    merged = _merged(signed, o, 2 * n_unique)
    acentric = np.flatnonzero(~o.centric)
    rows = np.concatenate([2 * np.arange(n_unique), 2 * acentric + 1])
    return _reflections(
        np.concatenate([o.d, o.d[acentric]]), merged, order[rows], anomalous.followed_by(len(acentric))
    )


def _signed_order(hkl: NDArray[np.integer]) -> NDArray[np.int64]:
    """(2 n_unique,) place of hkl 0, its mate, hkl 1, its mate, ... when all are sorted."""
    signed = np.stack([hkl, -hkl], axis=1).reshape(-1, 3)
    place = np.empty(len(signed), np.int64)
    place[np.lexsort(signed.T[::-1])] = np.arange(len(signed))
    return place


def _anomalous(
    o: RepeatedObservations, signed: NDArray[np.int64], order: NDArray[np.int64]
) -> AnomalousHalves:
    """Half sets of each mate, not weighted, as iotbx's."""
    table = _merged(signed, o, len(order), weighted=False)[order].reshape(len(o.d), 2, -1)
    return anomalous_halves(table[:, :, _HALF_1 : _HALF_2 + 1], table[:, :, _N] > 0, o.centric)


_N, _MEAN, _SIGMA, _DEVIATION, _TOTAL, _HALF_1, _HALF_2 = range(7)


def _reflections(
    d: NDArray[np.float64],
    merged: NDArray[np.float64],
    rows: NDArray[np.int64],
    anomalous: AnomalousHalves,
) -> MergedReflections:
    table = merged[rows]
    return MergedReflections(
        d=d,
        n=table[:, _N].astype(np.int64),
        intensity=table[:, _MEAN],
        sigma=table[:, _SIGMA],
        half_1=table[:, _HALF_1],
        half_2=table[:, _HALF_2],
        repeats=Repeats(table[:, _DEVIATION], table[:, _TOTAL]),
        anomalous=anomalous,
    )


def _merged(
    group: NDArray[np.int64], o: RepeatedObservations, n_groups: int, *, weighted: bool = True
) -> NDArray[np.float64]:
    """(n_groups, 7) table of what is known of each group of equivalent observations."""
    draws = np.random.RandomState(_SEED).random_sample(len(group) + min(n_groups, len(group)))
    return _merge(group, o.intensity, o.sigma, n_groups, weighted, draws)


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(group, intensity, sigma, n_groups, weighted, draws):
    starts = np.zeros(n_groups + 1, np.int64)
    for g in group:
        starts[g + 1] += 1
    starts = np.cumsum(starts)
    place = starts[:-1].copy()
    pairs = np.empty((len(group), 2))  # intensities and weights, sorted by group, else in their order
    for i in range(len(group)):
        k = place[group[i]]
        place[group[i]] = k + 1
        pairs[k, 0], pairs[k, 1] = intensity[i], 1.0 / (sigma[i] * sigma[i])
    table = np.full((n_groups, 7), np.nan)
    n_drawn = 0
    for g in range(n_groups):
        mine = pairs[starts[g] : starts[g + 1]]
        _mean_and_scatter(mine, table[g])
        n_drawn = _deal(mine, weighted, draws, n_drawn, table[g])
    return table


@njit(cache=True, nogil=True, error_model="numpy")
def _mean_and_scatter(pairs, row):
    """Fill count, mean, sigma, deviation and total."""
    n = len(pairs)
    row[0], row[3], row[4] = n, 0.0, 0.0
    if n == 0:
        return
    w, ww, wy, total = 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        y, weight = pairs[k]
        w += weight
        ww += weight * weight
        wy += weight * y
        total += y
    mean, scatter, deviation = wy / w, 0.0, 0.0
    for k in range(n):
        difference = pairs[k, 0] - mean
        scatter += pairs[k, 1] * difference * difference
        deviation += abs(difference)
    variance = 1.0 / w
    if n > 1 and w * w > ww:  # unbiased weighted variance of the observations, over n
        variance = max(variance, w / (w * w - ww) * scatter / n)
    row[1], row[2], row[3], row[4] = mean, np.sqrt(variance), deviation, total


@njit(cache=True, nogil=True, error_model="numpy")
def _deal(pairs, weighted, draws, n_drawn, row):
    """Fill the halves, drawing without replacement; return how many random numbers are used up."""
    n = len(pairs)
    if n < 2:
        return n_drawn
    n_first = n // 2
    if n % 2:  # which half gets the odd one is drawn too
        n_first += draws[n_drawn] < 0.5
        n_drawn += 1
    for k in range(n_first):
        chosen = k + min(n - k - 1, int(draws[n_drawn] * (n - k)))
        n_drawn += 1
        for c in range(2):
            pairs[k, c], pairs[chosen, c] = pairs[chosen, c], pairs[k, c]
    for half in range(2):
        w, wy = 0.0, 0.0
        for k in range(half * n_first, n_first if half == 0 else n):
            weight = pairs[k, 1] if weighted else 1.0
            w += weight
            wy += weight * pairs[k, 0]
        row[5 + half] = wy / w
    return n_drawn
