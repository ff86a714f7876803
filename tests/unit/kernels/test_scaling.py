"""Scales are recovered from partial, heavy-tailed observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ssx_processing.kernels.lattice_step import MIN_SHARED_FOR_CC
from ssx_processing.kernels.observation_model import flat_model
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel
from ssx_processing.kernels.still_sweep import ACCEPTED, LOW_CC

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills


def scaled(stills: PartialStills, **settings: float) -> Scaling:
    return scale_lattices(stills.observations(), s_squared=stills.unit.s_squared, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scaling(partial_stills: PartialStills) -> Scaling:
    return scaled(partial_stills)


def test_scales_are_recovered(partial_stills: PartialStills, scaling: Scaling):
    difference = scaling.scales.log_g - partial_stills.log_g
    assert np.std(difference) < 0.2
    assert np.corrcoef(scaling.scales.b_factor, partial_stills.b_factor)[0, 1] > 0.65


def test_mean_log_scale_and_mean_b_are_zero(scaling: Scaling):
    accepted = scaling.scales.accepted
    assert scaling.scales.log_g[accepted].mean() == pytest.approx(0, abs=1e-12)
    assert scaling.scales.b_factor[accepted].mean() == pytest.approx(0, abs=1e-12)


def test_all_true_lattices_are_kept(scaling: Scaling):
    assert (scaling.scales.verdict == ACCEPTED).all()
    assert np.median(scaling.scales.cc) > 0.5


def test_scaling_ends_when_scales_no_longer_move(scaling: Scaling):
    assert scaling.converged
    assert scaling.n_cycles < 8


def test_too_few_cycles_are_not_called_converged(partial_stills: PartialStills):
    one = scaled(partial_stills, n_cycles=1)
    assert (one.n_cycles, one.converged) == (1, False)


def test_scaled_intensities_are_as_good_as_those_with_the_true_scales(
    partial_stills: PartialStills, scaling: Scaling
):
    stills, uid = partial_stills, partial_stills.uid
    s_squared = stills.unit.s_squared[uid]
    true_scale = np.exp(stills.log_g[stills.lattice] - 2 * stills.b_factor[stills.lattice] * s_squared)
    n = np.bincount(uid, minlength=len(stills.unit))
    total = np.bincount(uid, stills.intensity / true_scale, len(stills.unit))
    with_true_scales = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
    unscaled = np.divide(
        np.bincount(uid, stills.intensity, len(n)), n, out=np.full(len(n), np.nan), where=n > 0
    )
    cc = stills.cc_to_truth(scaling.reference.mean)
    assert cc > stills.cc_to_truth(with_true_scales) - 0.005
    assert cc > stills.cc_to_truth(unscaled) + 0.02


def test_weights_from_each_observations_own_sigma_would_be_worse(
    partial_stills: PartialStills, scaling: Scaling
):
    stills, uid = partial_stills, partial_stills.uid
    scale = np.exp(
        scaling.scales.log_g[stills.lattice]
        - 2 * scaling.scales.b_factor[stills.lattice] * stills.unit.s_squared[uid]
    )
    weight = (scale / stills.sigma) ** 2
    total = np.bincount(uid, weight, len(stills.unit))
    naive = np.bincount(uid, weight * stills.intensity / scale, len(stills.unit))
    naive = np.divide(naive, total, out=np.full(len(total), np.nan), where=total > 0)
    assert stills.cc_to_truth(scaling.reference.mean) > stills.cc_to_truth(naive) + 0.01


def test_misindexed_lattices_are_left_out_and_true_ones_are_not(partial_stills: PartialStills, rng):
    observations = partial_stills.observations()
    wrong = rng.random(observations.n_lattices) < 0.15
    move = wrong[observations.lattice_of_observation()]
    neighbour = np.argsort(partial_stills.unit.d)  # another reflection of about the same resolution
    place = np.argsort(neighbour)[observations.uid]
    shifted = neighbour[(place + rng.integers(15, 60, len(place))) % len(neighbour)]
    uid = np.where(move, shifted, observations.uid).astype(np.int32)
    found = scale_lattices(replace(observations, uid=uid), s_squared=partial_stills.unit.s_squared)
    assert (found.scales.verdict[~wrong] == ACCEPTED).all()
    judged = wrong & (found.scales.n_shared >= MIN_SHARED_FOR_CC)
    assert judged.sum() > 20
    assert (found.scales.verdict[judged] == LOW_CC).mean() > 0.7


def test_hot_pixels_hardly_harm_the_merged_intensities(partial_stills: PartialStills, scaling: Scaling, rng):
    observations = partial_stills.observations()
    hit = rng.random(len(observations.uid)) < 0.005
    spoilt = observations.intensity + hit * rng.exponential(3000.0, len(hit))
    found = scale_lattices(replace(observations, intensity=spoilt), s_squared=partial_stills.unit.s_squared)
    assert found.scales.accepted.all()
    plain = np.bincount(observations.uid, spoilt) / np.maximum(np.bincount(observations.uid), 1)
    cc = partial_stills.cc_to_truth(found.reference.mean)
    assert cc > partial_stills.cc_to_truth(scaling.reference.mean) - 0.02
    assert cc > partial_stills.cc_to_truth(plain) + 0.03


def test_an_outlier_needs_others_to_be_one(partial_stills: PartialStills, scaling: Scaling):
    n = np.bincount(partial_stills.uid, minlength=len(partial_stills.unit))
    assert not scaling.outlier[n[partial_stills.uid] == 1].any()


def test_a_lattice_of_negative_intensities_is_left_out(partial_stills: PartialStills):
    observations = partial_stills.observations()
    first = slice(0, observations.offsets[1])
    intensity = observations.intensity.copy()
    intensity[first] = -np.abs(intensity[first])
    found = scale_lattices(
        replace(observations, intensity=intensity), s_squared=partial_stills.unit.s_squared
    )
    assert found.scales.verdict[0] != ACCEPTED
    assert found.scales.accepted[1:].all()


def test_flat_model_explains_the_scatter(partial_stills: PartialStills, scaling: Scaling):
    """What the partialities scatter about their mean is found again, counting noise apart."""
    relative = partial_stills.partiality * partial_stills.excitation_sigma
    model = scaling.observation_model
    assert model.is_flat
    assert 0.8 < model.noise_factor < 1.6
    assert model.spread[0] == pytest.approx(relative.std() / relative.mean(), rel=0.2)
    assert np.ptp(model.spread) == 0.0 == np.ptp(flat_model().spread)


def test_intensities_do_not_depend_on_the_order_of_lattices(
    partial_stills: PartialStills, scaling: Scaling, rng
):
    observations = partial_stills.observations()
    order = rng.permutation(observations.n_lattices)
    sizes = np.diff(observations.offsets)[order]
    take = np.concatenate([np.arange(*observations.offsets[f : f + 2]) for f in order])
    turned = replace(
        observations,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        uid=observations.uid[take],
        intensity=observations.intensity[take],
        noise_variance=observations.noise_variance[take],
        excitation_error=observations.excitation_error[take],
        excitation_sigma=observations.excitation_sigma[take],
        turn_slopes=observations.turn_slopes[take],
    )
    found = scale_lattices(turned, s_squared=partial_stills.unit.s_squared)
    assert np.allclose(found.reference.mean, scaling.reference.mean, rtol=1e-6, equal_nan=True)
    assert np.allclose(found.scales.log_g, scaling.scales.log_g[order], atol=1e-6)


def test_a_single_lattice_is_merged_as_it_is(simulate_stills: Callable[..., PartialStills], rng):
    stills = simulate_stills(rng, n_lattices=1)
    found = scaled(stills)
    assert found.scales.log_g.tolist() == [0.0]
    assert found.scales.accepted.all()


def test_progress_is_told_with_model_cycle_and_lattices(partial_stills: PartialStills):
    told: list[tuple[str, int, int]] = []
    scale_lattices(
        partial_stills.observations(),
        s_squared=partial_stills.unit.s_squared,
        n_cycles=2,
        on_cycle=lambda *what: told.append(what),
    )
    assert told == [("scale", 1, 250), ("scale", 2, 250)]


def test_a_lattice_with_little_in_common_is_not_judged(
    simulate_stills: Callable[..., PartialStills], rng: np.random.Generator
):
    stills = simulate_stills(rng, n_lattices=6)
    found = scaled(stills, min_cc=0.99)
    judged = found.scales.n_shared >= MIN_SHARED_FOR_CC
    assert not judged.any()
    assert found.scales.accepted.all()


def test_any_number_of_threads_gives_the_same(partial_stills: PartialStills, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ssx_processing.kernels.alternation.BLOCK", 5000)
    one, two = (
        scaled(partial_stills, model=ScalingModel.POSTREFINEMENT, n_threads=n)  # type: ignore[arg-type]
        for n in (1, 2)
    )
    assert np.array_equal(one.reference.table, two.reference.table)
    assert np.array_equal(one.scales.turns, two.scales.turns)


def test_lattices_excluded_beforehand_stay_out(partial_stills: PartialStills):
    excluded = np.arange(250) % 5 == 0
    found = scaled(partial_stills, excluded=excluded)  # type: ignore[arg-type]
    assert not found.scales.accepted[excluded].any()
    assert found.scales.accepted[~excluded].all()
    of = np.repeat(excluded, np.diff(partial_stills.offsets))
    assert (found.reference.weight[of] == 0).all()
