import numpy as np
import pytest

from ssx_processing.kernels.lattice_score import (
    LOG10_CHOICES,
    LOG10_TRIALS,
    SCALES,
    SHARES,
    determinant,
    index_distance,
    index_weights,
    inverse,
    log10_chance,
    match_score,
    spot_columns,
    squared_deviations,
)

ERRORS = (4e-4, 6e-4, 2e-3)
S0 = np.array([0.0, 0.0, -1.0])
EQUAL = np.ones(3, np.float32)
A = np.array([[0.012, 0.003, 0.001], [-0.002, 0.011, 0.004], [0.001, -0.002, 0.024]])


def random_spots(n: int, rng: np.random.Generator) -> np.ndarray:
    """Spots on the Ewald sphere, related to no lattice."""
    two_theta, phi = np.arccos(1 - rng.uniform(0.0005, 0.1, n)), rng.uniform(0, 2 * np.pi, n)
    s1 = np.stack([np.sin(two_theta) * np.cos(phi), np.sin(two_theta) * np.sin(phi), -np.cos(two_theta)], 1)
    return s1 - S0


def test_inverse_and_determinant_agree_with_lapack(rng):
    m = rng.normal(size=(3, 3))
    out = np.empty((3, 3))
    inverse(m, out)
    np.testing.assert_allclose(out, np.linalg.inv(m), rtol=1e-10)
    assert determinant(m) == pytest.approx(np.linalg.det(m))


@pytest.mark.parametrize("n", [2, 16, 19])
def test_spots_on_lattice_points_score_one_each_however_many_are_padded(n, rng):
    hkl = rng.integers(-20, 20, (n, 3)).astype(float)
    assert match_score(spot_columns(hkl), n, np.eye(3), EQUAL) == pytest.approx(n)
    off = hkl + np.array([0.0, 0.1, -0.2])
    assert match_score(spot_columns(off), n, np.eye(3), EQUAL) == pytest.approx(n * (1 - 9 * 0.05), rel=1e-4)
    np.testing.assert_allclose(index_distance(off, np.eye(3)), 0.2)


def test_only_axes_too_long_for_the_excitation_error_count_less():
    weights = index_weights(np.diag([60.0, 80.0, 300.0]), 1e-3)
    assert weights[0] == weights[1] == 1.0
    assert weights[2] == pytest.approx((1 / 3 / 0.75) ** 2)


def test_deviations_are_measured_across_and_along_the_ray(rng):
    hkl = rng.integers(-9, 9, (40, 3))
    point = hkl @ A.T
    ray = (point + S0) / np.linalg.norm(point + S0, axis=1)[:, None]
    across = np.cross(ray, rng.normal(size=(40, 3)))
    across /= np.linalg.norm(across, axis=1)[:, None]
    q = point + 3e-4 * across + 5e-4 * ray
    squares, density = squared_deviations(q, S0, A, ERRORS)
    along_variance = ERRORS[1] ** 2 + (ERRORS[2] * np.linalg.norm(q, axis=1)) ** 2
    # the ray to the spot is not quite that to the point
    np.testing.assert_allclose(squares, (3e-4 / ERRORS[0]) ** 2 + 5e-4**2 / along_variance, rtol=0.01)
    expected = np.linalg.det(A) / ((2 * np.pi) ** 1.5 * ERRORS[0] ** 2 * np.sqrt(along_variance))
    np.testing.assert_allclose(density, expected, rtol=1e-5)


def test_significance_is_the_mixture_likelihood_summed_plainly(rng):
    squares, density = rng.uniform(0, 30, 50), rng.uniform(10, 3000, 50)
    plain = max(
        np.log10(1 - share + share * density / scale**3 * np.exp(-0.5 * squares / scale**2)).sum()
        for scale in SCALES
        for share in SHARES
    )
    assert log10_chance(squares, density)[0] == pytest.approx(LOG10_TRIALS + LOG10_CHOICES - plain)


def test_random_spots_are_as_likely_under_a_lattice_as_without_it(rng):
    """The assumption behind the significance: the ratio of the likelihoods has the expectation 1."""
    squares, density = squared_deviations(random_spots(400_000, rng), S0, A, ERRORS)
    for scale in SCALES[:2]:
        ratio = density / scale**3 * np.exp(-0.5 * squares / scale**2)
        assert ratio.mean() == pytest.approx(1.0, rel=0.1)


def test_chance_solutions_are_rarer_than_said(rng):
    """For one orientation, not the best of a million: its share must stay below 1/x."""
    n_patterns = 4000
    ratios = np.empty(n_patterns)
    for i in range(n_patterns):
        e, _, _ = log10_chance(*squared_deviations(random_spots(15, rng), S0, A, ERRORS))
        ratios[i] = LOG10_TRIALS - e
    for x in (0.0, 0.5, 1.0, 2.0):
        assert (ratios > x).mean() <= 10**-x
