"""Indexing ambiguity: simulated lattices, each indexed in a random way, come out in one setting."""

from typing import Any

import numpy as np
import pytest

from ssx_processing.kernels.ambiguity import ResolvedSettings, SettingReference, resolve_ambiguity
from ssx_processing.kernels.normalised_amplitudes import normalised_amplitudes
from ssx_processing.kernels.reindexing import composition_table, uid_by_operator
from ssx_processing.kernels.setting_scores import SettingObservations, reference_sums, score_settings
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.models import UnitCell
from ssx_processing.simulation.ambiguous_stills import (
    AmbiguousStills,
    ambiguous_stills,
    wilson_intensities,
)

HEXAGONAL: UnitCell = (61.0, 61.0, 95.0, 90.0, 90.0, 120.0)
CRYSTALS: list[tuple[str, UnitCell, int]] = [
    ("P 3", HEXAGONAL, 4),
    ("P 31 2 1", HEXAGONAL, 2),
    ("P 63", HEXAGONAL, 2),
    ("P 41", (78.0, 78.0, 66.0, 90.0, 90.0, 90.0), 2),
    ("I 2 3", (90.0, 90.0, 90.0, 90.0, 90.0, 90.0), 2),
    ("R 3:H", (90.0, 90.0, 120.0, 90.0, 90.0, 120.0), 2),
    ("R 3:R", (66.0, 66.0, 66.0, 80.0, 80.0, 80.0), 2),
    ("P 1 21 1", (60.0, 80.0, 70.0, 90.0, 90.15, 90.0), 2),
    ("C 1 2 1", (120.0, 60.0, 75.0, 90.0, 90.1, 90.0), 2),
    ("P 21 21 21", (70.0, 70.1, 90.0, 90.0, 90.0, 90.0), 2),
    ("P 1", (60.0, 65.0, 70.0, 90.0, 90.0, 90.0), 4),
    ("P 4", (78.0, 78.0, 78.1, 90.0, 90.0, 90.0), 6),
    ("P 1 2 1", (60.0, 60.0, 60.0, 90.0, 90.0, 90.0), 12),
]


def simulated(
    seed: int, group: str, cell: UnitCell, n_lattices: int = 100, **options: Any
) -> AmbiguousStills:
    return ambiguous_stills(
        np.random.default_rng(seed),
        unit_cell=cell,
        space_group=group,
        n_lattices=n_lattices,
        **{"d_min": 2.4, "max_obliquity_deg": 0.5, **options},
    )


def observations_of(stills: AmbiguousStills) -> SettingObservations:
    uid = uid_by_operator(stills.hkl, stills.unit, stills.operators)
    s_squared = stills.unit.s_squared[np.maximum(uid[:, 0], 0)]
    value, weight = normalised_amplitudes(
        stills.offsets, s_squared, stills.intensity, stills.noise_variance, stills.factor
    )
    return SettingObservations(stills.offsets, uid, value, weight)


def resolved(stills: AmbiguousStills, reference: SettingReference | None = None) -> ResolvedSettings:
    composition = composition_table(stills.operators, stills.unit.space_group)
    return resolve_ambiguity(observations_of(stills), len(stills.unit), composition, reference)


def is_right(stills: AmbiguousStills, setting: np.ndarray) -> np.ndarray:
    """Up to one renaming of all settings."""
    composition = composition_table(stills.operators, stills.unit.space_group)
    return max((composition[stills.setting, r] == setting for r in range(len(composition))), key=np.sum)


@pytest.mark.parametrize(("group", "cell", "n_ways"), CRYSTALS, ids=[group for group, _, _ in CRYSTALS])
def test_lattices_come_out_in_one_setting(group: str, cell: UnitCell, n_ways: int):
    stills = simulated(1, group, cell)
    assert len(stills.operators) == n_ways
    found = resolved(stills)
    assert found.resolved
    assert is_right(stills, found.setting).mean() >= 0.99


def test_wrong_settings_of_weak_lattices_have_small_margins():
    stills = simulated(2, "P 63", HEXAGONAL, 400, strength=15.0)
    found = resolved(stills)
    right = is_right(stills, found.setting)
    assert 0.9 < right.mean() < 0.995
    assert right[found.margin_z > 2].mean() > 0.995
    assert np.median(found.margin_z[~right]) < 0.5 * np.median(found.margin_z[right])


def test_most_lattices_stay_as_they_were_indexed():
    stills = simulated(3, "P 63", HEXAGONAL, shares=(0.3, 0.7))
    found = resolved(stills)
    np.testing.assert_array_equal(found.setting, 1 - stills.setting)


def test_a_reference_decides_what_the_settings_are_called():
    first = simulated(4, "P 63", HEXAGONAL)
    second = simulated(5, "P 63", HEXAGONAL, 60, shares=(0.2, 0.8), truth=first.truth)
    sums = reference_sums(observations_of(first), first.setting, len(first.unit))
    alone, followed = resolved(second), resolved(second, SettingReference(sums))
    assert followed.followed
    np.testing.assert_array_equal(followed.setting, second.setting)
    np.testing.assert_array_equal(alone.setting, 1 - second.setting)


def test_a_reference_settles_even_a_single_lattice():
    first = simulated(4, "P 3", HEXAGONAL, 400)
    one = simulated(6, "P 3", HEXAGONAL, 1, truth=first.truth)
    sums = reference_sums(observations_of(first), first.setting, len(first.unit))
    np.testing.assert_array_equal(resolved(one, SettingReference(sums)).setting, one.setting)


