"""The setting of each lattice where a crystal can be indexed in several ways that its symmetry tells apart.

First some lattices by their correlations with each other, then all by their correlations with what is
merged so far, each left out of what it is compared with, until none changes. Whether there is anything
to tell is judged on reflections that the settings were not chosen with.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.setting_embedding import guessed_settings
from ssx_processing.kernels.setting_scores import (
    SettingObservations,
    SettingScores,
    reference_sums,
    score_settings,
)

N_SEED_ROWS = 6000
"""Lattices times settings that are compared with each other at first."""
N_SEED_LATTICES = 1000
"""But not more lattices than this."""
MIN_SIGNIFICANCE = 4.0
"""Standard deviations by which settings chosen on some reflections must be better on others."""
_N_GUESS_CYCLES, _N_CYCLES = 15, 20
_TESTED_PART = 3  # one of so many reflections is kept for the test


@dataclass(frozen=True)
class SettingReference:
    """Normalised amplitudes that settle what the settings are called."""

    sums: NDArray[np.float64]
    """(n_unique, 2): sum of weight times amplitude (mean 0), and of weight; 0 where unknown."""
    independent: bool = True
    """Whether none of the lattices is part of it; if one is, it decides on names only."""

    @property
    def to_add(self) -> NDArray[np.float64]:
        """What it adds to the sums of the lattices."""
        return self.sums if self.independent else np.zeros_like(self.sums)


@dataclass(frozen=True)
class ResolvedSettings:
    """Which operator brings each lattice into the common setting."""

    setting: NDArray[np.int64]
    """(n_lattices,) operator; 0 for all if not resolved."""
    margin: NDArray[np.float64]
    """(n_lattices,) correlation with all others less that in the next best setting."""
    margin_z: NDArray[np.float64]
    """(n_lattices,) the margin in standard deviations."""
    resolved: bool
    """Whether the settings can be told apart at all."""
    significance: float
    """Standard deviations by which the settings are better on reflections they were not chosen with."""
    agreement: float
    """Fraction of the lattices that these reflections alone put in the same setting."""
    followed: bool
    """Whether the reference given decided what the settings are called."""
    sums: NDArray[np.float64]
    """(n_unique, 2) as in `SettingReference`, of these lattices alone."""


def resolve_ambiguity(
    observations: SettingObservations,
    n_unique: int,
    composition: NDArray[np.int64],
    reference: SettingReference | None = None,
) -> ResolvedSettings:
    """Choose the setting of each lattice; the same for the same observations, in any circumstances.

    Without a reference the most lattices stay as they were indexed.

    Parameters
    ----------
    n_unique
        Unique reflections that ``observations.uid`` can name.
    composition : (K, K) array
        From `ssx_processing.kernels.reindexing.composition_table`.
    reference
        Its setting is taken, if the lattices agree with it in one setting better than in the others.
    """
    o = _complete(observations)
    n = o.n_lattices
    information = np.bincount(_lattices(o), o.weight * np.abs(o.value), n)
    n_seed = min(N_SEED_LATTICES, max(N_SEED_ROWS // o.n_operators, 2))
    seed = np.sort(np.argsort(-information, kind="stable")[:n_seed])
    some = _selected(o, seed)
    if reference is not None:
        significance, agreement = _reference_test(some, reference.sums)
        if significance >= MIN_SIGNIFICANCE:
            setting = _following(o, seed, some, n_unique, composition, reference)
            return _result(o, setting, n_unique, reference, significance, agreement)
    significance, agreement = _cross_test(some, n_unique, composition)
    if significance < MIN_SIGNIFICANCE:
        return _unresolved(o, n_unique, significance, agreement)
    start = _best_start(some, guessed_settings(some, n_unique, composition), n_unique)
    setting = _extended(o, seed, start, n_unique)
    return _result(o, _most_as_indexed(setting, composition), n_unique, None, significance, agreement)


def _following(
    o: SettingObservations,
    seed: NDArray[np.int64],
    some: SettingObservations,
    n_unique: int,
    composition: NDArray[np.int64],
    reference: SettingReference,
) -> NDArray[np.int64]:
    """Settings that are called as the reference calls them."""
    known, added = reference.sums, reference.to_add
    guesses = [
        score_settings(some, known).best,
        *(
            _named_like(known, some, guess, composition)
            for guess in guessed_settings(some, n_unique, composition)
        ),
    ]
    setting = _extended(o, seed, _best_start(some, guesses, n_unique, added), n_unique, added)
    return _named_like(known, o, setting, composition)


def _result(
    o: SettingObservations,
    setting: NDArray[np.int64],
    n_unique: int,
    reference: SettingReference | None,
    significance: float,
    agreement: float,
) -> ResolvedSettings:
    sums = reference_sums(o, setting, n_unique)
    scores = score_settings(o, sums if reference is None else sums + reference.to_add, setting)
    return ResolvedSettings(
        setting=setting,
        margin=scores.margin,
        margin_z=scores.margin_z,
        resolved=True,
        significance=significance,
        agreement=agreement,
        followed=reference is not None,
        sums=sums,
    )


def _unresolved(
    o: SettingObservations, n_unique: int, significance: float, agreement: float
) -> ResolvedSettings:
    setting = np.zeros(o.n_lattices, np.int64)
    nothing = np.full(o.n_lattices, np.nan)
    sums = reference_sums(o, setting, n_unique)
    return ResolvedSettings(setting, nothing, nothing, False, significance, agreement, False, sums)


def _extended(
    o: SettingObservations,
    seed: NDArray[np.int64],
    start: NDArray[np.int64],
    n_unique: int,
    known: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Settings of all lattices from those of some."""
    setting = np.full(o.n_lattices, -1)
    setting[seed] = start
    return _refined(o, setting, n_unique, known, _N_CYCLES)[0]


