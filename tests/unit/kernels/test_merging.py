"""Sums, estimates from them, and halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ssx_processing.kernels.merging import (
    ErrorModel,
    Observations,
    Scales,
    accumulate,
    estimate,
    merge_sums,
    random_halves,
)
from ssx_processing.kernels.scaling import scale_lattices

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills


@pytest.fixture
def observations(rng: np.random.Generator) -> Observations:
    """Thirty observations of four reflections, in three lattices."""
    return Observations(
        offsets=np.array([0, 12, 12, 30]),
        uid=rng.integers(0, 4, 30).astype(np.int32),
        intensity=rng.normal(100.0, 40.0, 30),
        noise_variance=rng.uniform(5.0, 50.0, 30),
        factor=rng.uniform(0.2, 1.0, 30),
    )


@pytest.fixture
def scales() -> Scales:
    return Scales(
        log_g=np.array([0.3, 0.0, -0.2]),
        b_factor=np.array([2.0, 0.0, -3.0]),
        cc=np.zeros(3),
        n_shared=np.zeros(3, np.int64),
        verdict=np.zeros(3, np.uint8),
    )


S_SQUARED = np.array([0.01, 0.02, 0.03, 0.04])
EXPECTED = np.array([100.0, 80.0, -5.0, np.nan])


def test_weighted_means_are_those_of_a_plain_loop(observations: Observations, scales: Scales):
    model = ErrorModel(noise_factor=1.3, spread=0.6)
    reference = accumulate(observations, scales, s_squared=S_SQUARED, error_model=model, expected=EXPECTED)
    for u in range(4):
        w_sum, wy_sum, n = 0.0, 0.0, 0
        for i, f in enumerate(observations.lattice_of_observation()):
            if observations.uid[i] != u:
                continue
            k = np.exp(scales.log_g[f] - 2 * scales.b_factor[f] * S_SQUARED[u])
            variance = observations.noise_variance[i] / k**2
            if np.isfinite(EXPECTED[u]):
                counting = max(EXPECTED[u], 0) / k
                variance = 1.3 * (variance + counting) + (0.6 * EXPECTED[u]) ** 2
            w = observations.factor[i] / variance
            w_sum, wy_sum, n = w_sum + w, wy_sum + w * observations.intensity[i] / k, n + 1
        assert reference.mean[u] == pytest.approx(wy_sum / w_sum)
        assert reference.n[u] == n


def test_weights_do_not_know_the_observations_own_intensity(observations: Observations, scales: Scales):
    model = ErrorModel()
    before = accumulate(observations, scales, s_squared=S_SQUARED, error_model=model, expected=EXPECTED)
    observations.intensity[3] *= 5
    after = accumulate(observations, scales, s_squared=S_SQUARED, error_model=model, expected=EXPECTED)
    assert np.array_equal(before.weight, after.weight)


def test_lattices_and_outliers_left_out_put_nothing_in(observations: Observations, scales: Scales):
    scales.verdict[0] = 2
    outlier = np.zeros(30, bool)
    outlier[20] = True
    reference = accumulate(
        observations, scales, s_squared=S_SQUARED, error_model=ErrorModel(), outlier=outlier
    )
    assert reference.weight[:12].tolist() == [0.0] * 12
    assert reference.weight[20] == 0.0
    assert reference.n.sum() == 17


def test_friedel_mates_and_halves_add_up_to_the_whole(observations: Observations, scales: Scales, rng):
    reference = accumulate(observations, scales, s_squared=S_SQUARED, error_model=ErrorModel())
    sums = merge_sums(
        observations,
        reference,
        friedel_minus=rng.integers(0, 2, 30).astype(np.uint8),
        half=np.array([0, 1, 1], np.uint8),
    )
    whole = estimate(sums.sum(axis=(1, 2)))
    assert np.allclose(whole.intensity, reference.mean)
    assert whole.n.tolist() == reference.n.tolist()
    assert sums[:, :, 0, 0].sum() == 12
    assert sums[:, :, 1, 0].sum() == 18


def test_a_single_observation_has_only_an_internal_sigma():
    merged = estimate(np.array([[1, 0.25, 2.5, 0.25, 0.0625, 0.625, 6.25]]))
    assert merged.intensity[0] == 10.0
    assert merged.sigma[0] == merged.sigma_internal[0] == 2.0
    assert np.isnan(merged.sigma_external[0])


def test_nothing_observed_is_nan_not_zero():
    merged = estimate(np.zeros((1, 7)))
    assert np.isnan(merged.intensity[0])
    assert np.isnan(merged.sigma[0])


def test_merged_sigmas_are_the_true_errors(partial_stills: PartialStills):
    """About two thirds of the deviations from the truth lie within one sigma."""
    observations = partial_stills.observations()
    scaling = scale_lattices(observations, s_squared=partial_stills.unit.s_squared)
    n = len(observations.uid)
    sums = merge_sums(
        observations,
        scaling.reference,
        friedel_minus=np.zeros(n, np.uint8),
        half=np.zeros(observations.n_lattices, np.uint8),
    )
    merged = estimate(sums.sum(axis=(1, 2)))
    seen = merged.n > 3
    ratio = np.median(merged.intensity[seen] / np.maximum(partial_stills.truth[seen], 1e-9))
    deviation = (merged.intensity[seen] - ratio * partial_stills.truth[seen]) / merged.sigma[seen]
    assert 0.55 < np.mean(np.abs(deviation) < 1) < 0.85


def test_halves_depend_on_nothing_but_the_lattice_itself(rng: np.random.Generator):
    frame = np.arange(1000)
    dataset, lattice = np.full(1000, 77, np.uint64), np.zeros(1000, np.int64)
    half = random_halves(dataset, frame, lattice)
    order = rng.permutation(1000)
    assert np.array_equal(random_halves(dataset[order], frame[order], lattice[order]), half[order])
    assert not np.array_equal(random_halves(dataset + np.uint64(1), frame, lattice), half)


def test_halves_are_balanced_and_unrelated_to_the_frames_order():
    frame = np.arange(20000)
    half = random_halves(np.zeros(20000, np.uint64), frame, np.zeros(20000, np.int64)).astype(float)
    second = random_halves(np.zeros(20000, np.uint64), frame, np.ones(20000, np.int64)).astype(float)
    assert abs(half.mean() - 0.5) < 0.015
    assert abs(np.corrcoef(half[1:], half[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(half, second)[0, 1]) < 0.03
