import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.refinement import RIGID_ROUNDS, SCALES, refine_lattice, rotate, solve_positive
from ssx_processing.kernels.unit_cell import SearchLattice, cell_of, misorientation_deg, search_lattice

CELLS = [
    ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2"),
    ((45.0, 65.0, 110.0, 90.0, 105.0, 90.0), "P 1 21 1"),
    ((80.0, 80.0, 200.0, 90.0, 90.0, 120.0), "R 3:H"),
    ((30.0, 40.0, 50.0, 80.0, 85.0, 95.0), "P 1"),
]
S0 = np.array([0.0, 0.0, -1.0])


def lattice_of(cell, name) -> SearchLattice:
    group = gemmi.find_spacegroup_by_name(name)
    assert group is not None
    return search_lattice(cell, group)


def spots_near_the_ewald_sphere(a: np.ndarray, width: float) -> np.ndarray:
    hkl = np.stack(np.meshgrid(*[np.arange(-25, 26)] * 3, indexing="ij"), -1).reshape(-1, 3)
    q = hkl @ a.T
    keep = (np.abs(np.linalg.norm(q + S0, axis=1) - 1.0) < width) & (np.linalg.norm(q, axis=1) < 0.5)
    return q[keep & hkl.any(axis=1)]


@pytest.mark.parametrize(("cell", "name"), CELLS)
def test_a_turned_and_strained_lattice_is_recovered(cell, name):
    lattice = lattice_of(cell, name)
    truth = Rotation.from_euler("xyz", [0.4, 1.1, -0.6]).as_matrix()
    # small enough that the first round still sees most indices right
    strained = np.eye(3) + 0.004 * np.tensordot(np.linspace(-1, 1, len(lattice.strains)), lattice.strains, 1)
    true_a = truth @ strained @ lattice.b
    q = spots_near_the_ewald_sphere(true_a, 5e-4)
    start = Rotation.from_rotvec([0.003, -0.002, 0.004]).as_matrix() @ truth
    a, strain = np.empty((3, 3)), np.zeros(len(lattice.strains))
    scales = np.concatenate([[40.0, 25.0, 16.0, 10.0, 6.0], SCALES, SCALES[-2:]])
    weight = refine_lattice(
        q, S0, lattice.b, lattice.strains, start, strain, (5e-5, 7e-5, 2e-4), scales, RIGID_ROUNDS + 3, a
    )
    assert weight > 0.98 * len(q)
    assert misorientation_deg(a, true_a, lattice.b, lattice.rotations) < 0.005
    np.testing.assert_allclose(cell_of(a), cell_of(true_a), rtol=3e-5)


def test_excitation_error_along_the_ray_hardly_turns_the_lattice(rng):
    """Noise along the diffracted ray is not measured; noise across it is."""
    lattice = lattice_of(*CELLS[0])
    truth = Rotation.from_euler("xyz", [0.4, 1.1, -0.6]).as_matrix()
    q = spots_near_the_ewald_sphere(truth @ lattice.b, 8e-4)
    s1 = q + S0
    on_sphere = s1 / np.linalg.norm(s1, axis=1)[:, None] - S0  # what a detector sees
    rotation, a, strain = truth.copy(), np.empty((3, 3)), np.zeros(2)
    refine_lattice(
        on_sphere,
        S0,
        lattice.b,
        lattice.strains,
        rotation,
        strain,
        (2e-4, 4e-4, 1e-3),
        SCALES,
        RIGID_ROUNDS,
        a,
    )
    assert misorientation_deg(a, truth @ lattice.b, lattice.b, lattice.rotations) < 0.03


def test_spots_that_belong_to_no_lattice_do_not_pull(rng):
    lattice = lattice_of(*CELLS[0])
    truth = Rotation.from_euler("xyz", [0.4, 1.1, -0.6]).as_matrix()
    q = spots_near_the_ewald_sphere(truth @ lattice.b, 4e-4)[::3]
    others = rng.uniform(-0.3, 0.3, (2 * len(q), 3)) * [1, 1, 0.1]
    found = []
    for spots in (q, np.concatenate([q, others])):
        rotation, a, strain = truth.copy(), np.empty((3, 3)), np.zeros(2)
        refine_lattice(
            spots, S0, lattice.b, lattice.strains, rotation, strain, (2e-4, 4e-4, 1e-3), SCALES, 2, a
        )
        found.append(a)
    assert misorientation_deg(found[0], found[1], lattice.b, lattice.rotations) < 0.01


def test_solver_agrees_with_lapack_and_refuses_what_is_not_positive(rng):
    m = rng.normal(size=(5, 5))
    positive, rhs = m @ m.T + np.eye(5), rng.normal(size=5)
    expected = np.linalg.solve(positive, rhs)
    assert solve_positive(positive.copy(), rhs)
    np.testing.assert_allclose(rhs, expected, rtol=1e-10)
    assert not solve_positive(-np.eye(3), np.ones(3))


def test_rotation_by_a_vector_agrees_with_scipy():
    omega = np.array([0.2, -0.5, 0.1])
    r = Rotation.from_euler("x", 0.7).as_matrix()
    expected = Rotation.from_rotvec(omega).as_matrix() @ r
    rotate(r, omega)
    np.testing.assert_allclose(r, expected, atol=1e-12)
