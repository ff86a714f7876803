"""Free flags: a rule of the indices alone, blind to what symmetry or twinning relates."""

import gemmi
import numpy as np
import pytest

from ssx_processing.kernels.free_flags import N_SETS, TEST_SET, free_flags, lattice_rotations
from ssx_processing.kernels.symmetry import indexing_ambiguity_operators
from ssx_processing.models import UnitCell

FORMS: list[tuple[UnitCell, str]] = [
    ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2"),
    ((61.0, 61.0, 110.0, 90.0, 90.0, 120.0), "P 63"),
    ((93.0, 93.0, 131.0, 90.0, 90.0, 120.0), "R 3 :H"),
    ((68.0, 68.0, 68.0, 90.0, 90.0, 90.0), "I 2 3"),
    ((50.0, 60.0, 70.0, 90.0, 99.0, 90.0), "P 1 21 1"),
    ((50.0, 86.6, 70.0, 90.0, 90.2, 90.0), "C 1 2 1"),
    ((40.0, 50.0, 60.0, 80.0, 85.0, 95.0), "P 1"),
]
by_form = pytest.mark.parametrize(("cell", "space_group"), FORMS, ids=[name for _, name in FORMS])


def reflections(cell: UnitCell, space_group: str, d_min: float = 3.0) -> np.ndarray:
    return gemmi.make_miller_array(gemmi.UnitCell(*cell), gemmi.SpaceGroup(space_group), d_min)


@by_form
def test_equivalents_and_friedel_mates_share_a_flag(cell: UnitCell, space_group: str):
    hkl = reflections(cell, space_group)
    flags = free_flags(hkl, cell, space_group)
    for op in gemmi.SpaceGroup(space_group).operations().sym_ops:
        moved = np.array([op.apply_to_hkl(list(index)) for index in hkl.tolist()])
        assert np.array_equal(free_flags(moved, cell, space_group), flags)
        assert np.array_equal(free_flags(-moved, cell, space_group), flags)


@by_form
def test_other_ways_of_indexing_keep_the_flags(cell: UnitCell, space_group: str):
    hkl = reflections(cell, space_group)
    flags = free_flags(hkl, cell, space_group)
    for triplet in indexing_ambiguity_operators(cell, space_group):
        op = gemmi.Op(triplet)
        moved = np.array([op.apply_to_hkl(list(index)) for index in hkl.tolist()])
        assert np.array_equal(free_flags(moved, cell, space_group), flags), triplet


@by_form
def test_the_lattice_has_all_rotations_of_its_holohedry(cell: UnitCell, space_group: str):
    expected = {"P 43 21 2": 8, "P 63": 12, "R 3 :H": 6, "I 2 3": 24, "P 1 21 1": 2, "C 1 2 1": 12, "P 1": 1}
    assert len(lattice_rotations(cell, space_group)) == expected[space_group]


@by_form
def test_every_set_holds_about_a_twentieth(cell: UnitCell, space_group: str):
    hkl = reflections(cell, space_group, 2.0)
    flags = free_flags(hkl, cell, space_group)
    n_orbits = len(hkl) / len(lattice_rotations(cell, space_group))  # fewest independent draws
    counts = np.bincount(flags, minlength=N_SETS) / len(hkl)
    assert len(counts) == N_SETS
    assert np.abs(counts - 1 / N_SETS).max() < 5 * np.sqrt(1 / N_SETS / n_orbits)
    assert counts[TEST_SET] > 0.03


def test_a_slightly_different_cell_and_more_resolution_change_no_flag():
    low = reflections((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2", 4.0)
    high = reflections((79.4, 79.4, 38.1, 90.0, 90.0, 90.0), "P 43 21 2", 3.0)
    of_low = free_flags(low, (79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2")
    of_high = free_flags(high, (79.4, 79.4, 38.1, 90.0, 90.0, 90.0), "P 43 21 2")
    known = dict(zip(map(tuple, high.tolist()), of_high.tolist(), strict=True))
    assert [known[tuple(index)] for index in low.tolist()] == of_low.tolist()


def test_the_flags_are_those_of_every_earlier_version():
    """Models were refined against them: whoever changes this rule makes R-free of those models worthless."""
    cell = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
    hkl = np.array([[1, 0, 1], [2, 1, 3], [10, 4, 7], [25, 13, 11], [0, 0, 4], [40, 28, 19]])
    assert free_flags(hkl, cell, "P 43 21 2").tolist() == [10, 18, 5, 9, 3, 11]
