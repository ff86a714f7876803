"""Widths of spots against drawn photons."""

import numpy as np
import pytest

from ssx_processing.kernels.spot_shape import expected_spread, second_moments

S0 = np.array([0.0, 0.0, -1.0])
"""1/Å."""
DISTANCE, PIXEL = 100.0, 0.075
AXES = np.array([[[-40.0, 40.0, -DISTANCE], [PIXEL, 0.0, 0.0], [0.0, -PIXEL, 0.0]]])
NOTHING = (1e-9, 0.0, 0.0, 0.0)


def on_sphere(two_theta_deg: float, azimuth_deg: float) -> np.ndarray:
    t, a = np.radians([two_theta_deg, azimuth_deg])
    return np.array([np.sin(t) * np.cos(a), np.sin(t) * np.sin(a), -np.cos(t)]) - S0


def places(rays: np.ndarray, depth_mm: np.ndarray | float = 0.0) -> np.ndarray:
    """(n, 2) pixels where rays are absorbed."""
    unit = rays / np.linalg.norm(rays, axis=1)[:, None]
    at = unit * (DISTANCE / -unit[:, 2] + depth_mm)[:, None]
    return np.column_stack([at[:, 0] + 40.0, 40.0 - at[:, 1]]) / PIXEL


def spread(q: np.ndarray, rocking=NOTHING, sensor=(0.0, 0.0)) -> np.ndarray:
    return expected_spread(q[None], np.zeros(1, np.int64), S0, rocking, AXES, sensor)[0]


def covariance(xy: np.ndarray) -> np.ndarray:
    c = np.cov(xy.T)
    return np.array([c[0, 0], c[0, 1], c[1, 1]])


@pytest.mark.parametrize(("two_theta", "azimuth"), [(12.0, 0.0), (25.0, 40.0), (35.0, 110.0)])
def test_a_bandwidth_draws_spots_out_along_the_radius(two_theta, azimuth, rng):
    q = on_sphere(two_theta, azimuth)
    bandwidth = 0.002
    rays = S0 * (1 + bandwidth * rng.standard_normal(20_000))[:, None] + q
    # a node so broad that it diffracts at any wavelength
    rocking = (1.0, 0.0, bandwidth / 2, 0.0)
    np.testing.assert_allclose(spread(q, rocking), covariance(places(rays)), rtol=0.06, atol=0.01)


def test_a_sharp_node_that_is_on_the_sphere_is_less_drawn_out():
    q = on_sphere(25.0, 40.0)
    broad, sharp = (spread(q, (node, 0.0, 1e-3, 0.0)) for node in (1.0, 5e-5))
    assert sharp[0] + sharp[2] < 0.6 * (broad[0] + broad[2])


@pytest.mark.parametrize("azimuth", [0.0, 75.0])
def test_mosaic_blocks_spread_spots_across_the_radius(azimuth, rng):
    q = on_sphere(20.0, azimuth)
    mosaic = 1e-3
    turn = mosaic * rng.standard_normal(20_000)[:, None]
    rays = S0 + q + turn * np.cross(S0, q / np.linalg.norm(q[:2])) * np.linalg.norm(q)
    found = spread(q, (1e-9, mosaic, 0.0, 0.0))
    a = np.radians(azimuth)
    across = np.array([np.sin(a) ** 2, 2 * np.sin(a) * np.cos(a), np.cos(a) ** 2])
    expected = covariance(places(rays)) @ across
    assert found @ across == pytest.approx(expected, rel=0.05)


def test_the_depth_of_the_sensor_draws_spots_out(rng):
    q, thickness, absorption = on_sphere(30.0, 30.0), 0.45, 4.0
    depth = -np.log(1 - rng.uniform(size=200_000)) / absorption
    depth = depth[depth < thickness / np.cos(np.radians(30.0))]
    xy = places(np.tile(S0 + q, (len(depth), 1)), depth)
    np.testing.assert_allclose(spread(q, NOTHING, (thickness, absorption)), covariance(xy), rtol=0.03)


def test_second_moments_of_drawn_spots_are_theirs(rng):
    n, true = 600, np.array([[2.0, 0.7], [0.7, 1.2]])
    image = rng.poisson(1.0, (n, n))
    x, y = (np.stack(np.meshgrid(*[np.arange(30.0, n - 30, 40)] * 2), -1).reshape(-1, 2)).T.copy()
    for sx, sy in zip(x, y, strict=True):
        fast, slow = np.floor(rng.multivariate_normal([sx, sy], true, 2000).T).astype(int)
        np.add.at(image, (slow, fast), 1)
    bad = np.zeros((n, n), bool)
    bad[int(y[0]), int(x[0])] = True
    found = second_moments(image.astype(np.uint32), bad, x, y, np.full(len(x), 7.0), 1e9)
    assert np.isnan(found[0]).all()
    expected = [true[0, 0] + 1 / 12, true[0, 1], true[1, 1] + 1 / 12]
    np.testing.assert_allclose(np.median(found[1:], axis=0), expected, rtol=0.05)
