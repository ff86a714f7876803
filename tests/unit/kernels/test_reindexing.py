"""Other ways to index a lattice: how many there are, and what they do to reflections."""

import gemmi
import numpy as np
import pytest

from ssx_processing.kernels.reindexing import (
    IDENTITY,
    composition_table,
    inverse_reindexed,
    product_table,
    reindexed,
    uid_by_operator,
)
from ssx_processing.kernels.symmetry import asymmetric_unit, indexing_ambiguity_operators
from ssx_processing.models import UnitCell

LAUE_ORDER = {
    "-1": 1, "2/m": 2, "mmm": 4, "4/m": 4, "4/mmm": 8, "-3": 3, "-3m": 6, "6/m": 6, "6/mmm": 12, "m-3": 12,
    "m-3m": 24,
}  # fmt: skip
"""Rotations of each Laue class."""
LATTICE_ORDER = {
    "triclinic": 1, "monoclinic": 2, "orthorhombic": 4, "tetragonal": 8, "trigonal": 12, "hexagonal": 12,
    "cubic": 24,
}  # fmt: skip
"""Rotations of a lattice with no more symmetry than the crystal system demands."""
CELLS: dict[str, UnitCell] = {
    "triclinic": (50, 60, 70, 80, 95, 103),
    "monoclinic": (50, 60, 70, 90, 103, 90),
    "orthorhombic": (50, 61, 75, 90, 90, 90),
    "tetragonal": (50, 50, 83, 90, 90, 90),
    "trigonal": (50, 50, 83, 90, 90, 120),
    "hexagonal": (50, 50, 83, 90, 90, 120),
    "cubic": (50, 50, 50, 90, 90, 90),
}
CHIRAL = [
    group
    for group in gemmi.spacegroup_table()
    if group.is_sohncke() and (group.is_reference_setting() or group.ext == "R")
]
SPECIAL_METRICS: list[tuple[str, UnitCell, int]] = [
    ("P 1 21 1", (50, 60, 70, 90, 90.1, 90), 2),
    ("P 1 21 1", (50, 60, 70, 90, 91.5, 90), 1),
    ("P 1 21 1", (50, 60, 50.05, 90, 104, 90), 2),
    ("P 1 2 1", (50, 70, 50, 90, 120, 90), 6),
    ("C 1 2 1", (100, 60, 50, 90, 90.1, 90), 2),
    ("P 21 21 21", (50, 50.1, 70, 90, 90, 90), 2),
    ("P 21 21 21", (50, 50.1, 50.1, 90, 90, 90), 6),
    ("C 2 2 21", (50, 50 * 3**0.5, 70, 90, 90, 90), 3),
    ("P 4", (50, 50, 50.1, 90, 90, 90), 6),
    ("R 3:R", (50, 50, 50, 90, 90, 90), 8),
    ("P 1", (50, 60, 70, 90, 90, 90), 4),
    ("P 1", (50, 50, 50, 90, 90, 90), 24),
]


def operators_of(cell: UnitCell, group: str) -> tuple[str, ...]:
    return IDENTITY, *indexing_ambiguity_operators(cell, group, 0.5)


def metric_ratio(group: gemmi.SpaceGroup) -> int:
    lattice = 6 if group.xhm().startswith("R") else LATTICE_ORDER[group.crystal_system_str()]
    return lattice // LAUE_ORDER[group.laue_str()]


@pytest.mark.parametrize("group", CHIRAL, ids=lambda group: group.xhm())
def test_ways_to_index_are_those_of_group_theory(group: gemmi.SpaceGroup):
    cell = (50, 50, 50, 80, 80, 80) if group.ext == "R" else CELLS[group.crystal_system_str()]
    assert len(operators_of(cell, group.xhm())) == metric_ratio(group)


def test_all_chiral_space_groups_are_looked_at():
    assert len({group.number for group in CHIRAL}) == 65


@pytest.mark.parametrize(("group", "cell", "n_ways"), SPECIAL_METRICS)
def test_special_metrics_add_ways_to_index(group: str, cell: UnitCell, n_ways: int):
    assert len(operators_of(cell, group)) == n_ways


@pytest.mark.parametrize(
    ("group", "cell"), [(g, c) for g, c, _ in SPECIAL_METRICS] + [("I 4", (60, 60, 90, 90, 90, 90))]
)
def test_unique_reflections_under_operators_are_those_of_reindexed_hkl(group: str, cell: UnitCell):
    unit, operators = asymmetric_unit(cell, group, 5.0), operators_of(cell, group)
    hkl = gemmi.make_miller_array(gemmi.UnitCell(*cell), gemmi.SpaceGroup(group), 6.0, unique=False)
    uid = uid_by_operator(hkl, unit, operators)
    for k, operator in enumerate(operators):
        np.testing.assert_array_equal(uid[:, k], unit.find(*reindexed(hkl, operator).T)[0])
        np.testing.assert_array_equal(inverse_reindexed(reindexed(hkl, operator), operator), hkl)
        assert len(np.unique(uid[:, k])) == len(np.unique(uid[:, 0]))


@pytest.mark.parametrize(("group", "cell"), [("P 3", CELLS["trigonal"]), ("P 4", (50, 50, 50.1, 90, 90, 90))])
def test_composition_is_one_operator_after_the_other(group: str, cell: UnitCell):
    unit, operators = asymmetric_unit(cell, group, 5.0), operators_of(cell, group)
    hkl = gemmi.make_miller_array(gemmi.UnitCell(*cell), gemmi.SpaceGroup(group), 6.0, unique=False)
    table = composition_table(operators, group)
    for r in np.flatnonzero(table[0] >= 0):
        for i, operator in enumerate(operators):
            both = reindexed(reindexed(hkl, operator), operators[r])
            once = reindexed(hkl, operators[table[i, r]])
            np.testing.assert_array_equal(unit.find(*both.T)[0], unit.find(*once.T)[0])


def test_products_are_found_where_some_break_the_symmetry():
    cell: UnitCell = (50, 50, 50.1, 90, 90, 90)
    unit, operators = asymmetric_unit(cell, "P 4", 5.0), operators_of(cell, "P 4")
    hkl = gemmi.make_miller_array(gemmi.UnitCell(*cell), gemmi.SpaceGroup("P 4"), 6.0, unique=False)
    table = product_table(operators, operators, operators, "P 4")
    for i, first in enumerate(operators):
        for j, second in enumerate(operators):
            both = reindexed(reindexed(hkl, first), second)
            once = reindexed(hkl, operators[table[i, j]])
            np.testing.assert_array_equal(unit.find(*both.T)[0], unit.find(*once.T)[0])


def test_merged_data_are_not_reindexed_by_what_breaks_their_symmetry():
    operators = operators_of((50, 50, 50.1, 90, 90, 90), "P 4")
    kept = [operators[r] for r in np.flatnonzero(composition_table(operators, "P 4")[0] >= 0)]
    assert len(kept) == 2  # of the six only those that leave c where it is
