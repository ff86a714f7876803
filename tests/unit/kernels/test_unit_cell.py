import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.unit_cell import (
    allowed_strains,
    b_matrix,
    cell_of,
    lattice_rotations,
    misorientation_deg,
    point_group_rotations,
    search_lattice,
)

LATTICES = [
    # cell, space group, rotations of the lattice, free parameters
    ((30.0, 40.0, 50.0, 80.0, 85.0, 95.0), "P 1", 1, 6),
    ((45.0, 65.0, 110.0, 90.0, 105.0, 90.0), "P 1 21 1", 2, 4),
    ((120.0, 80.0, 60.0, 90.0, 110.0, 90.0), "C 1 2 1", 2, 4),
    ((61.5, 122.7, 168.8, 90.0, 90.0, 90.0), "C 2 2 21", 4, 3),
    ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2", 8, 2),
    ((80.0, 80.0, 120.0, 90.0, 90.0, 90.0), "I 41", 8, 2),
    ((80.0, 80.0, 200.0, 90.0, 90.0, 120.0), "R 3:H", 6, 2),
    ((60.0, 60.0, 60.0, 70.0, 70.0, 70.0), "R 3:R", 6, 2),
    ((50.0, 50.0, 90.0, 90.0, 90.0, 120.0), "P 63 2 2", 12, 2),
    ((100.0, 100.0, 100.0, 90.0, 90.0, 90.0), "F 4 3 2", 24, 1),
]


def space_group(name: str) -> gemmi.SpaceGroup:
    group = gemmi.find_spacegroup_by_name(name)
    assert group is not None
    return group


@pytest.mark.parametrize(("cell", "name", "n_rotations", "n_free"), LATTICES)
def test_rotations_and_free_parameters_are_those_of_the_lattice_system(cell, name, n_rotations, n_free):
    rotations = lattice_rotations(cell, space_group(name))
    assert len(rotations) == n_rotations
    np.testing.assert_allclose(rotations[0], np.eye(3))
    assert len(allowed_strains(rotations)) == n_free


@pytest.mark.parametrize(("cell", "name"), [(c, n) for c, n, _, _ in LATTICES])
def test_cell_survives_the_way_to_the_primitive_lattice_and_back(cell, name):
    lattice = search_lattice(cell, space_group(name))
    np.testing.assert_allclose(cell_of(lattice.b @ lattice.to_conventional), cell, rtol=1e-9)


@pytest.mark.parametrize(("cell", "name"), [(c, n) for c, n, _, _ in LATTICES])
def test_lattice_points_are_those_that_centring_allows(cell, name):
    lattice = search_lattice(cell, space_group(name))
    hkl = np.rint(lattice.points @ np.linalg.inv(b_matrix(cell)).T).astype(np.int32)
    np.testing.assert_allclose(hkl @ b_matrix(cell).T, lattice.points, atol=1e-9)
    translations = np.array(list(space_group(name).operations().cen_ops))
    assert not np.any((hkl @ translations.T) % gemmi.Op.DEN)


@pytest.mark.parametrize(("cell", "name"), [(c, n) for c, n, _, _ in LATTICES])
def test_strains_keep_the_cell_in_its_lattice_system(cell, name):
    group = space_group(name)
    for strain in allowed_strains(lattice_rotations(cell, group)):
        strained = cell_of((np.eye(3) + 0.01 * strain) @ b_matrix(cell))
        assert gemmi.UnitCell(*strained).is_compatible_with_spacegroup(group, 1e-6)


def test_d_spacings_agree_with_gemmi(rng):
    cell = (45.0, 65.0, 110.0, 82.0, 105.0, 93.0)
    for hkl in rng.integers(-10, 10, (20, 3)):
        if hkl.any():
            d = gemmi.UnitCell(*cell).calculate_d(hkl.tolist())
            assert 1.0 / np.linalg.norm(b_matrix(cell) @ hkl) == pytest.approx(d, rel=1e-9)


def test_misorientation_is_zero_between_symmetry_equivalents_and_the_angle_otherwise():
    cell, group = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0), space_group("P 43 21 2")
    b, rotations = b_matrix(cell), lattice_rotations((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), group)
    u = Rotation.from_euler("xyz", [0.3, -0.8, 1.9]).as_matrix()
    turn = Rotation.from_rotvec([0.0, np.radians(0.7), 0.0]).as_matrix()
    assert misorientation_deg(u @ b, u @ rotations[5] @ b, b, rotations) < 1e-5
    assert misorientation_deg(turn @ u @ rotations[3] @ b, u @ b, b, rotations) == pytest.approx(
        0.7, abs=1e-4
    )
    # a strained cell is not a turned one
    assert misorientation_deg(u @ b @ np.diag([1.0, 1.0, 1.01]), u @ b, b, rotations) < 1e-5


@pytest.mark.parametrize(
    ("cell", "name", "n_free"),
    [
        ((45.0, 65.0, 80.0, 90.0, 90.0, 90.0), "P 1 21 1", 4),
        ((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P 21 21 21", 3),
        ((79.0, 79.0, 79.0, 90.0, 90.0, 90.0), "P 1", 6),
    ],
)
def test_a_cell_that_looks_more_symmetric_than_the_crystal_stays_free(cell, name, n_free):
    group = space_group(name)
    assert len(search_lattice(cell, group).strains) == n_free
    assert len(point_group_rotations(cell, group)) < len(lattice_rotations(cell, group))


def test_a_cell_slightly_off_its_symmetry_is_searched_with_all_of_it():
    lattice = search_lattice((79.2, 79.0, 38.0, 90.0, 90.0, 90.0), space_group("P 43 21 2"))
    assert len(lattice.rotations) == 8
    assert lattice.cell[0] == lattice.cell[1]
