"""Partialities, post-refinement, their choice, and the error model, against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from ssx_processing.kernels.error_model import repeat_scatter
from ssx_processing.kernels.model_choice import MOST_LATTICES, ModelChoice, choose_model
from ssx_processing.kernels.observation_model import (
    KNOT_STEP,
    LEAST_PARTIALITY,
    N_KNOTS,
    empty_moments,
    estimate_model,
    flat_model,
    gaussian_partiality,
)
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel
from ssx_processing.kernels.turn_slopes import write_turn_slopes
from ssx_processing.simulation.still_observations import (
    PARTIALITY_MODELS,
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)


@pytest.fixture(scope="module", params=PARTIALITY_MODELS)
def stills(request: pytest.FixtureRequest) -> StillObservations:
    return simulate_still_observations(
        StillExperiment(n_lattices=300, model=request.param, mosaicity_deg=0.07, d_min=2.4, seed=5)
    )


def scaled(stills: StillObservations, model: ScalingModel) -> Scaling:
    return scale_lattices(stills.observations(), s_squared=stills.unit.s_squared, model=model)


@pytest.fixture(scope="module")
def scalings(stills: StillObservations) -> dict[ScalingModel, Scaling]:
    return {model: scaled(stills, model) for model in ScalingModel}


def test_each_model_is_nearer_to_the_truth_than_the_one_before(
    stills: StillObservations, scalings: dict[ScalingModel, Scaling]
):
    r = {model: stills.r_to_truth(scaling.reference.mean) for model, scaling in scalings.items()}
    assert r[ScalingModel.SCALE] < r[ScalingModel.MEAN]
    assert r[ScalingModel.PARTIALITY] < 0.9 * r[ScalingModel.SCALE]
    assert r[ScalingModel.PARTIALITY] < 1.03 * r[ScalingModel.GAUSSIAN]
    assert r[ScalingModel.POSTREFINEMENT] < r[ScalingModel.PARTIALITY]


def test_no_reflection_is_lost(scalings: dict[ScalingModel, Scaling]):
    n = {model: int((scaling.reference.n > 0).sum()) for model, scaling in scalings.items()}
    assert n[ScalingModel.POSTREFINEMENT] > 0.99 * n[ScalingModel.SCALE]


def test_the_partiality_learnt_is_the_true_one(
    stills: StillObservations, scalings: dict[ScalingModel, Scaling]
):
    u = np.abs(stills.excitation_error / stills.excitation_sigma)
    relative = stills.partiality * stills.excitation_sigma  # less is in the cut where the node is wider
    knots = KNOT_STEP * np.arange(6)
    true = np.array([relative[np.abs(u - knot) < KNOT_STEP / 2].mean() for knot in knots])
    learnt = scalings[ScalingModel.PARTIALITY].observation_model.partiality[:6]
    assert learnt == pytest.approx(np.maximum(true / true[0], LEAST_PARTIALITY), abs=0.08)


def test_turns_that_orientations_are_wrong_by_are_found():
    stills = simulate_still_observations(
        StillExperiment(n_lattices=300, strength=1000, mosaicity_deg=0.03, misorientation_deg=0.02, seed=2)
    )
    found = scaled(stills, ScalingModel.POSTREFINEMENT)
    assert np.degrees(found.turn_sd) == pytest.approx(0.02, rel=0.25)
    # turning the matrices handed on by what was found brings the excitation errors near the truth
    a = stills.a_matrices[0]
    q = np.einsum("ij,nj->ni", a, stills.hkl[: stills.offsets[1]])
    slopes = np.empty((len(q), 2), np.float32)
    hkl = stills.hkl[: stills.offsets[1]].astype(np.int16)
    write_turn_slopes(stills.offsets[:2], hkl, a[None], np.ones(1), slopes)
    turned = q + np.cross([*found.scales.turns[0], 0.0], q)
    moved = np.linalg.norm(turned - [0, 0, 1], axis=1) - np.linalg.norm(q - [0, 0, 1], axis=1)
    assert slopes @ found.scales.turns[0] == pytest.approx(moved, abs=1e-6)


def choice(stills: StillObservations) -> ModelChoice:
    rng = np.random.default_rng(0)
    n = len(stills.log_g)
    half, rank = rng.integers(0, 2, n).astype(np.uint8), rng.permutation(n).astype(np.uint64)
    return choose_model(stills.observations(), half, rank, s_squared=stills.unit.s_squared)


def test_the_model_chosen_is_the_best_or_nearly(
    stills: StillObservations, scalings: dict[ScalingModel, Scaling]
):
    chosen = choice(stills)
    assert list(chosen.cc_half) == [
        ScalingModel.SCALE, ScalingModel.PARTIALITY, ScalingModel.POSTREFINEMENT,
    ]  # fmt: skip
    assert chosen.n_lattices == 300
    truth = {m: stills.r_to_truth(scalings[m].reference.mean) for m in chosen.cc_half}
    assert truth[chosen.model] < 1.05 * min(truth.values())
    again = scale_lattices(
        stills.observations(), s_squared=stills.unit.s_squared, model=chosen.model, start=chosen.start
    )
    assert stills.r_to_truth(again.reference.mean) < 1.05 * truth[chosen.model]


def test_excitation_errors_that_mean_nothing_are_not_believed(rng: np.random.Generator):
    stills = simulate_still_observations(StillExperiment(n_lattices=150, strength=1000, d_min=2.6, seed=3))
    n = len(stills.uid)
    shuffled = stills.observations()
    shuffled.excitation_error[:] = shuffled.excitation_error[rng.permutation(n)]
    shuffled.turn_slopes[:] = shuffled.turn_slopes[rng.permutation(n)]
    half, rank = rng.integers(0, 2, 150).astype(np.uint8), np.arange(150, dtype=np.uint64)
    found = choose_model(shuffled, half, rank, s_squared=stills.unit.s_squared)
    partial = scale_lattices(shuffled, s_squared=stills.unit.s_squared, model=ScalingModel.PARTIALITY)
    plain = scale_lattices(shuffled, s_squared=stills.unit.s_squared)
    assert partial.observation_model.partiality[:7].min() > 0.8  # learnt: nothing to be learnt
    chosen = scale_lattices(shuffled, s_squared=stills.unit.s_squared, model=found.model, start=found.start)
    assert stills.r_to_truth(chosen.reference.mean) < 1.03 * stills.r_to_truth(plain.reference.mean)


def test_a_choice_of_many_lattices_is_made_with_a_sample_whose_model_saves_cycles(
    monkeypatch: pytest.MonkeyPatch,
):
    stills = simulate_still_observations(StillExperiment(n_lattices=250, d_min=3.0, seed=1))
    monkeypatch.setattr("ssx_processing.kernels.model_choice.MOST_LATTICES", 150)
    chosen = choice(stills)
    assert MOST_LATTICES > 1000
    assert (chosen.n_lattices, chosen.start.is_guess) == (150, True)
    observations, s_squared = stills.observations(), stills.unit.s_squared
    quick = scale_lattices(observations, s_squared=s_squared, model=chosen.model, start=chosen.start)
    slow = scale_lattices(observations, s_squared=s_squared, model=chosen.model)
    assert quick.n_cycles < slow.n_cycles
    assert stills.r_to_truth(quick.reference.mean) < 1.02 * stills.r_to_truth(slow.reference.mean)


def test_repeats_scatter_as_their_variances_say_in_every_bin(
    stills: StillObservations, scalings: dict[ScalingModel, Scaling]
):
    observations = stills.observations()
    for model in (ScalingModel.SCALE, ScalingModel.PARTIALITY, ScalingModel.POSTREFINEMENT):
        reference = scalings[model].reference
        factor = repeat_scatter(observations, reference).variance_factor(reference.mean)
        after = repeat_scatter(observations, reference, n_bins=9, factor=factor)
        assert after.chi_square == pytest.approx(1.0, abs=0.1)


def test_variance_factors_are_one_where_nothing_was_repeated():
    stills = simulate_still_observations(StillExperiment(n_lattices=1, d_min=4.0))
    observations = stills.observations()
    _, first = np.unique(observations.uid, return_index=True)
    once = np.isin(np.arange(len(observations.uid)), first)
    single = observations.with_uid(np.where(once, observations.uid, -1).astype(np.int32))
    reference = scale_lattices(single, s_squared=stills.unit.s_squared).reference
    factor = repeat_scatter(single, reference).variance_factor(reference.mean)
    assert factor.tolist() == [1.0] * len(factor)


def test_a_model_without_moments_stays_as_it_was():
    start = flat_model(0.4)
    assert estimate_model(empty_moments(), start, learn=True) is start


def test_partialities_fall_from_one_and_not_to_zero():
    table = gaussian_partiality()
    assert (table[0], table[-1], len(table)) == (1.0, LEAST_PARTIALITY, N_KNOTS)
    assert (np.diff(table) <= 0).all()
