"""The ray of a reflection off the Ewald sphere, where it meets the detector, and all derivatives."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.geometry import (
    incident_wave_vector,
    panel_axes,
    panel_rectangles,
    pixel_to_ray,
    ray_to_pixel,
    sensor,
)
from ssx_processing.kernels.prediction import excitation_and_position, ray_shift, rocking_sigma
from ssx_processing.kernels.still_model import (
    model_spot,
    panel_inverses,
    spot_quality,
    surface_positions,
)
from ssx_processing.models import Geometry, Panel
from ssx_processing.simulation.chip_settings import (
    ChipSettings,
    SimulatedBeam,
    SimulatedCrystals,
    SimulatedDetector,
)
from ssx_processing.simulation.crystal import random_crystal
from ssx_processing.simulation.scene import Scene
from ssx_processing.simulation.still import add_diffraction

S0 = np.array([0.02, -0.03, -1.0]) / 1.1
TILTED = Rotation.from_euler("xyz", [0.2, -0.1, 0.3]).as_matrix()
GEOMETRY = Geometry(
    (
        Panel((-40.0, 41.0, -90.0), (1, 0, 0), (0, -1, 0), (0.075, 0.075), 0, 0, 500, 1062),
        Panel((2.0, 41.0, -88.0), tuple(TILTED[0]), tuple(-TILTED[1]), (0.1, 0.09), 500, 0, 500, 1062),
    ),
    (1062, 1000),
    1.1,
    sensor_thickness_mm=0.45,
    sensor_absorption_per_mm=4.0,
)
ROCKING = (3e-4, 8e-4, 2e-3, 2e-4)


def ray_of(p: np.ndarray, rocking: tuple[float, float, float, float]) -> np.ndarray:
    error, *t = ray_shift(p[0], p[1], p[2], S0, rocking)
    ray = S0 + p - error * np.array(t)
    return ray / np.linalg.norm(ray)


def in_plane(p: np.ndarray) -> np.ndarray:
    axis = np.cross(p, S0)
    return axis / np.linalg.norm(axis)


def turned_block(p: np.ndarray) -> np.ndarray:
    """The ray of the block that is turned just so much that it diffracts."""

    def off(angle: float) -> float:
        return float(
            np.linalg.norm(S0 + Rotation.from_rotvec(angle * in_plane(p)).apply(p)) - np.linalg.norm(S0)
        )

    return S0 + Rotation.from_rotvec(brentq(off, -0.02, 0.02, xtol=1e-15) * in_plane(p)).apply(p)


def turned_beam(p: np.ndarray) -> np.ndarray:
    def off(angle: float) -> float:
        return float(
            np.linalg.norm(Rotation.from_rotvec(angle * in_plane(p)).apply(S0) + p) - np.linalg.norm(S0)
        )

    return Rotation.from_rotvec(brentq(off, -0.02, 0.02, xtol=1e-15) * in_plane(p)).apply(S0) + p


def other_wavelength(p: np.ndarray) -> np.ndarray:
    longer = -(p @ p) / (2 * p @ S0)  # |l S0 + p| = |l S0|
    return longer * S0 + p


def node(p: np.ndarray) -> np.ndarray:
    return S0 + p


@pytest.mark.parametrize(
    ("rocking", "exact"),
    [
        ((1e-4, 0.0, 0.0, 0.0), node),
        ((0.0, 1e-3, 0.0, 0.0), turned_block),
        ((0.0, 1e-3, 0.0, 1e-3), turned_beam),
        ((0.0, 0.0, 1e-3, 0.0), other_wavelength),
    ],
)
def test_each_cause_of_an_excitation_error_sends_the_ray_where_it_does_alone(rocking, exact, rng):
    on_sphere = Rotation.from_euler("xy", rng.uniform(-0.4, 0.4, (20, 2))).apply(S0) - S0
    for p in on_sphere + rng.normal(0, 4e-4, (20, 3)):
        s1 = exact(p)
        # first order in the excitation error: what is left is of second
        error = abs(np.linalg.norm(S0 + p) - np.linalg.norm(S0))
        left = np.linalg.norm(ray_of(p, rocking) - s1 / np.linalg.norm(s1))
        assert left < 200 * error**2 / np.linalg.norm(p) ** 2 + 1e-9


def test_rays_of_all_causes_stay_near_the_sphere(rng):
    p = np.array([0.2, 0.15, -0.03])
    error, *t = ray_shift(p[0], p[1], p[2], S0, (3e-4, 8e-4, 0.0, 0.0))
    assert abs(np.linalg.norm(S0 + p - error * np.array(t)) - np.linalg.norm(S0)) < 0.02 * abs(error)


def test_derivatives_are_those_of_small_steps(rng):
    a = Rotation.random(rng=rng).as_matrix() @ np.diag([0.013, 0.017, 0.03])
    generators = rng.normal(0, 0.01, (2, 3, 3))
    inverses = panel_inverses(panel_axes(GEOMETRY))
    displacement = np.array([0.02, -0.03])

    def at(step: np.ndarray, hkl: np.ndarray, panel: int) -> np.ndarray:
        moved = Rotation.from_rotvec(step[:3]).as_matrix() @ (a + np.tensordot(step[3:5], generators, 1))
        value, at_place, inverse_axes = np.empty(4), displacement + step[5:], inverses[panel]
        model_spot(hkl, moved, generators, at_place, S0, ROCKING, inverse_axes, value, np.empty((7, 3)))
        return value[:3]

    for panel in (0, 1):
        # a point near the sphere: small excitation errors are what the derivatives are for
        q = rng.uniform(-0.3, 0.3, 3)
        s1 = S0 + q
        hkl = np.linalg.solve(a, s1 / np.linalg.norm(s1) * np.linalg.norm(S0) - S0)
        value, jacobian = np.empty(4), np.empty((7, 3))
        model_spot(hkl, a, generators, displacement, S0, ROCKING, inverses[panel], value, jacobian)
        for j in range(7):
            step = np.zeros(7)
            step[j] = 1e-6
            numerical = (at(step, hkl, panel) - at(-step, hkl, panel)) / 2e-6
            off = np.abs(jacobian[j] - numerical)
            assert np.all(off < 2e-3 * np.abs(numerical) + 1e-3 * np.abs(jacobian).max(axis=0))


@pytest.mark.parametrize("panel", [0, 1])
def test_parallax_is_taken_off_and_put_on_again(panel):
    rectangles, axes = panel_rectangles(GEOMETRY), panel_axes(GEOMETRY)
    inverses = panel_inverses(axes)
    for x, y in ((30.5, 40.5), (260.2, 400.7), (480.0, 1010.0)):
        x += rectangles[panel, 0]
        ray = pixel_to_ray(x, y, rectangles[panel], axes[panel], *sensor(GEOMETRY))
        back_x, back_y, found = ray_to_pixel(ray, rectangles, axes, *sensor(GEOMETRY))
        assert found == panel
        assert (back_x, back_y) == pytest.approx((x, y), abs=2e-3)
        # on the surface the ray is nearer to the beam, by the depth times the tangent of the incidence
        q = (np.array(ray) * np.linalg.norm(S0) - S0)[None]
        ((column, row),) = surface_positions(q, S0, np.array([panel], np.int32), inverses)
        f, s = axes[panel, 1], axes[panel, 2]
        normal = np.cross(f, s) / np.linalg.norm(np.cross(f, s))
        cosine = abs(float(np.array(ray) @ normal))
        depth = 1 / 4.0 - 0.45 / cosine / math.expm1(4.0 * 0.45 / cosine)
        moved = (x - rectangles[panel, 0] - column) * f + (y - row) * s
        assert np.linalg.norm(moved) == pytest.approx(depth * math.sqrt(1 - cosine**2), abs=2e-4)


def test_strong_spots_are_expected_nearer_to_the_sphere_and_better_placed():
    q = np.linspace(0.1, 0.5, 50)
    intensity = 1000 * np.exp(-8 * q**2) * np.tile([0.3, 1.0, 1.0, 1.0, 3.0], 10)
    quality = spot_quality(np.sqrt(intensity), intensity, q)
    assert quality[4::5, 1].max() < quality[1::5, 1].min()
    assert quality[0::5, 1].min() > quality[1::5, 1].max()
    assert np.all(np.diff(quality[1::5, 0]) > 0)  # weaker with |q|


@pytest.mark.parametrize(("bandwidth", "gain"), [(1e-4, 1.0), (1e-3, 1.0), (5e-3, 3.0), (1e-2, 3.0)])
def test_spots_are_predicted_where_blocks_and_colours_of_the_beam_put_them(bandwidth, gain):
    """Against the simulation, which follows every mosaic block and ray and knows no excitation error."""
    settings = ChipSettings(
        beam=SimulatedBeam(bandwidth=bandwidth),
        detector=SimulatedDetector(beam_centre_error_px=(0, 0)),
        crystals=SimulatedCrystals(n_blocks=600, size_mm=1e-6),
    )
    blend, plain, sigma = residuals_of_prediction(settings, (3.5e-4, 7.5e-4, bandwidth / 2, 2e-4))
    assert np.sqrt(np.mean(blend**2)) * gain < np.sqrt(np.mean(plain**2)) + 0.01
    slope = np.polyfit(sigma, blend, 1)[0]
    assert abs(slope) < 0.05 + 0.2 * abs(np.polyfit(sigma, plain, 1)[0])


def residuals_of_prediction(
    settings: ChipSettings, rocking: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radial residuals (px) beyond 300 px with this rocking and with a node only; errors over their width."""
    scene, rng = Scene(settings), np.random.default_rng(1)
    optics, pixel = scene.optics, scene.optics.pixel_mm
    panel = Panel(
        (-optics.beam_x * pixel, optics.beam_y * pixel, -optics.distance_mm),
        (1, 0, 0), (0, -1, 0), (pixel, pixel), 0, 0, 1028, 1062,
    )  # fmt: skip
    geometry = Geometry(
        (panel,), (1062, 1028), 1.0, sensor_thickness_mm=0.45, sensor_absorption_per_mm=optics.absorption
    )
    s0, parts = incident_wave_vector(geometry), (panel_rectangles(geometry), panel_axes(geometry))
    columns: list[np.ndarray] = []
    for _ in range(3):
        crystal = random_crystal(settings.crystals, settings.beam, scene.median_scale, rng)
        spots = add_diffraction(
            np.zeros((1062, 1028), np.uint32), crystal, scene.sphere, optics=optics,
            transmission=np.ones((1062, 1028)), wavelength=1.0, rng=rng,
        )  # fmt: skip
        hkl = spots.hkl.astype(np.float64)
        fits = [np.empty((len(hkl), 4)) for _ in range(2)]
        for fit, model in zip(fits, (rocking, (1e-3, 0.0, 0.0, 0.0)), strict=True):
            excitation_and_position(hkl, crystal.a_matrix, s0, *parts, sensor(geometry), model, fit)
        at = np.column_stack([spots.x_px, spots.y_px]) - [optics.beam_x, optics.beam_y]
        r = np.linalg.norm(at, axis=1)
        seen = (fits[0][:, 2] >= 0) & (fits[1][:, 2] >= 0) & (r > 300) & (spots.photons > 30)
        true = np.column_stack([spots.x_px, spots.y_px])
        radial = [np.einsum("ij,ij->i", true - fit[:, :2], at) / np.maximum(r, 1.0) for fit in fits]
        q = np.linalg.norm(hkl @ crystal.a_matrix.T, axis=1)
        width = np.array([rocking_sigma(x, rocking) for x in q])
        columns.append(np.stack([*radial, spots.excitation_error / width])[:, seen])
    blend, plain, sigma = np.concatenate(columns, axis=1)
    return blend, plain, sigma
