import numpy as np
import pytest

from ssx_processing.kernels.integration import integrate_reflections
from ssx_processing.kernels.integration_table import (
    BACKGROUND,
    FLAG_BACKGROUND,
    FLAG_BAD_PIXEL,
    FLAG_INCOMPLETE,
    FLAG_OVERLAP,
    FLAG_SATURATED,
    FLAG_SHARED,
    FLAGS,
    FRACTION,
    INTENSITY,
    NOISE,
    REJECTED_FLAGS,
    SIGMA,
)
from ssx_processing.kernels.spot_mask import MASK_SIGMAS

N = 400
WIDTH = 1.1
"""Standard deviation of the spots that are drawn, px."""
ROUND = (WIDTH**2 + 1 / 12, 0.0, WIDTH**2 + 1 / 12)


def integrate(
    image: np.ndarray,
    xy: np.ndarray,
    bad: np.ndarray | None = None,
    *,
    gain: float = 1.0,
    saturation: float = 1e9,
    covariance: tuple[float, float, float] = ROUND,
    min_fraction: float = 0.8,
    fit: bool = False,
) -> np.ndarray:
    owners = np.zeros((N, N), np.uint8)
    image = np.rint(image).astype(np.uint32)
    result = integrate_reflections(
        image, np.zeros((N, N), bool) if bad is None else bad, xy[:, 0].copy(), xy[:, 1].copy(),
        np.zeros(len(xy), np.int64), np.array([[0, 0, N, N]]), np.tile(covariance, (len(xy), 1)),
        np.arange(len(xy)) // 40, (0.0, 1.5, 3.0), fit, gain, saturation, min_fraction, owners,
    )  # fmt: skip
    assert not owners.any()
    return result


def grid(rng: np.random.Generator, step: int = 20) -> np.ndarray:
    x, y = np.meshgrid(np.arange(20, N - 20, step), np.arange(20, N - 20, step))
    return np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(0, 1, (x.size, 2))


