import numpy as np
import pytest

from ssx_processing.kernels.integration import (
    BACKGROUND,
    FLAG_BAD_PIXEL,
    FLAG_OVERLAP,
    FLAG_SATURATED,
    FLAGS,
    INTENSITY,
    NOISE,
    SIGMA,
    integrate_reflections,
)

N = 400
RADII = (4.0, 5.5, 8.5)


def integrate(
    image: np.ndarray, xy: np.ndarray, bad: np.ndarray | None = None, gain=1.0, saturation=1e9
) -> np.ndarray:
    owners = np.zeros((N, N), np.uint8)
    background = np.full(len(xy), image.mean())
    result = integrate_reflections(
        image, np.zeros((N, N), bool) if bad is None else bad, xy[:, 0].copy(), xy[:, 1].copy(),
        np.zeros(len(xy), np.int64), np.array([[0, 0, N, N]]), background, RADII, gain, saturation, owners,
    )  # fmt: skip
    assert not owners.any()
    return result


def grid(rng: np.random.Generator, step: int = 20) -> np.ndarray:
    x, y = np.meshgrid(np.arange(20, N - 20, step), np.arange(20, N - 20, step))
    return np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(0, 1, (x.size, 2))


def expected_image(xy: np.ndarray, photons: float) -> np.ndarray:
    y, x = np.mgrid[:N, :N] + 0.5
    image = np.zeros((N, N))
    for sx, sy in xy:
        image += np.exp(-0.5 * ((x - sx) ** 2 + (y - sy) ** 2) / 1.1**2)
    return image * photons / (2 * np.pi * 1.1**2)


@pytest.mark.parametrize("background", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("photons", [0.0, 30.0, 1000.0])
def test_intensities_are_unbiased_and_their_sigmas_true(background, photons, rng):
    pulls, intensities = [], []
    inside = 1 - np.exp(-0.5 * (4.0 / 1.1) ** 2)
    for _ in range(6):
        xy = grid(rng)
        image = rng.poisson(background + expected_image(xy, photons)).astype(np.uint32)
        r = integrate(image, xy)
        assert not r[:, FLAGS].any()
        intensities.append(r[:, INTENSITY])
        pulls.append((r[:, INTENSITY] - photons * inside) / r[:, SIGMA])
    pull = np.concatenate(pulls)
    error_of_mean = np.concatenate(intensities).std() / np.sqrt(len(pull))
    assert abs(np.concatenate(intensities).mean() - photons * inside) < 4 * error_of_mean + 0.01 * photons
    assert pull.std() == pytest.approx(1.0, abs=0.12)


def test_gain_turns_counts_into_photons(rng):
    xy = grid(rng)
    image = rng.poisson(2.0 + expected_image(xy, 200.0))
    one, ten = (
        integrate(image.astype(np.uint32), xy),
        integrate((10 * image).astype(np.uint32), xy, gain=10.0),
    )
    np.testing.assert_allclose(ten[:, INTENSITY], one[:, INTENSITY], rtol=1e-9)
    np.testing.assert_allclose(ten[:, BACKGROUND], one[:, BACKGROUND], rtol=1e-9)
    np.testing.assert_allclose(ten[:, SIGMA], one[:, SIGMA], rtol=0.02)


def test_overlapping_discs_are_flagged_and_others_not(rng):
    xy = np.array([[100.0, 100.0], [106.0, 100.0], [200.0, 200.0]])
    r = integrate(rng.poisson(1.0, (N, N)).astype(np.uint16), xy)
    assert (r[:, FLAGS] == [FLAG_OVERLAP, FLAG_OVERLAP, 0]).all()


def test_a_neighbour_s_disc_is_no_background(rng):
    xy = np.array([[100.0, 100.0], [110.5, 100.0]])
    image = rng.poisson(1.0 + expected_image(xy[1:], 50_000.0)).astype(np.uint32)
    assert abs(integrate(image, xy)[0, INTENSITY]) < 40


def test_a_hot_pixel_in_the_background_ring_is_left_out(rng):
    image = rng.poisson(1.0, (N, N)).astype(np.uint16)
    image[107, 100] = 5000
    r = integrate(image, np.array([[100.5, 100.5]]))
    assert r[0, BACKGROUND] == pytest.approx(1.0, abs=0.4)


def test_masked_saturated_and_outside_pixels_are_flagged(rng):
    image = rng.poisson(1.0, (N, N)).astype(np.uint16)
    image[50, 50] = 1000
    bad = np.zeros((N, N), bool)
    bad[100, 102] = True
    r = integrate(image, np.array([[50.5, 50.5], [100.5, 100.5], [2.0, 200.0]]), bad, saturation=1000)
    assert (r[:, FLAGS] == [FLAG_SATURATED, FLAG_BAD_PIXEL, FLAG_BAD_PIXEL]).all()


@pytest.mark.parametrize("background", [0.5, 3.0, 20.0])
def test_weights_by_the_noise_leave_empty_reflections_at_zero(background, rng):
    """Weights by sigma do not: discs that fluctuated down would count more."""
    by_noise, by_sigma, n, noise = 0.0, 0.0, 0, 0.0
    for _ in range(8):
        xy = grid(rng)
        r = integrate(rng.poisson(background, (N, N)).astype(np.uint16), xy)
        by_noise += (r[:, INTENSITY] / r[:, NOISE]).sum() / (1 / r[:, NOISE]).sum() * len(xy)
        by_sigma += (r[:, INTENSITY] / r[:, SIGMA] ** 2).sum() / (1 / r[:, SIGMA] ** 2).sum() * len(xy)
        n, noise = n + len(xy), r[:, NOISE].mean()
        assert noise == pytest.approx(r[:, INTENSITY].var(), rel=0.25)
    error = np.sqrt(noise / n)
    assert abs(by_noise / n) < 3.5 * error
    assert by_sigma < by_noise
