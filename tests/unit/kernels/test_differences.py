"""Differences between subsets: closed forms, a signal of known strength, and none at all."""

import numpy as np
import pytest

from ssx_processing.kernels.differences import differences, r_iso
from ssx_processing.kernels.lattice_hash import lattice_hash, random_subset
from ssx_processing.kernels.relative_scale import relative_scale
from ssx_processing.kernels.statistics import MergedReflections

N = 20_000


@pytest.fixture
def d(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(20.0**-3, 1.8**-3, N) ** (-1 / 3)


def measured(rng: np.random.Generator, d: np.ndarray, truth: np.ndarray, error: float) -> MergedReflections:
    """Both halves have ``error``; their mean is merged; a tenth of the reflections is not measured."""
    half_1, half_2 = truth + rng.normal(0, error, (2, N))
    half_1[rng.random(N) < 0.1] = np.nan
    intensity, sigma = 0.5 * (half_1 + half_2), np.full(N, error / np.sqrt(2))
    return MergedReflections(d, np.isfinite(intensity).astype(np.int64), intensity, sigma, half_1, half_2)


def test_a_signal_as_strong_as_its_noise_correlates_by_a_half(rng: np.random.Generator, d: np.ndarray):
    truth, signal = rng.exponential(100.0, N), rng.normal(0, 2.0, N)
    dark, light = (measured(rng, d, t, np.sqrt(2.0)) for t in (truth, truth + signal))
    found = differences(light, dark, d_max=20.0, d_min=1.8, n_shells=5)
    assert found.overall.cc_difference == pytest.approx(0.5, abs=4 * found.overall.cc_difference_error)
    assert found.overall.cc_difference_error < 0.01
    assert found.overall.rms_over_sigma == pytest.approx(np.sqrt(6 / 2), rel=0.03)
    assert sum(shell.n_common for shell in found.shells) == found.overall.n_common


def test_equal_sets_differ_by_noise_alone_whatever_their_scales(rng: np.random.Generator, d: np.ndarray):
    truth = rng.exponential(100.0, N)
    dark = measured(rng, d, truth, 3.0)
    k = 1.3 * np.exp(-2 * 4.0 * 0.25 / d**2)
    other = measured(rng, d, truth, 3.0)
    light = MergedReflections(
        d, other.n, other.intensity / k, other.sigma / k, other.half_1 / k, other.half_2 / k
    )
    found = differences(dark, light, d_max=20.0, d_min=1.8, n_shells=5)
    assert (found.scale.k, found.scale.b_factor) == pytest.approx((1.3, 4.0), rel=0.02)
    assert abs(found.overall.cc_difference) < 4 * found.overall.cc_difference_error
    assert found.overall.rms_over_sigma == pytest.approx(1.0, abs=0.03)
    assert found.overall.cc_iso > 0.99


def test_r_iso_is_the_mean_relative_difference_of_amplitudes():
    f1, f2 = np.array([10.0, 20.0, 0.0]), np.array([11.0, 18.0, 1.0])
    expected = (1 + 2 + 1) / (0.5 * (30 + 30))
    assert r_iso(f1**2, f2**2) == pytest.approx(expected)
    assert r_iso(np.array([-4.0]), np.array([4.0])) == pytest.approx(2.0)


def test_sets_without_common_reflections_have_no_figures(d: np.ndarray):
    empty, full = np.full(N, np.nan), np.ones(N)
    one = MergedReflections(d, np.ones(N, np.int64), full, full, full, full)
    none = MergedReflections(d, np.zeros(N, np.int64), empty, empty, empty, empty)
    found = differences(one, none, d_max=20.0, d_min=1.8, n_shells=2).overall
    assert (found.n_common, found.n_pairs) == (0, 0)
    assert np.isnan([found.r_iso, found.cc_iso, found.rms_over_sigma, found.cc_difference]).all()


def test_few_reflections_give_a_scale_and_no_b():
    found = relative_scale(np.full(5, 3.0), np.full(5, 8.0), np.full(5, 2.0))
    assert (found.k, found.b_factor) == (4.0, 0.0)


def test_a_random_subset_is_the_same_in_any_order_and_knows_nothing_of_another(rng: np.random.Generator):
    file_hash, frame = np.zeros(10_000, np.uint64), np.arange(10_000)
    hashes = [lattice_hash(file_hash, frame, np.zeros(10_000, np.int64), salt=salt) for salt in (1, 2)]
    first, other = (random_subset(h, 3000) for h in hashes)
    order = rng.permutation(10_000)
    assert np.array_equal(random_subset(hashes[0][order], 3000), first[order])
    assert first.sum() == 3000
    assert (first & other).sum() == pytest.approx(900, abs=4 * np.sqrt(900))