def _best_start(
    o: SettingObservations,
    guesses: Iterable[NDArray[np.int64]],
    n_unique: int,
    known: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Of several guesses, each refined, the one whose lattices agree best."""
    refined = [_refined(o, guess, n_unique, known, _N_GUESS_CYCLES) for guess in guesses]
    agreement = [scores.cc.max(axis=1).mean() for _, scores in refined]
    return refined[int(np.argmax(agreement))][0]


def _refined(
    o: SettingObservations,
    setting: NDArray[np.int64],
    n_unique: int,
    known: NDArray[np.float64] | None,
    n_cycles: int,
) -> tuple[NDArray[np.int64], SettingScores]:
    """Give each lattice the setting that agrees best with all others, until none changes."""
    for cycle in range(n_cycles):
        sums = reference_sums(o, setting, n_unique)
        scores = score_settings(o, sums if known is None else sums + known, setting)
        if np.array_equal(scores.best, setting) or cycle == n_cycles - 1:
            return scores.best, scores
        setting = scores.best
    raise ValueError("at least one cycle is needed")


def _named_like(
    known: NDArray[np.float64],
    o: SettingObservations,
    setting: NDArray[np.int64],
    composition: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The same settings under the names that agree with the reference best."""
    cc, rows = score_settings(o, known).cc, np.arange(o.n_lattices)
    possible = [r for r in range(len(composition)) if composition[0, r] >= 0]
    return max((composition[setting, r] for r in possible), key=lambda names: cc[rows, names].sum())


def _most_as_indexed(setting: NDArray[np.int64], composition: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same settings under other names, so that most lattices stay as they were indexed."""
    kept = [int((composition[setting, r] == 0).sum()) for r in range(len(composition))]
    return composition[setting, int(np.argmax(kept))]


def _cross_test(o: SettingObservations, n_unique: int, composition: NDArray[np.int64]) -> tuple[float, float]:
    """How much better settings are that were chosen with two thirds of the reflections, on the rest.

    Returns
    -------
    significance, agreement
        Mean margin in standard deviations of that mean, and the fraction of lattices with a positive one.
    """
    chosen, tested = _parts(o)
    setting = _best_start(chosen, guessed_settings(chosen, n_unique, composition), n_unique)
    scores = score_settings(tested, reference_sums(tested, setting, n_unique), setting, against_mean=True)
    # each pair of lattices speaks twice
    return _significance(scores) / np.sqrt(2), float(np.mean(scores.margin_z > 0))


def _reference_test(o: SettingObservations, known: NDArray[np.float64]) -> tuple[float, float]:
    """The same with the settings, and the test, from a reference that these lattices are not part of."""
    chosen, tested = _parts(o)
    claimed = score_settings(chosen, known).best
    scores = score_settings(tested, known, claimed=claimed, against_mean=True)
    return _significance(scores), float(np.mean(scores.margin_z > 0))


def _significance(scores: SettingScores) -> float:
    return float(scores.margin_z.sum() / np.sqrt(max(len(scores.margin_z), 1)))


def _parts(o: SettingObservations) -> tuple[SettingObservations, SettingObservations]:
    """Observations of two thirds of the reflections and of the rest, all settings of one kept together."""
    orbit = o.uid.min(axis=1).astype(np.uint64)
    tested: NDArray[np.bool_] = ((orbit * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(
        _TESTED_PART
    ) == 0
    return _kept(o, np.logical_not(tested)), _kept(o, tested)


def _complete(o: SettingObservations) -> SettingObservations:
    """Without observations that have no unique reflection in some setting."""
    return _kept(o, o.uid.min(axis=1, initial=0) >= 0)


def _kept(o: SettingObservations, keep: NDArray[np.bool_]) -> SettingObservations:
    """Some observations, their mean in each lattice 0 again."""
    lattice = _lattices(o)[keep]
    value, weight = o.value[keep], o.weight[keep]
    total = np.bincount(lattice, weight, o.n_lattices)
    mean = np.bincount(lattice, weight * value, o.n_lattices) / np.where(total > 0, total, 1.0)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(lattice, minlength=o.n_lattices))])
    return SettingObservations(offsets.astype(np.int64), o.uid[keep], value - mean[lattice], weight)


def _selected(o: SettingObservations, lattices: NDArray[np.int64]) -> SettingObservations:
    """Some lattices, in order."""
    if len(lattices) == o.n_lattices:
        return o
    keep = np.isin(_lattices(o), lattices)
    offsets = np.concatenate([[0], np.cumsum(np.diff(o.offsets)[lattices])]).astype(np.int64)
    return SettingObservations(offsets, o.uid[keep], o.value[keep], o.weight[keep])


def _lattices(o: SettingObservations) -> NDArray[np.int64]:
    return np.repeat(np.arange(o.n_lattices), np.diff(o.offsets))
