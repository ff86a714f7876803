"""Merging of scaled observations into sums that can be added in any order.

The weight of an observation comes from the variance that the merged intensity leads one to expect,
never from its own intensity: partial stills scatter by as much as they measure, and 1/sigma² would
favour the weak partials (docs/explanations/decisions/0006-weights-in-merging.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

N, W, WY, WW, WWY, WWYY, FULL = range(7)
"""Last index of the sums: count, w, w y, w², w² y, w² y² (y scaled intensity, w 1 over its variance), and
(P g)², g at most 2: so many full observations of an average lattice would tell as much."""
STRONGEST_LATTICE = 2.0
"""The strongest lattices are not believed to tell more than one of this scale."""
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
"""The part of fastmath that leaves tests for nan and infinity intact."""


def in_memory(dtype: Any, n: int, *shape: int) -> NDArray[Any]:
    """Zeros, (n, *shape)."""
    return np.zeros((n, *shape), dtype)


@dataclass(frozen=True)
class Observations:
    """Observations sorted by lattice; arrays of n_observations unless said otherwise."""

    offsets: NDArray[np.int64]
    """n_lattices + 1: lattice f owns the observations offsets[f] to offsets[f + 1] - 1."""
    uid: NDArray[np.int32]
    """Unique reflection: an index into the asymmetric unit's table; -1: not to be merged."""
    intensity: NDArray[np.float32]
    """Photons."""
    noise_variance: NDArray[np.float32]
    """Variance in photons² that the observation would have at zero intensity; positive."""
    excitation_error: NDArray[np.float32]
    """1/Å; 0 where nothing is known of it."""
    excitation_sigma: NDArray[np.float32]
    """Rocking width stated for it, 1/Å; positive, the same everywhere if nothing is known."""
    turn_slopes: NDArray[np.float32]
    """(n_observations, 2) change of the excitation error with turns of the crystal about x and y, 1/Å per
    radian; (0, 2) where crystals are not to be turned."""
    new_array: Callable[..., NDArray[Any]] = in_memory
    """Like `in_memory`: where memory would not do, whoever reads observations says where arrays are kept."""

    def array(self, dtype: Any) -> NDArray[Any]:
        """(n_observations,) zeros, kept where the observations are."""
        return self.new_array(dtype, len(self.uid))

    @property
    def n_lattices(self) -> int:
        """Number of lattices, those without observations included."""
        return len(self.offsets) - 1

    def lattice_of_observation(self) -> NDArray[np.int64]:
        """Index of the lattice of each observation."""
        return np.repeat(np.arange(self.n_lattices), np.diff(self.offsets))

    def typical_sigma(self) -> float:
        """Rocking width at which an observation is taken as it is, 1/Å."""
        first = self.excitation_sigma[:_TYPICAL][self.uid[:_TYPICAL] >= 0]
        return float(np.median(first)) if len(first) else 1.0

    def with_uid(self, uid: NDArray[np.int32]) -> "Observations":
        """The same observations of other reflections."""
        return replace(self, uid=uid)

    def of_lattices(self, lattices: NDArray[np.int64]) -> "Observations":
        """Those of some lattices, in their order."""
        n = np.diff(self.offsets)[lattices]
        rows = np.repeat(self.offsets[lattices] - np.concatenate([[0], np.cumsum(n)[:-1]]), n)
        rows += np.arange(len(rows))
        slopes = self.turn_slopes[rows] if len(self.turn_slopes) else self.turn_slopes
        return Observations(
            np.concatenate([[0], np.cumsum(n)]), self.uid[rows], self.intensity[rows],
            self.noise_variance[rows], self.excitation_error[rows], self.excitation_sigma[rows], slopes,
        )  # fmt: skip


_TYPICAL = 1_000_000  # observations that say what is typical


