import numpy as np
import pytest
from scipy.stats import binom

from ssx_processing.kernels.lattice_score import (
    LOG10_TRIALS,
    index_distance,
    inverse,
    log10_binomial_tail,
    log10_chance,
    match_score,
)


@pytest.mark.parametrize(("n", "k", "p"), [(20, 5, 0.027), (250, 60, 0.008), (60, 60, 0.0017), (10, 1, 0.3)])
def test_binomial_tail_agrees_with_scipy(n, k, p):
    assert log10_binomial_tail(n, k, p) == pytest.approx(binom.logsf(k - 1, n, p) / np.log(10), rel=1e-9)


def test_no_match_is_as_likely_as_can_be():
    assert log10_binomial_tail(50, 0, 0.01) == 0.0
    assert log10_chance(np.full(50, 0.4))[0] == LOG10_TRIALS


def test_inverse_agrees_with_lapack(rng):
    m = rng.normal(size=(3, 3))
    out = np.empty((3, 3))
    inverse(m, out)
    np.testing.assert_allclose(out, np.linalg.inv(m), rtol=1e-10)


def test_spots_on_lattice_points_score_one_each():
    hkl = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 2.0]])
    assert match_score(hkl, np.eye(3)) == pytest.approx(2.0)
    np.testing.assert_allclose(index_distance(hkl + np.array([0.0, 0.1, -0.2]), np.eye(3)), [0.2, 0.2])


def test_random_spots_match_as_often_as_assumed(rng):
    """The assumption behind the significance: a match within t has probability (2 t)³."""
    distance = index_distance(rng.uniform(-5, 5, (200_000, 3)), np.eye(3))
    for t in (0.06, 0.10, 0.15):
        assert (distance < t).mean() == pytest.approx((2 * t) ** 3, rel=0.05)
