import numpy as np
import pytest
from scipy.stats import poisson

from ssx_processing.simulation.background import (
    ICE_D,
    BackgroundLevels,
    add_ice,
    add_poisson_background,
    expected_background,
)
from ssx_processing.simulation.scene import Scene


def drawn(levels: BackgroundLevels, seed: int, factor: float = 1.0) -> np.ndarray:
    image = np.zeros(levels.level.shape, np.uint32)
    add_poisson_background(image, levels, factor, seed)
    return image


@pytest.mark.parametrize("mean", [0.002, 0.3, 3.0, 60.0])
def test_pixels_of_one_level_have_the_poisson_distribution(mean: float):
    levels = BackgroundLevels(np.zeros((1000, 1000), np.uint16), np.array([mean]))
    image = drawn(levels, seed=1)
    values = np.arange(image.max() + 1)
    expected = image.size * poisson.pmf(values, mean)
    seen = np.bincount(image.ravel())
    common = expected > 20
    chi2 = ((seen - expected)[common] ** 2 / expected[common]).sum()
    assert chi2 < common.sum() + 5 * np.sqrt(2 * common.sum())


def test_variance_equals_mean_in_every_ring(scene: Scene):
    image = drawn(scene.background, seed=7, factor=1.3)
    expected = 1.3 * scene.background.image
    ring = np.digitize(scene.maps.q, np.linspace(0.05, 0.5, 16))
    for number in range(1, 16):
        inside = (ring == number) & ~scene.maps.gap & (scene.maps.transmission > 0.99)
        deviation = (image[inside] - expected[inside]) / np.sqrt(expected[inside])
        n = inside.sum()
        assert n > 1000
        assert abs(deviation.mean()) < 5 / np.sqrt(n)
        fourth = 3 + np.mean(1 / expected[inside])  # kurtosis of a Poisson variable
        assert abs((deviation**2).mean() - 1) < 5 * np.sqrt((fourth - 1) / n)


def test_frames_and_neighbouring_pixels_are_independent():
    levels = BackgroundLevels(np.zeros((1000, 1000), np.uint16), np.array([2.0]))
    first, second = drawn(levels, seed=1).astype(float) - 2, drawn(levels, seed=2).astype(float) - 2
    limit = 5 * 2 / np.sqrt(first.size)
    assert abs((first * second).mean()) < limit
    assert abs((first[:, 1:] * first[:, :-1]).mean()) < limit
    assert abs((first[1:] * first[:-1]).mean()) < limit


def test_rounded_levels_are_within_half_a_per_cent(scene: Scene):
    fine = expected_background(scene.maps, 3.0)
    twice = expected_background(scene.maps, 6.0)
    lit = fine.image > 0.1
    assert twice.image[lit] / fine.image[lit] == pytest.approx(2.0, rel=0.011)


def test_background_is_dark_behind_the_beam_stop_and_bright_at_the_solvent_ring(scene: Scene):
    image, q = scene.background.image, scene.maps.q
    live = ~scene.maps.gap & (scene.maps.transmission > 0.99)
    assert image[(q < 0.01) & ~scene.maps.gap].max() < 0.05
    assert (
        image[live & (np.abs(q - 1 / 3.3) < 0.01)].mean()
        > 1.5 * image[live & (np.abs(q - 1 / 7) < 0.01)].mean()
    )


def test_polarised_beam_scatters_less_along_x(scene: Scene):
    factor = scene.maps.polarisation
    middle_row, middle_column = np.unravel_index(np.argmin(scene.maps.q), factor.shape)
    assert factor[middle_row, 0] < factor[0, middle_column] - 0.1
    assert factor[0, middle_column] == pytest.approx(1.0, abs=0.01)


def test_ice_is_seen_at_its_spacings_only(scene: Scene, rng: np.random.Generator):
    image = np.zeros(scene.maps.q.shape, np.uint32)
    add_ice(image, scene.ice, 20.0, rng)
    from_ring = np.min([np.abs(scene.maps.q - 1 / d) for d in ICE_D], axis=0)
    live = ~scene.maps.gap
    assert image[live & (from_ring < 0.001)].mean() > 2
    assert image[from_ring > 0.01].max() == 0
