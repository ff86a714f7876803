import numpy as np
import pytest

from ssx_processing.kernels.geometry import (
    beam_centre_px,
    incident_wave_vector,
    largest_q,
    moved,
    panel_axes,
    panel_of_pixel,
    panel_rectangles,
    pixel_maps,
    pixel_to_q,
    ray_to_pixel,
    sensor,
    with_beam_centre_moved,
)
from ssx_processing.models import Geometry, Panel


def tilted_two_panel_geometry(thickness_mm: float = 0.0, absorption: float = 0.0) -> Geometry:
    c, s = np.cos(0.1), np.sin(0.1)
    first = Panel((-20.0, 12.0, -90.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.1, 0.1), 0, 0, 400, 150)
    second = Panel((-20.0, -4.0, -90.0), (c, 0.0, s), (0.0, -1.0, 0.0), (0.1, 0.1), 0, 150, 400, 150, "1")
    return Geometry(
        (first, second),
        (300, 400),
        1.1,
        sensor_thickness_mm=thickness_mm,
        sensor_absorption_per_mm=absorption,
    )


def q_of(geometry: Geometry, x: float, y: float) -> np.ndarray:
    rectangles = panel_rectangles(geometry)
    panel = np.array([panel_of_pixel(x, y, rectangles)], np.int32)
    s0 = incident_wave_vector(geometry)
    return pixel_to_q(
        np.array([x]), np.array([y]), panel, rectangles, panel_axes(geometry), s0, *sensor(geometry)
    )[0]


def test_direct_beam_does_not_scatter():
    geometry = tilted_two_panel_geometry()
    np.testing.assert_allclose(q_of(geometry, *beam_centre_px(geometry)), 0.0, atol=1e-12)


def test_length_of_q_is_bragg_s_law():
    geometry = tilted_two_panel_geometry()
    x, y = 37.0, 81.0
    position = np.array([-20.0 + 0.1 * x, 12.0 - 0.1 * y, -90.0])
    two_theta = np.arccos(-position[2] / np.linalg.norm(position))
    assert np.linalg.norm(q_of(geometry, x, y)) == pytest.approx(2 * np.sin(two_theta / 2) / 1.1, rel=1e-12)


@pytest.mark.parametrize("sensor_of", [(0.0, 0.0), (0.45, 3.9)])
def test_pixel_to_q_and_back_is_the_identity_on_every_panel(sensor_of: tuple[float, float], rng):
    geometry = tilted_two_panel_geometry(*sensor_of)
    s0 = incident_wave_vector(geometry)
    for x, y in rng.uniform([1, 1], [399, 299], (50, 2)):
        s1 = q_of(geometry, x, y) + s0
        ray = tuple(s1 / np.linalg.norm(s1))
        back = ray_to_pixel(ray, panel_rectangles(geometry), panel_axes(geometry), *sensor(geometry))
        # the depth is taken at the ray's own angle one way and the corrected one the other
        np.testing.assert_allclose(back[:2], (x, y), atol=5e-3)


def test_parallax_moves_spots_outwards_by_the_mean_depth():
    plain, thick = tilted_two_panel_geometry(), tilted_two_panel_geometry(0.45, 1e-6)
    x, y = 10.0, 140.0
    s1 = q_of(plain, x, y) + incident_wave_vector(plain)
    ray = s1 / np.linalg.norm(s1)
    back = ray_to_pixel(tuple(ray), panel_rectangles(thick), panel_axes(thick), *sensor(thick))
    # hardly absorbed: on average half way through the sensor
    path_mm = 0.45 / abs(ray[2])
    assert back[0] - x == pytest.approx(path_mm / 2 * ray[0] / 0.1, rel=1e-3)


def test_moving_the_detector_moves_the_beam_centre_the_other_way():
    geometry = tilted_two_panel_geometry()
    after = moved(geometry, np.array([-0.15, -0.025, 0.0]))  # rows go down, 0.1 mm pixels
    np.testing.assert_allclose(
        np.subtract(beam_centre_px(after), beam_centre_px(geometry)), (1.5, -0.25), atol=1e-9
    )


def test_the_beam_centre_moves_by_as_many_pixels_as_asked():
    geometry = tilted_two_panel_geometry()
    after = beam_centre_px(with_beam_centre_moved(geometry, (3.0, -7.0)))
    np.testing.assert_allclose(np.subtract(after, beam_centre_px(geometry)), (3.0, -7.0), atol=1e-9)


def test_the_largest_q_is_just_beyond_that_of_any_pixel():
    geometry = tilted_two_panel_geometry()
    in_pixels = np.nanmax(pixel_maps(geometry)[0])
    assert in_pixels < largest_q(geometry) < 1.01 * in_pixels


def test_halves_of_rings_are_told_by_the_laboratory_not_by_the_image():
    geometry = moved(tilted_two_panel_geometry(), np.array([0.0, 0.0, 50.0]))  # 40 mm: wide angles
    q, half = pixel_maps(geometry)
    beam_x, beam_y = beam_centre_px(geometry)
    assert half[int(beam_y), 399] == 1
    assert half[299, int(beam_x)] == 0
    assert not half[q * geometry.wavelength < 0.2].any()


def test_q_map_agrees_with_single_pixels():
    geometry = tilted_two_panel_geometry(0.45, 3.9)
    q_map, _ = pixel_maps(geometry)
    assert q_map.shape == (300, 400)
    assert q_map[200, 33] == pytest.approx(np.linalg.norm(q_of(geometry, 33.5, 200.5)), rel=1e-6)


def test_a_ray_that_misses_all_panels_has_panel_minus_one():
    geometry = tilted_two_panel_geometry()
    assert ray_to_pixel((0.0, 0.0, 1.0), panel_rectangles(geometry), panel_axes(geometry), 0.0, 0.0)[2] == -1
