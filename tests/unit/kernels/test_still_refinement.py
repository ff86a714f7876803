"""Refinement of one lattice on a still, against spots made from a known lattice."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.geometry import incident_wave_vector, panel_axes, panel_rectangles, pixel_to_q
from ssx_processing.kernels.prediction import predict_reflections
from ssx_processing.kernels.still_model import panel_inverses, surface_positions
from ssx_processing.kernels.still_refinement import refine_still
from ssx_processing.kernels.unit_cell import cell_of, misorientation_deg
from ssx_processing.models import Geometry, Panel
from tests.unit.kernels.test_refinement import CELLS, lattice_of

GEOMETRY = Geometry(
    (Panel((-38.0, 41.0, -85.0), (1, 0, 0), (0, -1, 0), (0.075, 0.075), 0, 0, 1028, 1062),), (1062, 1028), 1.0
)
ROCKING = (4e-4, 6e-4, 0.0, 2e-4)
DISPLACEMENT = np.array([0.015, -0.01])
NOISE_PX = 0.12


class Still:
    """Spots of a known lattice, and the state of a refinement of them."""

    def __init__(self, cell, name: str, seed: int, *, stray: int = 0, d_min: float = 2.2) -> None:
        rng = np.random.default_rng(seed)
        self.lattice = lattice_of(cell, name)
        m = len(self.lattice.strains)
        self.true_strain = rng.normal(0, 0.002, m)
        strained = np.eye(3) + np.tensordot(self.true_strain, self.lattice.strains, 1)
        self.true_rotation = Rotation.random(rng=rng).as_matrix()
        self.true_a = self.true_rotation @ strained @ self.lattice.b
        self.s0, axes = incident_wave_vector(GEOMETRY), panel_axes(GEOMETRY)
        seen_from = axes.copy()
        seen_from[:, 0, :2] -= DISPLACEMENT
        rows = predict_reflections(
            self.true_a, self.s0, 1 / d_min, ROCKING, 2.5, np.empty((0, 3), np.int64), 1.0,
            panel_rectangles(GEOMETRY), seen_from, (0.0, 0.0),
        )  # fmt: skip
        lit = rng.random(len(rows)) < np.exp(-0.5 * (rows[:, 6] / rows[:, 7]) ** 2)
        rows = rows[lit]
        rows = rows[rng.permutation(len(rows))[:90]]
        at = np.concatenate(
            [rows[:, 3:5] + rng.normal(0, NOISE_PX, (len(rows), 2)), rng.uniform(50, 980, (stray, 2))]
        )
        self.n_true, self.panel = len(rows), np.zeros(len(at), np.int32)
        self.q = pixel_to_q(
            at[:, 0].copy(), at[:, 1].copy(), self.panel, panel_rectangles(GEOMETRY), axes, self.s0, 0.0, 0.0
        )
        self.inverses = panel_inverses(axes)
        self.rotation = Rotation.from_rotvec(rng.normal(0, 0.0015, 3)).as_matrix() @ self.true_rotation
        self.strain, self.displacement = np.zeros(m), np.zeros(2)
        self.a, self.residuals = np.empty((3, 3)), np.empty((len(at), 7))
        self.widths, self.covariance = np.empty(2), np.empty((5 + m, 5 + m))

    def refine(self, *, strain_sd: float = 0.01) -> int:
        m = len(self.strain)
        sd = np.array([strain_sd] * m + [0.05] * 2)
        return refine_still(
            self.q, surface_positions(self.q, self.s0, self.panel, self.inverses), self.panel,
            np.ones((len(self.q), 2)), self.s0, self.inverses, ROCKING, np.array([0.15, 1.0]),
            self.lattice.b, self.lattice.strains, np.zeros(m + 2), np.diag(1 / sd**2),
            self.rotation, self.strain, self.displacement,
            self.a, self.residuals, self.widths, self.covariance,
        )  # fmt: skip

    @property
    def turn(self) -> np.ndarray:
        """Error of the orientation, rotation vector in radians."""
        return Rotation.from_matrix(self.rotation @ self.true_rotation.T).as_rotvec()


@pytest.mark.parametrize(("cell", "name"), CELLS)
def test_orientation_cell_and_displacement_are_recovered(cell, name):
    still = Still(cell, name, 4)
    assert still.refine() >= 0.95 * still.n_true
    b, rotations = still.lattice.b, still.lattice.rotations
    misset = misorientation_deg(still.a, still.true_a, b, rotations)
    assert misset < 2.5 * np.degrees(np.sqrt(np.trace(still.covariance[:3, :3])))
    assert misset < 0.06
    np.testing.assert_allclose(cell_of(still.a), cell_of(still.true_a), rtol=2e-3)
    np.testing.assert_allclose(still.displacement, DISPLACEMENT, atol=0.006)
    assert still.widths[0] == pytest.approx(NOISE_PX, rel=0.25)


def test_errors_are_as_large_as_the_covariance_says():
    """The sum of squares over what the covariance expects of it is one in the mean."""
    ratios = []
    for seed in range(40):
        still = Still(*CELLS[0], seed)
        still.refine()
        error = np.concatenate(
            [still.turn, still.strain - still.true_strain, still.displacement - DISPLACEMENT]
        )
        ratios.append(error @ np.linalg.solve(still.covariance, error) / len(error))
    assert 0.5 < np.mean(ratios) < 1.6


def test_stray_spots_take_no_part_and_do_no_harm():
    with_stray, without = Still(*CELLS[0], 7, stray=40), Still(*CELLS[0], 7)
    with_stray.refine()
    without.refine()
    weight = with_stray.residuals[:, 3]
    assert (weight[with_stray.n_true :] > 0).mean() < 0.15  # some stray ones fall near a lattice point
    assert (weight[: with_stray.n_true] > 0).mean() > 0.95
    assert np.linalg.norm(with_stray.turn - without.turn) < np.radians(0.02)


def test_a_tight_population_holds_the_cell():
    loose, tight = Still(*CELLS[2], 5), Still(*CELLS[2], 5)
    loose.refine()
    tight.refine(strain_sd=1e-6)
    assert np.abs(tight.strain).max() < 1e-5 < np.abs(loose.strain).max()


def test_too_few_spots_are_refused():
    still = Still(*CELLS[0], 1)
    still.q = still.q[:2]
    still.panel, still.residuals = still.panel[:2], still.residuals[:2]
    assert still.refine() == 0


def test_residuals_name_the_lattice_points_and_add_up():
    still = Still(*CELLS[0], 3)
    still.refine()
    hkl = still.residuals[:, 4:]
    error = np.linalg.norm(hkl @ still.a.T + still.s0, axis=1) - np.linalg.norm(still.s0)
    np.testing.assert_allclose(still.residuals[:, 2], error, atol=1e-12)
    assert np.sqrt(np.mean(still.residuals[:, :2] ** 2)) == pytest.approx(NOISE_PX, rel=0.15)
