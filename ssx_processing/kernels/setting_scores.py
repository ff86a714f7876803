"""How well each lattice, indexed in each of K ways, agrees with all others: numba's part of `ambiguity`."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

SHRINKAGE = 1.0
"""Weight of the prior mean 0 in the reference: a reflection seen once counts half."""


@dataclass(frozen=True)
class SettingObservations:
    """Observations sorted by lattice; K ways of indexing."""

    offsets: NDArray[np.int64]
    """n_lattices + 1: lattice f owns the observations offsets[f] to offsets[f + 1] - 1."""
    uid: NDArray[np.int32]
    """(n_observations, K) unique reflection under each operator; none is -1."""
    value: NDArray[np.float64]
    """(n_observations,) normalised amplitudes of mean 0."""
    weight: NDArray[np.float64]
    """(n_observations,)."""

    @property
    def n_lattices(self) -> int:
        """Those without observations included."""
        return len(self.offsets) - 1

    @property
    def n_operators(self) -> int:
        """K."""
        return self.uid.shape[1]


@dataclass(frozen=True)
class SettingScores:
    """Agreement of each lattice with the reference."""

    cc: NDArray[np.float64]
    """(n_lattices, K) weighted correlation with the reference; 0 where undetermined."""
    best: NDArray[np.int64]
    """(n_lattices,) the operator of the largest."""
    margin: NDArray[np.float64]
    """(n_lattices,) by how much the claimed setting's is larger than the best of the others."""
    margin_z: NDArray[np.float64]
    """(n_lattices,) that in standard deviations, estimated without a model from the lattice itself."""


def reference_sums(
    observations: SettingObservations, setting: NDArray[np.int64], n_unique: int
) -> NDArray[np.float64]:
    """(n_unique, 2) sums of weight times value and of weight, each lattice in its setting; -1 is left out."""
    o = observations
    return _sums(o.offsets, o.uid, o.value, o.weight, setting, n_unique)


@njit(cache=True, nogil=True)
def _sums(offsets, uid, value, weight, setting, n_unique):
    table = np.zeros((n_unique, 2))
    for f in range(len(offsets) - 1):
        k = setting[f]
        if k < 0:
            continue
        for i in range(offsets[f], offsets[f + 1]):
            table[uid[i, k], 0] += weight[i] * value[i]
            table[uid[i, k], 1] += weight[i]
    return table


def score_settings(
    observations: SettingObservations,
    table: NDArray[np.float64],
    within: NDArray[np.int64] | None = None,
    claimed: NDArray[np.int64] | None = None,
    *,
    against_mean: bool = False,
) -> SettingScores:
    """Compare each lattice, in each setting, with the reference.

    Parameters
    ----------
    table : (n_unique, 2) array
        From `reference_sums`, or sums of these.
    within : (n_lattices,) array
        The setting in which a lattice is part of the reference: it is compared with all others; -1 or
        None where it is not part of it.
    claimed : (n_lattices,) array
        The setting whose margin is asked for, -1 for the best; by default `within`.
    against_mean
        Margins against the mean of the other settings, not the best of them: their expectation is 0 for
        settings that were claimed at random.
    """
    o = observations
    if within is None:
        within = np.full(o.n_lattices, -1)
    if claimed is None:
        claimed = within
    cc, margin, z = _scores(
        o.offsets, o.uid, o.value, o.weight, table.copy(), within, claimed, against_mean, SHRINKAGE
    )
    return SettingScores(cc, np.argmax(cc, axis=1).astype(np.int64), margin, z)


@njit(cache=True, nogil=True, error_model="numpy")
def _scores(offsets, uid, value, weight, table, within, claimed, against_mean, shrinkage):
    n_lattices, n_operators = len(offsets) - 1, uid.shape[1]
    cc, margin, z = np.zeros((n_lattices, n_operators)), np.zeros(n_lattices), np.zeros(n_lattices)
    sums = np.empty((n_operators, 3))
    for f in range(n_lattices):
        own = within[f]
        if own >= 0:
            for i in range(offsets[f], offsets[f + 1]):
                table[uid[i, own], 0] -= weight[i] * value[i]
                table[uid[i, own], 1] -= weight[i]
        sums[:] = 0.0
        n, vv = 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            v, w = value[i], weight[i]
            n, vv = n + w, vv + w * v * v
            for k in range(n_operators):
                u = uid[i, k]
                r = table[u, 0] / (table[u, 1] + shrinkage)
                sums[k, 0] += w * r
                sums[k, 1] += w * r * r
                sums[k, 2] += w * r * v
        for k in range(n_operators):
            spread = vv * (sums[k, 1] - sums[k, 0] ** 2 / n) if n > 0 else 0.0
            if spread > 0:
                cc[f, k] = sums[k, 2] / np.sqrt(spread)  # values have mean 0
        first = claimed[f] if claimed[f] >= 0 else np.argmax(cc[f])
        second = 1 if first == 0 else 0
        for k in range(n_operators):
            if k != first and cc[f, k] > cc[f, second]:
                second = k
        margin[f] = cc[f, first] - cc[f, second]
        if against_mean:
            margin[f] = (n_operators * cc[f, first] - cc[f].sum()) / (n_operators - 1)
        difference, variance = 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            here = table[uid[i, first], 0] / (table[uid[i, first], 1] + shrinkage)
            other = table[uid[i, second], 0] / (table[uid[i, second], 1] + shrinkage)
            if against_mean:
                other = -here
                for k in range(n_operators):
                    other += table[uid[i, k], 0] / (table[uid[i, k], 1] + shrinkage)
                other /= n_operators - 1
            d = weight[i] * value[i] * (here - other)
            difference, variance = difference + d, variance + d * d
        z[f] = difference / np.sqrt(variance) if variance > 0 else 0.0
        if own >= 0:
            for i in range(offsets[f], offsets[f + 1]):
                table[uid[i, own], 0] += weight[i] * value[i]
                table[uid[i, own], 1] += weight[i]
    return cc, margin, z
