import numpy as np
import pytest

from ssx_processing.kernels.rings import ring_table
from ssx_processing.kernels.spot_finding import SpotFinder
from ssx_processing.models import SpotList

N = 320
ONE_PANEL = np.array([[0, 0, N, N]])


def radial_map() -> np.ndarray:
    y, x = np.mgrid[:N, :N] + 0.5
    return (1e-3 * np.hypot(x - N / 2 - 3, y - N / 2 + 7)).astype(np.float32)


def finder(bad: np.ndarray | None = None, rectangles: np.ndarray = ONE_PANEL, **settings) -> SpotFinder:
    bad = np.zeros((N, N), bool) if bad is None else bad
    return SpotFinder(ring_table(radial_map(), bad), rectangles, (N, N), **settings)


def gaussian_spots(xy: np.ndarray, photons: float, width_px: float = 1.0) -> np.ndarray:
    """Expected photons per pixel; positions with pixel centres at +0.5."""
    y, x = np.mgrid[:N, :N] + 0.5
    image = np.zeros((N, N))
    for sx, sy in xy:
        image += np.exp(-0.5 * ((x - sx) ** 2 + (y - sy) ** 2) / width_px**2)
    return image * photons / (2 * np.pi * width_px**2)


def grid(rng: np.random.Generator) -> np.ndarray:
    """Positions 20 pixels apart, off the pixel centres by random fractions, outside the smallest rings."""
    x, y = np.meshgrid(np.arange(30, N - 30, 20), np.arange(30, N - 30, 20))
    xy = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(0, 1, (x.size, 2))
    return xy[np.hypot(xy[:, 0] - N / 2 - 3, xy[:, 1] - N / 2 + 7) > 15]


