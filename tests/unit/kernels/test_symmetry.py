"""Asymmetric-unit table against gemmi, for every space group a protein can have."""

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.kernels.symmetry import (
    asymmetric_unit,
    indexing_ambiguity_operators,
    symmetrised_cell,
)
from ssx_processing.models import UnitCell

SOHNCKE = sorted({group.number for group in gemmi.spacegroup_table() if group.is_sohncke()})
OTHER_SETTINGS = ["R 3:R", "R 3 2:R", "I 1 2 1", "P 1 1 21", "A 1 2 1", "P 2 21 21", "B 1 1 2"]
CELL_OF_SYSTEM: dict[str, UnitCell] = {
    "triclinic": (21.0, 25.0, 29.0, 83.0, 97.0, 104.0),
    "orthorhombic": (21.0, 25.0, 29.0, 90.0, 90.0, 90.0),
    "tetragonal": (23.0, 23.0, 31.0, 90.0, 90.0, 90.0),
    "trigonal": (24.0, 24.0, 33.0, 90.0, 90.0, 120.0),
    "hexagonal": (24.0, 24.0, 33.0, 90.0, 90.0, 120.0),
    "cubic": (27.0, 27.0, 27.0, 90.0, 90.0, 90.0),
}


def cell_for(group: gemmi.SpaceGroup) -> UnitCell:
    """A cell that the space group allows."""
    system = group.crystal_system_str()
    if group.ext == "R":
        return (25.0, 25.0, 25.0, 77.0, 77.0, 77.0)
    if system == "monoclinic":
        unique_c = group.monoclinic_unique_axis() == "c"
        return (21.0, 25.0, 29.0, 90.0, 90.0, 101.0) if unique_c else (21.0, 25.0, 29.0, 90.0, 101.0, 90.0)
    return CELL_OF_SYSTEM[system]


def test_there_are_65_groups_to_be_tested():
    assert len(SOHNCKE) == 65


@pytest.mark.parametrize("name", [*SOHNCKE, *OTHER_SETTINGS])
def test_every_reflection_is_found_where_gemmi_maps_it(name: int | str):
    group = gemmi.SpaceGroup(name)  # type: ignore[arg-type]
    cell, operations, asu = cell_for(group), group.operations(), gemmi.ReciprocalAsu(group)
    unit = asymmetric_unit(cell, group.xhm(), 3.5)
    h, k, l = (axis.ravel() for axis in np.meshgrid(*[np.arange(-10, 11)] * 3, indexing="ij"))  # noqa: E741
    hkl = np.column_stack([h, k, l]).astype(np.int32)
    inside = gemmi.UnitCell(*cell).calculate_1_d2_array(hkl) <= (1 / 3.5) ** 2
    possible = inside & ~np.asarray(operations.systematic_absences(hkl), bool) & (np.abs(hkl).sum(axis=1) > 0)

    uid, minus = unit.find(h, k, l)

    assert np.array_equal(uid >= 0, possible)
    for row in np.flatnonzero(possible):
        expected, isym = asu.to_asu(hkl[row].tolist(), operations)
        assert unit.hkl[uid[row]].tolist() == list(expected)
        assert minus[row] == (isym % 2 == 0 and not unit.centric[uid[row]])


def test_unique_reflections_are_as_many_as_gemmi_counts():
    cell: UnitCell = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
    unit = asymmetric_unit(cell, "P 43 21 2", 2.0)
    assert len(unit) == gemmi.count_reflections(gemmi.UnitCell(*cell), gemmi.SpaceGroup("P 43 21 2"), 2.0)


def test_reflections_beyond_the_table_are_not_found():
    unit = asymmetric_unit((40.0, 40.0, 60.0, 90.0, 90.0, 90.0), "P 43 21 2", 4.0)
    beyond = np.array([400, -400, 0])
    uid, _ = unit.find(beyond, np.array([0, 0, 900]), np.array([1, 1, 1]))
    assert uid.tolist() == [-1, -1, -1]


def test_a_table_that_would_fill_the_memory_is_refused():
    with pytest.raises(MergeError, match="cut the resolution"):
        asymmetric_unit((400.0, 400.0, 400.0, 90.0, 90.0, 90.0), "P 4 3 2", 1.3)


def test_unknown_space_group_is_named():
    with pytest.raises(MergeError, match="P 5"):
        asymmetric_unit((40.0, 40.0, 60.0, 90.0, 90.0, 90.0), "P 5", 4.0)


@pytest.mark.parametrize(
    ("cell", "group", "n_operators"),
    [
        ((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P 43 21 2", 0),
        ((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P 43", 1),
        ((79.0, 79.3, 38.0, 90.0, 90.0, 90.0), "P 21 21 21", 1),
        ((60.0, 79.3, 38.0, 90.0, 90.0, 90.0), "P 21 21 21", 0),
        ((61.0, 61.0, 110.0, 90.0, 90.0, 120.0), "P 3", 3),
    ],
)
def test_indexing_ambiguities_are_known(cell: UnitCell, group: str, n_operators: int):
    assert len(indexing_ambiguity_operators(cell, group)) == n_operators


def test_an_ambiguity_operator_changes_the_reflection_but_not_its_resolution():
    cell: UnitCell = (61.0, 61.0, 110.0, 90.0, 90.0, 120.0)
    unit, gemmi_cell = asymmetric_unit(cell, "P 63", 6.0), gemmi.UnitCell(*cell)
    operator = gemmi.Op(indexing_ambiguity_operators(cell, "P 63")[0])
    changed = np.array([operator.apply_to_hkl(hkl.tolist()) for hkl in unit.hkl])
    uid, _ = unit.find(*changed.T)
    assert np.allclose(gemmi_cell.calculate_d_array(changed.astype(np.int32)), unit.d)
    assert np.mean(uid != np.arange(len(unit))) > 0.5


def test_symmetrised_cell_obeys_the_space_group():
    cell = symmetrised_cell((60.2, 59.8, 150.0, 90.2, 89.9, 119.8), "R 3 :H")
    assert cell[0] == cell[1] == pytest.approx(60.0, abs=0.1)
    assert cell[3:] == (90.0, 90.0, 120.0)