@dataclass(frozen=True)
class Scales:
    """Scale and verdict of each lattice; every array has n_lattices elements."""

    log_g: NDArray[np.float64]
    """ln g; mean 0 over accepted lattices."""
    b_factor: NDArray[np.float64]
    """Relative B in Å²; mean 0 over accepted lattices."""
    turns: NDArray[np.float64]
    """(n_lattices, 2) turns about x and y found from intensities, radians; 0 where not refined."""
    log_width: NDArray[np.float64]
    """ln of the rocking width relative to the stated one; 0 where not refined."""
    cc: NDArray[np.float64]
    """Correlation with all other observations, resolution fall-off taken out; nan if undetermined."""
    n_shared: NDArray[np.int64]
    """Observations of reflections that were seen elsewhere too."""
    verdict: NDArray[np.uint8]
    """`still_sweep.ACCEPTED`, BAD_SCALE or LOW_CC."""

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which lattices are merged."""
        return self.verdict == 0


@dataclass(frozen=True)
class Reference:
    """Weighted means and what each observation put into them, so that it can be taken out again."""

    table: NDArray[np.float64]
    """(n_unique, 2): sum of w, sum of w y."""
    n: NDArray[np.int64]
    """(n_unique,) observations merged."""
    scaled: NDArray[np.float32]
    """(n_observations,) y = I / (k P); of no meaning where not merged."""
    weight: NDArray[np.float32]
    """(n_observations,) w, 1 over the variance of y; 0 where not merged."""
    partiality: NDArray[np.float32]
    """(n_observations,) P."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """(n_unique,) merged intensity; nan where nothing was merged."""
        return ratio(self.table[:, 1], self.table[:, 0])


@dataclass(frozen=True)
class Estimate:
    """Merged intensities; every array has n_unique elements, nan where nothing was observed."""

    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    """The larger of the two below."""
    sigma_internal: NDArray[np.float64]
    """From the error model."""
    sigma_external: NDArray[np.float64]
    """From the scatter of the observations; nan for a single one."""
    n: NDArray[np.int64]
    """Observations merged."""


def merge_sums(
    observations: Observations,
    reference: Reference,
    *,
    log_g: NDArray[np.float64],
    friedel_minus: NDArray[np.uint8],
    half: NDArray[np.uint8],
    included: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Sums from which merged intensities, Friedel mates and half sets all follow.

    They may be added over any partition of the lattices; see `estimate`.

    Parameters
    ----------
    log_g : (n_lattices,) array
        ln of each lattice's scale.
    friedel_minus : (n_observations,) array
        1 where the observation is a Friedel mate of the asymmetric unit's reflection.
    half : (n_lattices,) array
        0 or 1.
    included : (n_lattices,) array
        Of which lattices; by default all.

    Returns
    -------
    (n_unique, 2, 2, 7) array
        Reflection, Friedel sign, half, and the sums N, W, WY, WW, WWY, WWYY, FULL.
    """
    return _merge_sums(
        observations.offsets,
        observations.uid,
        reference.scaled,
        reference.weight,
        full_observations(observations, reference, log_g),
        friedel_minus,
        half,
        np.ones(observations.n_lattices, np.bool_) if included is None else included,
        len(reference.n),
    )


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _merge_sums(offsets, uid, scaled, weight, full, friedel_minus, half, included, n_unique):
    sums = np.zeros((n_unique, 2, 2, 7))
    for f in range(len(offsets) - 1):
        if not included[f]:
            continue
        for i in range(offsets[f], offsets[f + 1]):
            w, y = np.float64(weight[i]), np.float64(scaled[i])
            if w > 0.0:
                cell = sums[uid[i], friedel_minus[i], half[f]]
                cell[0] += 1.0
                cell[1] += w
                cell[2] += w * y
                cell[3] += w * w
                cell[4] += w * w * y
                cell[5] += w * w * y * y
                cell[6] += full[i]
    return sums


def full_observations(
    observations: Observations, reference: Reference, log_g: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(n_observations,) as how much of a full observation of an average lattice each counts, see `FULL`."""
    g, full = np.minimum(np.exp(log_g), STRONGEST_LATTICE).astype(np.float32), observations.array(np.float32)
    _write_full(observations.offsets, g, reference.partiality, full)
    return full


@njit(cache=True, nogil=True)
def _write_full(offsets, g, partiality, out):
    for f in range(len(offsets) - 1):
        for i in range(offsets[f], offsets[f + 1]):
            x = g[f] * partiality[i]
            out[i] = x * x


def merged_per_lattice(observations: Observations, reference: Reference) -> NDArray[np.int64]:
    """(n_lattices,) observations of each lattice that are merged."""
    return _count_above(observations.offsets, reference.weight, 0.0)


def usable_per_lattice(observations: Observations) -> NDArray[np.int64]:
    """(n_lattices,) observations of each lattice that may be merged."""
    return _count_above(observations.offsets, observations.uid, -1)


@njit(cache=True, nogil=True)
def _count_above(offsets, values, limit):
    n = np.zeros(len(offsets) - 1, np.int64)
    for f in range(len(n)):
        for i in range(offsets[f], offsets[f + 1]):
            n[f] += values[i] > limit
    return n


def estimate(
    sums: NDArray[np.float64],
    variance_factor: NDArray[np.float64] | None = None,
    min_full: float = 0.0,
) -> Estimate:
    """Weighted means and their standard errors.

    Internal variance 1 / W and external variance sum(w² (y - mean)²) / W² n / (n - 1).

    Parameters
    ----------
    sums : (n_unique, 7) array
        `merge_sums` added over Friedel signs and halves, or one of them.
    variance_factor : (n_unique,) array
        The variances of the error model are to be multiplied by it.
    min_full
        Reflections whose observations tell less than so many full ones are not determined: nan.

    Examples
    --------
    Two observations of equal weight:

    >>> y, w = np.array([3.0, 5.0]), np.array([1.0, 1.0])
    >>> sums = [[2, w.sum(), w @ y, w @ w, w**2 @ y, w**2 @ y**2, 2.0]]
    >>> merged = estimate(np.array(sums))
    >>> float(merged.intensity[0]), float(merged.sigma_external[0])
    (4.0, 1.0)
    """
    sums = np.where((sums[:, FULL] >= min_full)[:, None], sums, 0.0)
    total = sums[:, W]
    mean = ratio(sums[:, WY], total)
    factor = np.ones(len(total)) if variance_factor is None else variance_factor
    internal = np.sqrt(ratio(factor, total))
    scatter = np.maximum(sums[:, WWYY] - 2 * mean * sums[:, WWY] + mean**2 * sums[:, WW], 0.0)
    external = np.sqrt(ratio(scatter * sums[:, N], total**2 * (sums[:, N] - 1)))
    return Estimate(mean, np.fmax(internal, external), internal, external, sums[:, N].astype(np.int64))


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numerator / denominator; nan where the denominator is not positive."""
    result = np.full(len(denominator), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
