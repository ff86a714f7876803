"""Sums, estimates from them, and halves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ssx_processing.kernels.alternation import Alternation
from ssx_processing.kernels.merging import (
    Observations,
    estimate,
    merge_sums,
    merged_per_lattice,
)
from ssx_processing.kernels.observation_model import KNOT_STEP, N_KNOTS, ObservationModel
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import Start
from ssx_processing.kernels.still_sweep import EXCLUDED

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills

S_SQUARED = np.array([0.01, 0.02, 0.03, 0.04])
EXPECTED = np.array([100.0, 80.0, -5.0, np.nan])
KNOTS = KNOT_STEP * np.arange(N_KNOTS)
MODEL = ObservationModel(1.3, np.maximum(1 - 0.3 * KNOTS, 0.25), np.linspace(0.6, 0.2, N_KNOTS))


@pytest.fixture
def observations(rng: np.random.Generator) -> Observations:
    """Thirty observations of four reflections, in three lattices."""
    return Observations(
        offsets=np.array([0, 12, 12, 30]),
        uid=rng.integers(0, 4, 30).astype(np.int32),
        intensity=rng.normal(100.0, 40.0, 30).astype(np.float32),
        noise_variance=rng.uniform(5.0, 50.0, 30).astype(np.float32),
        excitation_error=rng.normal(0, 1e-3, 30).astype(np.float32),
        excitation_sigma=rng.uniform(8e-4, 2e-3, 30).astype(np.float32),
        turn_slopes=rng.normal(0, 0.3, (30, 2)).astype(np.float32),
    )


@pytest.fixture
def start() -> Start:
    parameters = np.array([[0.3, 2.0, 1e-4, -2e-4, 0.1], [0.0] * 5, [-0.2, -3.0, 0.0, 3e-4, -0.2]])
    return Start(parameters, np.zeros(3, np.uint8), MODEL)


def added(observations: Observations, start: Start) -> Alternation:
    """Everything added up once, with the expected intensities above."""
    run = Alternation(observations, S_SQUARED, start=start)
    run.expected = EXPECTED.copy()
    run.add_up()
    return run


def test_weighted_means_are_those_of_a_plain_loop(observations: Observations, start: Start):
    run = added(observations, start)
    o, lattice = observations, observations.lattice_of_observation()
    w_sum, wy_sum = np.zeros(4), np.zeros(4)
    for i, (f, q) in enumerate(zip(lattice, o.uid, strict=True)):
        log_g, b, tx, ty, log_width = start.parameters[f]
        error = o.excitation_error[i] + tx * o.turn_slopes[i, 0] + ty * o.turn_slopes[i, 1]
        u = abs(error) / (o.excitation_sigma[i] * np.exp(log_width))
        width = o.typical_sigma() / o.excitation_sigma[i]
        p = np.interp(u, KNOTS, MODEL.partiality)
        k = p * width * np.exp(log_g - 2 * b * S_SQUARED[q])
        variance = o.noise_variance[i] / k**2
        if np.isfinite(EXPECTED[q]):
            j = max(EXPECTED[q], 0)
            variance = 1.3 * (variance + j / k) + (np.interp(u, KNOTS, MODEL.spread**2) / p**2) * j**2
        w_sum[q] += 1 / variance
        wy_sum[q] += o.intensity[i] / k / variance
    assert np.allclose(run.table[:, 0], w_sum, rtol=1e-5)
    assert np.allclose(run.table[:, 1], wy_sum, rtol=1e-5)
    assert run.n.tolist() == np.bincount(o.uid, minlength=4).tolist()


def test_weights_do_not_know_the_observations_own_intensity(observations: Observations, start: Start):
    before = added(observations, start).weight.copy()
    observations.intensity[3] *= 5
    assert np.array_equal(before, added(observations, start).weight)


def test_lattices_and_observations_left_out_put_nothing_in(observations: Observations, start: Start):
    start.verdict[0] = EXCLUDED
    observations.uid[20] = -1
    run = added(observations, start)
    assert run.weight[:12].tolist() == [0.0] * 12
    assert run.weight[20] == 0.0
    assert run.n.sum() == 17


def test_friedel_mates_and_halves_add_up_to_the_whole(observations: Observations, start: Start, rng):
    reference = added(observations, start).reference
    sums = merge_sums(
        observations,
        reference,
        log_g=start.parameters[:, 0],
        friedel_minus=rng.integers(0, 2, 30).astype(np.uint8),
        half=np.array([0, 1, 1], np.uint8),
    )
    whole = estimate(sums.sum(axis=(1, 2)))
    assert np.allclose(whole.intensity, reference.mean)
    assert whole.n.tolist() == reference.n.tolist()
    assert sums[:, :, 0, 0].sum() == 12
    assert sums[:, :, 1, 0].sum() == 18
    assert merged_per_lattice(observations, reference).tolist() == [12, 0, 18]


def test_some_lattices_can_be_merged_alone(observations: Observations, start: Start):
    reference = added(observations, start).reference
    one = {
        "log_g": start.parameters[:, 0],
        "friedel_minus": np.zeros(30, np.uint8),
        "half": np.zeros(3, np.uint8),
    }
    first, last = (
        merge_sums(observations, reference, included=np.array(part), **one)
        for part in ([True, True, False], [False, False, True])
    )
    assert np.allclose(first + last, merge_sums(observations, reference, **one))
    assert first[..., 0].sum() == 12


def test_a_single_observation_has_only_an_internal_sigma():
    merged = estimate(np.array([[1, 0.25, 2.5, 0.0625, 0.625, 6.25, 0.5]]))
    assert merged.intensity[0] == 10.0
    assert merged.sigma[0] == merged.sigma_internal[0] == 2.0
    assert np.isnan(merged.sigma_external[0])


def test_variances_are_corrected_by_a_factor():
    merged = estimate(np.array([[1, 0.25, 2.5, 0.0625, 0.625, 6.25, 0.5]]), np.array([4.0]))
    assert merged.sigma_internal[0] == 4.0


def test_reflections_seen_only_far_from_the_sphere_are_not_determined():
    sums = np.array([[2, 0.25, 2.5, 0.0625, 0.625, 6.25, full] for full in (0.1, 0.2)])
    merged = estimate(sums, min_full=0.15)
    assert np.isnan(merged.intensity[0])
    assert merged.n.tolist() == [0, 2]


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
        log_g=scaling.scales.log_g,
        friedel_minus=np.zeros(n, np.uint8),
        half=np.zeros(observations.n_lattices, np.uint8),
    )
    merged = estimate(sums.sum(axis=(1, 2)))
    seen = merged.n > 3
    ratio = np.median(merged.intensity[seen] / np.maximum(partial_stills.truth[seen], 1e-9))
    deviation = (merged.intensity[seen] - ratio * partial_stills.truth[seen]) / merged.sigma[seen]
    assert 0.55 < np.mean(np.abs(deviation) < 1) < 0.85


def test_observations_of_some_lattices_are_theirs(observations: Observations):
    some = observations.of_lattices(np.array([2, 0]))
    assert some.offsets.tolist() == [0, 18, 30]
    for name in ("uid", "intensity", "turn_slopes"):
        ours, theirs = getattr(some, name), getattr(observations, name)
        assert np.array_equal(ours, np.concatenate([theirs[12:30], theirs[0:12]]))
    assert (
        len(replace(observations, turn_slopes=np.zeros((0, 2))).of_lattices(np.array([0])).turn_slopes) == 0
    )