def test_a_reference_of_another_crystal_is_not_followed():
    first, second = simulated(4, "P 63", HEXAGONAL), simulated(5, "P 63", HEXAGONAL)
    sums = reference_sums(observations_of(first), first.setting, len(first.unit))
    found = resolved(second, SettingReference(sums))
    assert found.resolved
    assert not found.followed
    assert is_right(second, found.setting).all()


@pytest.mark.parametrize("group", ["P 63", "P 3"])
def test_perfectly_twinned_crystals_are_not_resolved(group: str):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        unit = asymmetric_unit(HEXAGONAL, group, 2.4)
        operators = simulated(0, group, HEXAGONAL, 1).operators
        twin = wilson_intensities(rng, unit, 1000.0)[uid_by_operator(unit.hkl, unit, operators)].mean(axis=1)
        stills = simulated(seed, group, HEXAGONAL, 150, truth=twin)
        found = resolved(stills)
        assert not found.resolved
        assert not found.setting.any()


def test_ways_that_a_higher_symmetry_makes_equal_do_not_hide_the_others():
    unit = asymmetric_unit(HEXAGONAL, "P 3", 2.4)
    stills = simulated(0, "P 3", HEXAGONAL, 1)
    of_operator = uid_by_operator(unit.hkl, unit, stills.operators)
    truth = wilson_intensities(np.random.default_rng(0), unit, 1000.0)[of_operator[:, :2]].mean(axis=1)
    stills = simulated(7, "P 3", HEXAGONAL, 150, truth=truth)
    found = resolved(stills)
    assert found.resolved
    composition = composition_table(stills.operators, "P 3")
    names = [composition[stills.setting, r] for r in range(4)]
    equal = [(name == found.setting) | (composition[name, 1] == found.setting) for name in names]
    assert max(e.mean() for e in equal) >= 0.99


def test_the_order_of_lattices_does_not_matter():
    stills = simulated(8, "P 41", (78.0, 78.0, 66.0, 90.0, 90.0, 90.0), 80)
    o = observations_of(stills)
    order = np.random.default_rng(0).permutation(o.n_lattices)
    which = np.concatenate([np.arange(int(o.offsets[f]), int(o.offsets[f + 1])) for f in order])
    offsets = np.concatenate([[0], np.cumsum(np.diff(o.offsets)[order])]).astype(np.int64)
    other = SettingObservations(offsets, o.uid[which], o.value[which], o.weight[which])
    composition = composition_table(stills.operators, "P 41")
    found, again = (resolve_ambiguity(x, len(stills.unit), composition) for x in (o, other))
    np.testing.assert_array_equal(again.setting, found.setting[order])


def test_how_lattices_were_indexed_does_not_matter():
    stills = simulated(11, "P 3", HEXAGONAL, 60)
    other = np.random.default_rng(1).integers(0, 4, 60)
    composition = composition_table(stills.operators, "P 3")
    o = observations_of(stills)
    of_observation = np.repeat(other, np.diff(o.offsets))
    # each lattice reindexed by another operator: under k it is what it was under that one followed by k
    uid = np.take_along_axis(o.uid, composition[of_observation], axis=1)
    found, again = (
        resolve_ambiguity(x, len(stills.unit), composition)
        for x in (o, SettingObservations(o.offsets, uid, o.value, o.weight))
    )
    assert again.significance == pytest.approx(found.significance)
    assert len(set(zip(found.setting, composition[other, again.setting], strict=True))) == 4


def test_a_lattice_is_compared_with_all_others_only():
    stills = simulated(9, "P 63", HEXAGONAL, 12)
    o, n = observations_of(stills), len(stills.unit)
    scores = score_settings(o, reference_sums(o, stills.setting, n), stills.setting)
    for f in range(o.n_lattices):
        others = stills.setting.copy()
        others[f] = -1
        sums = reference_sums(o, others, n)
        mean = sums[:, 0] / (sums[:, 1] + 1.0)
        mine = slice(o.offsets[f], o.offsets[f + 1])
        w, v = o.weight[mine], o.value[mine]
        for k in range(2):
            r = mean[o.uid[mine, k]]
            r = r - np.average(r, weights=w)
            cc = np.sum(w * v * r) / np.sqrt(np.sum(w * v**2) * np.sum(w * r**2))
            assert scores.cc[f, k] == pytest.approx(cc, abs=1e-9)


def test_normalised_amplitudes_do_not_depend_on_scale_and_temperature_factor():
    stills = simulated(10, "P 63", HEXAGONAL, 60)
    o = observations_of(stills)
    s_squared = stills.unit.s_squared[o.uid[:, 0]]
    lattice = np.repeat(np.arange(60), np.diff(o.offsets))
    scale = np.where(lattice == 5, 3.0 * np.exp(-2 * 8.0 * s_squared), 1.0)
    value, _ = normalised_amplitudes(
        o.offsets, s_squared, scale * stills.intensity, scale**2 * stills.noise_variance, stills.factor
    )
    assert np.corrcoef(value[lattice == 5], o.value[lattice == 5])[0, 1] > 0.99
    assert np.abs(np.bincount(lattice, o.weight * o.value)).max() < 1e-9