def matched(spots: SpotList, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which true spots were found, and the errors of those found."""
    d = np.hypot(spots.x_px[None] - xy[:, :1], spots.y_px[None] - xy[:, 1:])
    found = d.min(axis=1) < 1.5
    nearest = d.argmin(axis=1)[found]
    return found, np.stack([spots.x_px[nearest], spots.y_px[nearest]], 1) - xy[found]


@pytest.mark.parametrize("background", [0.05, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("pixel_type", [np.uint16, np.uint32, np.int32, np.float32])
def test_spots_well_above_background_are_all_found_and_nothing_else(background, pixel_type, rng):
    xy = grid(rng)
    image = rng.poisson(background + gaussian_spots(xy, 100 + 60 * np.sqrt(background))).astype(pixel_type)
    spots = finder().find(image)
    found, error = matched(spots, xy)
    assert found.all()
    assert len(spots) == len(xy)
    assert np.sqrt((error**2).mean()) < 0.17
    assert np.abs(error.mean(axis=0)).max() < 0.03


@pytest.mark.parametrize("background", [0.02, 0.2, 1.0, 5.0, 50.0])
def test_blank_frames_have_no_spots(background, rng):
    search = finder()
    n_spots = sum(len(search.find(rng.poisson(background, (N, N)).astype(np.uint16))) for _ in range(20))
    assert n_spots <= 4  # of 2 million pixels


def test_intensity_and_background_are_those_put_in(rng):
    xy = grid(rng)
    spots = finder().find(rng.poisson(2.0 + gaussian_spots(xy, 500.0)).astype(np.uint16))
    assert np.median(spots.background) == pytest.approx(2.0, rel=0.1)
    assert np.median(spots.intensity) == pytest.approx(500.0, rel=0.12)  # less the tails below the threshold
    expected = np.median(spots.intensity) / np.sqrt(
        np.median(spots.intensity) + np.median(spots.n_pixels) * 2.0
    )
    assert np.median(spots.snr) == pytest.approx(expected, rel=0.1)


def test_a_single_hot_pixel_is_no_spot(rng):
    image = rng.poisson(1.0, (N, N)).astype(np.uint16)
    image[50, 60] = 3000
    assert len(finder().find(image)) == 0


def test_masked_pixels_are_never_part_of_a_spot(rng):
    bad = np.zeros((N, N), bool)
    bad[100:120] = True
    image = rng.poisson(1.0, (N, N)).astype(np.uint16)
    image[100:120] = 65535  # as detectors mark gaps
    assert len(finder(bad).find(image)) == 0


def test_a_smooth_step_such_as_a_shadow_is_no_spot(rng):
    y, x = np.mgrid[:N, :N] + 0.5
    shadow = 1 / (1 + np.exp((np.hypot(x - 150, y - 200) - 40) / 2.5))
    search = finder()
    assert sum(len(search.find(rng.poisson(8.0 * (1 - shadow)).astype(np.uint16))) for _ in range(5)) <= 1


def test_spots_do_not_grow_across_panels():
    rectangles = np.array([[0, 0, N, 160], [0, 160, N, 160]])
    image = np.ones((N, N), np.uint16)
    image[158:162, 80:83] = 200  # touches both
    assert len(finder().find(image)) == 1
    spots = finder(rectangles=rectangles).find(image)
    assert sorted(spots.panel) == [0, 1]


def test_a_region_larger_than_a_spot_is_refused_whole():
    image = np.ones((N, N), np.uint16)
    image[40:58, 200:218] = 500
    assert len(finder().find(image)) == 0


def test_frames_do_not_influence_each_other(rng):
    xy = grid(rng)
    image = rng.poisson(1.0 + gaussian_spots(xy, 300.0)).astype(np.uint16)
    search = finder()
    first = search.find(image)
    for _ in range(300):  # beyond the 255 values of the visit stamp
        search.find(np.zeros_like(image))
    again = search.find(image)
    np.testing.assert_array_equal(first.x_px, again.x_px)
    np.testing.assert_array_equal(first.intensity, again.intensity)


def test_gain_scales_counts_and_nothing_else(rng):
    xy = grid(rng)
    photons = rng.poisson(1.0 + gaussian_spots(xy, 300.0))
    one = finder().find(photons.astype(np.uint32))
    ten = finder(gain=10.0).find((10 * photons).astype(np.uint32))
    np.testing.assert_allclose(ten.x_px, one.x_px, atol=1e-5)
    np.testing.assert_allclose(ten.intensity, 10 * one.intensity, rtol=1e-5)
    np.testing.assert_allclose(ten.snr, one.snr, rtol=0.05)


def test_values_below_the_underload_are_no_background(rng):
    xy = grid(rng)
    counts = rng.poisson(4.0 + gaussian_spots(xy, 400.0)).astype(np.int16)
    clean = finder(underload=0.0).find(counts)
    counts[rng.random(counts.shape) < 0.02] = -3
    marked = finder(underload=0.0).find(counts)
    assert len(marked) == pytest.approx(len(clean), abs=3)
    assert np.median(marked.background) == pytest.approx(np.median(clean.background), rel=0.02)
    assert np.median(finder().find(counts).background) < 0.98 * np.median(clean.background)  # unless told


def test_a_saturated_spot_keeps_its_place_and_says_so(rng):
    xy = grid(rng)
    counts = rng.poisson(2.0 + gaussian_spots(xy, 20_000.0, width_px=1.3))
    spots = finder(saturation=1000.0).find(np.minimum(counts, 1000).astype(np.uint16))
    found, error = matched(spots, xy)
    assert found.all()
    assert (spots.n_saturated > 0).all()
    assert np.sqrt((error**2).mean()) < 0.17
    assert (finder(saturation=60_000.0).find(counts.astype(np.uint16)).n_saturated == 0).all()


def test_a_cluster_of_dead_pixels_that_the_mask_does_not_know_is_no_spot(rng):
    image = rng.poisson(1.0, (N, N)).astype(np.uint16)
    image[70:72, 90:93] = 65535
    assert len(finder(saturation=65535.0).find(image)) == 0
    assert len(finder().find(image)) == 1  # unless told