def expected_image(
    xy: np.ndarray, photons: float | np.ndarray, covariance: tuple[float, float, float] | None = None
) -> np.ndarray:
    """Gaussian spots, each averaged over the area of the pixels in a window around it."""
    a, b, d = covariance or (WIDTH**2, 0.0, WIDTH**2)
    inverse = np.linalg.inv([[a, b], [b, d]])
    image = np.zeros((N, N))
    fine = (np.arange(3) + 0.5) / 3
    for (sx, sy), n in zip(xy, np.broadcast_to(photons, len(xy)), strict=True):
        left, top = max(int(sx) - 15, 0), max(int(sy) - 15, 0)
        x = (np.arange(left, min(int(sx) + 16, N))[:, None] + fine).ravel() - sx
        y = (np.arange(top, min(int(sy) + 16, N))[:, None] + fine).ravel() - sy
        square = inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y[:, None] + inverse[1, 1] * y[:, None] ** 2
        density = np.exp(-0.5 * square) * n / (2 * np.pi * np.sqrt(a * d - b * b))
        means = density.reshape(len(y) // 3, 3, len(x) // 3, 3).mean(axis=(1, 3))
        image[top : top + means.shape[0], left : left + means.shape[1]] += means
    return image


@pytest.mark.parametrize("background", [0.02, 0.1, 0.5, 2.0, 10.0, 50.0])
@pytest.mark.parametrize("fit", [False, True])
def test_empty_reflections_have_mean_zero_and_the_sigma_they_are_given(background, fit, rng):
    images = [rng.poisson(background, (N, N)) for _ in range(20)]
    rows = [integrate(image, grid(rng, 17), fit=fit) for image in images]
    r = np.concatenate(rows)
    pull = r[:, INTENSITY] / r[:, SIGMA]
    assert len(pull) > 9000
    assert abs(pull.mean()) < 0.05
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    assert r[:, NOISE].mean() == pytest.approx(r[:, INTENSITY].var(), rel=0.08)


@pytest.mark.parametrize("background", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("photons", [2.0, 30.0, 1000.0])
@pytest.mark.parametrize("fit", [False, True])
def test_intensities_are_unbiased_and_their_sigmas_true(background, photons, fit, rng):
    r, drawn = [], []
    for _ in range(6):
        xy = grid(rng)
        true = rng.exponential(photons, len(xy))
        image = rng.poisson(background + expected_image(xy, true)).astype(np.uint32)
        r.append(integrate(image, xy, fit=fit))
        drawn.append(true)
    rows, true = np.concatenate(r), np.concatenate(drawn)
    assert not rows[:, FLAGS].any()
    error_of_mean = (rows[:, INTENSITY] - true).std() / np.sqrt(len(true))
    assert abs((rows[:, INTENSITY] - true).mean()) < 3.5 * error_of_mean + 0.01 * photons
    assert ((rows[:, INTENSITY] - true) / rows[:, SIGMA]).std() == pytest.approx(1.0, abs=0.12)


def test_weak_reflections_are_right_on_average_within_two_percent(rng):
    """Fifteen thousand of three photons each: neither re-centred nor made positive."""
    total = n = 0
    for _ in range(50):
        xy = grid(rng)
        image = rng.poisson(0.3 + expected_image(xy, 3.0))
        intensity = integrate(image, xy)[:, INTENSITY]
        assert (intensity < 0).any()
        total, n = total + intensity.sum(), n + len(xy)
    assert total / n == pytest.approx(3.0, rel=0.025)  # of which 1.5 % are what chance does


def test_sigma_of_an_integrating_detector_knows_its_noise(rng):
    xy = grid(rng)
    image = 500.0 + 8.0 * (rng.poisson(0.5, (N, N)) + 0.7 * rng.standard_normal((N, N)))
    r = integrate(image, xy, gain=8.0)
    assert (r[:, INTENSITY] / r[:, SIGMA]).std() == pytest.approx(1.0, abs=0.12)


def test_gain_turns_counts_into_photons(rng):
    xy = grid(rng)
    image = rng.poisson(2.0 + expected_image(xy, 200.0))
    one, ten = (
        integrate(image, xy),
        integrate((10 * image), xy, gain=10.0),
    )
    for column in (INTENSITY, BACKGROUND, SIGMA, NOISE):
        np.testing.assert_allclose(ten[:, column], one[:, column], rtol=1e-9)


@pytest.mark.parametrize("covariance", [(9.0, 0.0, 1.2), (5.0, 3.5, 4.0)])
def test_elongated_masks_hold_all_photons(covariance, rng):
    xy = grid(rng, 40)
    seen = (covariance[0] + 1 / 12, covariance[1], covariance[2] + 1 / 12)
    image = rng.poisson(0.5 + expected_image(xy, 3000.0, covariance)).astype(np.uint32)
    assert integrate(image, xy, covariance=seen)[:, INTENSITY].mean() == pytest.approx(3000.0, rel=0.01)
    assert integrate(image, xy)[:, INTENSITY].mean() < 0.93 * 3000.0


@pytest.mark.parametrize("apart", [2.2, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("stronger", [1.0, 5.0])
def test_reflections_that_share_pixels_get_their_own_photons(apart, stronger, rng):
    first = grid(rng, 40)
    xy = np.concatenate([first, first + apart * WIDTH * np.array([0.8, 0.6])])
    photons = np.concatenate([np.full(len(first), 400.0), np.full(len(first), 400.0 * stronger)])
    r = integrate(rng.poisson(1.0 + expected_image(xy, photons)), xy)
    assert (r[:, FLAGS] == FLAG_SHARED).all()
    for part in (slice(None, len(first)), slice(len(first), None)):
        assert r[part, INTENSITY].mean() == pytest.approx(photons[part].mean(), rel=0.06)
        pull = (r[part, INTENSITY] - photons[part]) / r[part, SIGMA]
        assert 0.3 < np.sqrt((pull**2).mean()) < 1.2


def test_reflections_on_top_of_each_other_are_rejected_and_those_apart_not(rng):
    xy = np.array([[100.0, 100.0], [100.9, 100.0], [200.0, 200.0]])
    r = integrate(rng.poisson(1.0, (N, N)), xy)
    assert (r[:, FLAGS].astype(int) & REJECTED_FLAGS == [FLAG_OVERLAP, FLAG_OVERLAP, 0]).all()


def test_a_neighbour_s_mask_is_no_background(rng):
    xy = np.array([[100.0, 100.0], [109.0, 100.0]])
    image = rng.poisson(1.0 + expected_image(xy[1:], 50_000.0)).astype(np.uint32)
    assert abs(integrate(image, xy)[0, INTENSITY]) < 40


def test_a_hot_pixel_and_a_spot_in_the_background_ring_are_left_out(rng):
    mean = []
    for _ in range(40):
        xy = grid(rng, 40)
        image = rng.poisson(0.5 + expected_image(xy + np.array([6.5, 0.0]), 80.0))
        image[xy[:, 1].astype(int) + 6, xy[:, 0].astype(int)] = 5000
        mean.append(integrate(image, xy)[:, BACKGROUND])
    assert np.mean(mean) == pytest.approx(0.5, rel=0.12)


def test_pixels_missing_from_the_edge_of_a_mask_are_made_up_for(rng):
    xy = grid(rng, 40)
    bad = np.zeros((N, N), bool)
    for x, y in xy.astype(int):
        bad[:, x + 2] |= abs(np.arange(N) - y) < 12
    image = rng.poisson(1.0 + expected_image(xy, 2000.0)).astype(np.uint32)
    r = integrate(image, xy, bad)
    good = r[:, FLAGS] == FLAG_INCOMPLETE
    assert good.mean() > 0.9
    assert (r[good, FRACTION] < 0.97).all()
    assert r[good, INTENSITY].mean() == pytest.approx(2000.0, rel=0.02)
    strict = integrate(image, xy, bad, min_fraction=0.999)
    assert (strict[:, FLAGS].astype(int) & FLAG_BAD_PIXEL != 0).all()


def test_masked_saturated_and_outside_pixels_are_flagged(rng):
    image = rng.poisson(1.0, (N, N))
    image[50, 50] = 1000
    bad = np.zeros((N, N), bool)
    bad[100, 100] = True
    bad[280:320, 280:320] = True
    bad[298:303, 298:303] = False
    xy = np.array([[50.5, 50.5], [100.5, 100.5], [0.3, 200.0], [300.5, 300.5]])
    r = integrate(image, xy, bad, saturation=1000, min_fraction=0.9)
    assert (
        r[:, FLAGS].astype(int) & REJECTED_FLAGS
        == [FLAG_SATURATED, FLAG_BAD_PIXEL, FLAG_BAD_PIXEL, FLAG_BACKGROUND]
    ).all()


@pytest.mark.parametrize("half_of_the_ring", [False, True])
def test_a_gradient_of_the_background_does_no_harm(half_of_the_ring, rng):
    """The disc and a whole ring have one centre; where half of the ring is missing a plane is fitted."""
    xy = grid(rng, 40)
    x = np.arange(N)
    image = rng.poisson(np.tile(np.exp(0.02 * (x - N / 2)) * 20, (N, 1)))
    bad = np.zeros((N, N), bool)
    if half_of_the_ring:
        for at in xy.astype(int):
            bad[at[1] - 12 : at[1] + 13, at[0] + 5 : at[0] + 15] = True
    r = integrate(image, xy, bad)
    pull = r[:, INTENSITY] / r[:, SIGMA]
    assert abs(pull.mean()) < 3.5 / np.sqrt(len(xy))
    assert pull.std() < 1.25


@pytest.mark.parametrize("background", [0.5, 3.0, 20.0])
def test_weights_by_the_noise_leave_empty_reflections_at_zero(background, rng):
    by_noise, n, noise = 0.0, 0, 0.0
    for _ in range(8):
        xy = grid(rng)
        r = integrate(rng.poisson(background, (N, N)), xy)
        by_noise += (r[:, INTENSITY] / r[:, NOISE]).sum() / (1 / r[:, NOISE]).sum() * len(xy)
        n, noise = n + len(xy), r[:, NOISE].mean()
    assert abs(by_noise / n) < 3.5 * np.sqrt(noise / n)


def test_the_mask_holds_what_its_sigmas_say():
    xy = np.array([[200.3, 200.6]])
    r = integrate(expected_image(xy, 1e6), xy)
    assert r[0, INTENSITY] == pytest.approx(1e6 * (1 - np.exp(-0.5 * MASK_SIGMAS**2)), rel=0.004)
