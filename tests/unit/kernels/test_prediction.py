import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.geometry import incident_wave_vector, panel_axes, panel_rectangles, sensor
from ssx_processing.kernels.prediction import excitation_and_position, predict_reflections
from ssx_processing.kernels.unit_cell import b_matrix
from ssx_processing.models import Geometry, Panel

ROCKING = (5e-4, 1e-3, 0.0, 2e-4)
GEOMETRY = Geometry(
    (Panel((-38.0, 41.0, -90.0), (1, 0, 0), (0, -1, 0), (0.075, 0.075), 0, 0, 1028, 1062),), (1062, 1028), 1.0
)
NO_CENTRING = np.empty((0, 3), np.int64)
CELLS = [
    ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2"),
    ((37.9, 60.0, 110.0, 90.0, 105.0, 90.0), "C 1 2 1"),
    ((110.0, 40.0, 45.0, 80.0, 85.0, 95.0), "P 1"),
]


def predict(a: np.ndarray, d_min: float, centring: np.ndarray = NO_CENTRING) -> np.ndarray:
    return predict_reflections(
        a, incident_wave_vector(GEOMETRY), 1 / d_min, ROCKING, 1.7, centring, 0.99,
        panel_rectangles(GEOMETRY), panel_axes(GEOMETRY), sensor(GEOMETRY),
    )  # fmt: skip


def centring_of(name: str) -> np.ndarray:
    group = gemmi.find_spacegroup_by_name(name)
    assert group is not None
    return np.array([t for t in group.operations().cen_ops if any(t)], np.int64).reshape(-1, 3)


@pytest.mark.parametrize(("cell", "name"), CELLS)
def test_prediction_equals_a_look_at_every_lattice_point(cell, name, rng):
    d_min, s0 = 2.2, incident_wave_vector(GEOMETRY)
    centring = centring_of(name)
    for u in Rotation.random(5, rng=rng).as_matrix():
        a = u @ b_matrix(cell)
        limits = np.ceil(np.array(cell[:3]) / d_min).astype(int) + 1
        hkl = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in limits], indexing="ij"), -1).reshape(-1, 3)
        q = np.linalg.norm(hkl @ a.T, axis=1)
        error = np.linalg.norm(hkl @ a.T + s0, axis=1) - np.linalg.norm(s0)
        keep = (q > 0) & (q <= 1 / d_min) & (np.abs(error) <= 1.7 * np.hypot(ROCKING[0], ROCKING[1] * q))
        keep &= ~np.any((hkl @ centring.T) % 24, axis=1)
        fit = np.empty((keep.sum(), 4))
        excitation_and_position(
            hkl[keep].astype(float),
            a,
            s0,
            panel_rectangles(GEOMETRY),
            panel_axes(GEOMETRY),
            (0.0, 0.0),
            ROCKING,
            fit,
        )
        expected = {tuple(h) for h in hkl[keep][fit[:, 2] >= 0]}
        predicted = predict(a, d_min, centring)
        found = [tuple(h) for h in predicted[:, :3].astype(int)]
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_polarisation_weakens_scattering_along_the_polarisation(rng):
    a = Rotation.random(rng=rng).as_matrix() @ b_matrix(CELLS[0][0])
    p = predict(a, 2.0)
    x, y = (p[:, 3] * 0.075 - 38.0), 41.0 - p[:, 4] * 0.075
    r2 = x**2 + y**2 + 90.0**2
    np.testing.assert_allclose(p[:, 8], 0.99 * (1 - x**2 / r2) + 0.01 * (1 - y**2 / r2), atol=1e-9)
