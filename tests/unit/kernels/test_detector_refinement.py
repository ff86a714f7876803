"""Normal equations of the detector's parameters, against small steps and a solution of all at once."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.detector_refinement import (
    DetectorNormal,
    add_still,
    detector_parts,
    moved_detector,
)
from ssx_processing.kernels.geometry import incident_wave_vector, panel_axes
from ssx_processing.kernels.prediction import rocking_sigma
from ssx_processing.kernels.still_model import model_spot, panel_inverses
from ssx_processing.models import Geometry, Panel

ROCKING = (4e-4, 6e-4, 0.0, 2e-4)
PANELS = tuple(
    Panel((x, y, z), (1, 0, 0), (0, -1, 0), (0.075, 0.075), 500 * i, 500 * j, 500, 500, f"p{i}{j}")
    for i, j, x, y, z in (
        (0, 0, -38.0, 40.0, -85.0),
        (1, 0, 1.0, 40.5, -85.2),
        (0, 1, -38.0, 1.0, -85.1),
        (1, 1, 1.0, 1.0, -85.0),
    )
)
GEOMETRY = Geometry(PANELS, (1000, 1000), 1.0)
GROUPS = [(0, 1), (2,), (3,)]
S0 = incident_wave_vector(GEOMETRY)
M = 2
N_SHARED = 5 + M + 6 * len(GROUPS)


class Still:
    """Spots of one still with residuals drawn at random: nothing needs to fit."""

    def __init__(self, seed: int, n: int = 40) -> None:
        rng = np.random.default_rng(seed)
        self.a = Rotation.random(rng=rng).as_matrix() @ np.diag([0.0126, 0.0126, 0.0264])
        self.generators = rng.normal(0, 0.01, (M, 3, 3))
        self.panel = rng.integers(0, 4, n).astype(np.int32)
        self.observed = rng.uniform(20, 480, (n, 2))
        axes = panel_axes(GEOMETRY)[self.panel]
        at = axes[:, 0] + self.observed[:, :1] * axes[:, 1] + self.observed[:, 1:] * axes[:, 2]
        q = at / np.linalg.norm(at, axis=1)[:, None] - S0
        self.hkl = np.linalg.solve(self.a, q.T).T + rng.normal(0, 0.01, (n, 3))
        self.quality, self.weight = rng.uniform(0.8, 1.5, (n, 2)), rng.uniform(0.2, 1.0, n)
        self.rest, self.widths = rng.normal(0, 1e-3, M + 2), np.array([0.2, 1.1])
        self.mean, self.precision = np.array([1e-3, 2e-3, 0.0, 0.0]), np.diag([2e5, 3e5, 1e4, 1e4])

    def add(self, matrix: np.ndarray, rhs: np.ndarray) -> float:
        parts = detector_parts(GEOMETRY, GROUPS)
        axes = panel_axes(GEOMETRY)
        return add_still(
            self.observed, self.panel, self.quality, self.weight, self.hkl, self.a, self.generators,
            self.rest, self.mean, self.precision, self.widths, S0, ROCKING, axes, panel_inverses(axes),
            parts.pivot, parts.group_of_panel, parts.centres, matrix, rhs,
        )  # fmt: skip

    def values(self, geometry: Geometry) -> np.ndarray:
        """(n, 3) calculated column, row and excitation error."""
        out, inverses, unused = (
            np.empty((len(self.hkl), 4)),
            panel_inverses(panel_axes(geometry)),
            np.empty((5 + M, 3)),
        )
        for row, hkl, panel in zip(out, self.hkl, self.panel, strict=True):
            model_spot(hkl, self.a, self.generators, self.rest[M:], S0, ROCKING, inverses[panel], row, unused)
        return out[:, :3]

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Design matrix (own, then shared parameters) and residuals, all divided by their errors."""
        value, own, parts = np.empty(4), np.empty((5 + M, 3)), detector_parts(GEOMETRY, GROUPS)
        inverses, base = panel_inverses(panel_axes(GEOMETRY)), self.values(GEOMETRY)
        shared = np.empty((N_SHARED, len(self.hkl), 3))
        for j in range(N_SHARED):
            step = np.zeros(N_SHARED)
            step[j] = 1e-6
            moved = moved_detector(GEOMETRY, parts, step[:5], step[5 + M :].reshape(-1, 6))
            shared[j] = (self.values(moved) - base) / 1e-6
        design, residuals = [], []
        for i, hkl in enumerate(self.hkl):
            model_spot(
                hkl, self.a, self.generators, self.rest[M:], S0, ROCKING, inverses[self.panel[i]], value, own
            )
            sigma = self.widths[0] * self.quality[i, 0]
            error = self.widths[1] * self.quality[i, 1] * rocking_sigma(value[3], ROCKING)
            scale = np.sqrt(self.weight[i]) / np.array([sigma, sigma, error])
            design.append(np.concatenate([own, shared[:, i]]).T * scale[:, None])
            residuals.append(np.array([*(self.observed[i] - value[:2]), -value[2]]) * scale)
        root = np.sqrt(self.precision)
        restraint = np.zeros((M + 2, 5 + M + N_SHARED))
        restraint[:, 3 : 5 + M] = root
        restraint[:, 5 + M + 5 : 5 + M + 5 + M] = -root[:, :M]
        return np.concatenate([*design, restraint]), np.concatenate(
            [*residuals, -root @ (self.rest - self.mean)]
        )


def test_elimination_gives_what_solving_for_all_parameters_does():
    stills = [Still(seed) for seed in range(6)]
    matrix, rhs = np.zeros((N_SHARED, N_SHARED)), np.zeros(N_SHARED)
    for still in stills:
        still.add(matrix, rhs)
    n_own = 5 + M
    design = np.zeros((0, n_own * len(stills) + N_SHARED))
    residuals = np.empty(0)
    for i, still in enumerate(stills):
        rows, values = still.rows()
        wide = np.zeros((len(rows), design.shape[1]))
        wide[:, n_own * i : n_own * (i + 1)], wide[:, n_own * len(stills) :] = (
            rows[:, :n_own],
            rows[:, n_own:],
        )
        design, residuals = np.concatenate([design, wide]), np.concatenate([residuals, values])
    prior = np.diag([1e2, 1e2, 1e2, 1e6, 1e6, 1e4, 1e4, *[1e3, 1e3, 1e3, 1e6, 1e6, 1e6] * len(GROUPS)])
    whole = design.T @ design
    whole[-N_SHARED:, -N_SHARED:] += prior
    expected = np.linalg.solve(whole, design.T @ residuals)[-N_SHARED:]
    covariance = np.linalg.inv(whole)[-N_SHARED:, -N_SHARED:]
    np.testing.assert_allclose(
        np.linalg.inv(matrix + prior), covariance, rtol=2e-3, atol=1e-3 * covariance.max()
    )
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.linalg.solve(matrix + prior, rhs) / errors, expected / errors, atol=0.02)


def test_sums_over_parts_are_the_sum_over_all():
    whole = [np.zeros((N_SHARED, N_SHARED)), np.zeros(N_SHARED)]
    parts = []
    for seed in range(4):
        own = [np.zeros((N_SHARED, N_SHARED)), np.zeros(N_SHARED)]
        chi2 = Still(seed).add(*own)
        Still(seed).add(*whole)
        parts.append(DetectorNormal(own[0], own[1], chi2, 40, 1))
    total = parts[0] + parts[1] + (parts[2] + parts[3])
    np.testing.assert_allclose(total.matrix, whole[0], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(total.rhs, whole[1], rtol=1e-9, atol=1e-6)
    assert (total.n_spots, total.n_lattices) == (160, 4)


def test_spots_of_no_weight_change_nothing():
    still, more = Still(1), Still(1)
    more.weight[10:] = 0.0
    for name in ("observed", "panel", "quality", "weight", "hkl"):
        setattr(still, name, getattr(still, name)[:10].copy())
    sums = [[np.zeros((N_SHARED, N_SHARED)), np.zeros(N_SHARED)] for _ in range(2)]
    assert still.add(*sums[0]) == pytest.approx(more.add(*sums[1]))
    np.testing.assert_allclose(sums[0][0], sums[1][0])


def test_detector_turns_about_the_point_where_the_beam_meets_it():
    parts = detector_parts(GEOMETRY, GROUPS)
    np.testing.assert_allclose(parts.pivot, [0.0, 0.0, -85.0], atol=0.21)  # on one of the panels
    turned = moved_detector(GEOMETRY, parts, np.array([0.0, 0.0, 0.0, 0.01, -0.02]))
    for before, after in zip(GEOMETRY.panels, turned.panels, strict=True):
        r = Rotation.from_rotvec([0.01, -0.02, 0.0])
        np.testing.assert_allclose(after.fast_axis, r.apply(before.fast_axis), atol=1e-12)
        np.testing.assert_allclose(
            np.array(after.origin_mm) - parts.pivot,
            r.apply(np.array(before.origin_mm) - parts.pivot),
            atol=1e-9,
        )


def test_groups_move_their_own_panels_only():
    parts, of_groups = detector_parts(GEOMETRY, GROUPS), np.zeros((3, 6))
    of_groups[0] = [0.1, 0.2, 0.3, 0.0, 0.0, 0.001]
    moved = moved_detector(GEOMETRY, parts, np.zeros(5), of_groups)
    assert moved.panels[2:] == GEOMETRY.panels[2:]
    centre = np.mean([parts.centres[0]], axis=0)
    for before, after in zip(GEOMETRY.panels[:2], moved.panels[:2], strict=True):
        expected = (
            centre
            + Rotation.from_rotvec([0, 0, 0.001]).apply(np.array(before.origin_mm) - centre)
            + [0.1, 0.2, 0.3]
        )
        np.testing.assert_allclose(after.origin_mm, expected, atol=1e-9)
