"""Delta CC1/2 in closed form is what leaving each lattice out gives, and finds spoilt lattices."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.kernels.delta_cc import cc_half_sigma_tau, delta_cc_half, reject_by_delta_cc_half

N_UNIQUE = 60


def observed(
    rng: np.random.Generator, n_lattices: int, n_each: int, n_unique: int = N_UNIQUE, error: float = 0.4
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Offsets, reflections and intensities; a lattice may see a reflection twice."""
    truth = rng.exponential(10.0, n_unique)
    uid = rng.integers(0, n_unique, n_lattices * n_each).astype(np.int32)
    y = truth[uid] * (1 + rng.normal(0, error, len(uid)))
    return np.arange(n_lattices + 1) * n_each, uid, y


@pytest.mark.parametrize("is_weighted", [False, True])
def test_delta_is_the_difference_to_the_data_without_the_lattice(rng: np.random.Generator, is_weighted: bool):
    offsets, uid, y = observed(rng, 25, 8)
    weight = rng.uniform(0.2, 3.0, len(uid)) if is_weighted else None
    if weight is not None:
        weight[rng.random(len(uid)) < 0.1] = 0.0
    found = delta_cc_half(offsets, uid, y, weight, N_UNIQUE)
    whole = cc_half_sigma_tau(uid, y, weight, N_UNIQUE)
    for f in range(25):
        rest = np.r_[: offsets[f], offsets[f + 1] : len(uid)]
        without = cc_half_sigma_tau(uid[rest], y[rest], None if weight is None else weight[rest], N_UNIQUE)
        assert found[f] == pytest.approx(whole - without, rel=1e-9, abs=1e-12)


def test_cc_half_by_sigma_tau_is_the_papers_formula(rng: np.random.Generator):
    _, uid, y = observed(rng, 30, 10)
    groups = [y[uid == u] for u in range(N_UNIQUE) if (uid == u).sum() > 1]
    spread = np.var([g.mean() for g in groups], ddof=1)
    error = np.mean([g.var(ddof=1) / (len(g) / 2) for g in groups])
    assert cc_half_sigma_tau(uid, y, None, N_UNIQUE) == pytest.approx(
        (spread - error / 2) / (spread + error / 2), rel=1e-12
    )


def test_cc_half_by_sigma_tau_is_that_of_random_halves(rng: np.random.Generator):
    _, uid, y = observed(rng, 40, 2000, n_unique=2000, error=1.0)
    trials = []
    for _ in range(10):
        half = rng.random(len(uid)) < 0.5
        means = [np.bincount(uid[h], y[h], 2000) / np.bincount(uid[h], minlength=2000) for h in (half, ~half)]
        trials.append(np.corrcoef(means[0], means[1])[0, 1])
    assert cc_half_sigma_tau(uid, y, None, 2000) == pytest.approx(np.mean(trials), abs=0.01)


def test_lattices_with_shuffled_intensities_are_left_out_and_no_other(rng: np.random.Generator):
    offsets, uid, y = observed(rng, 200, 150, n_unique=1000)
    spoilt = rng.choice(200, 8, replace=False)
    for f in spoilt:
        mine = slice(offsets[f], offsets[f + 1])
        y[mine] = rng.permutation(y[mine])
    result = reject_by_delta_cc_half(offsets, uid, y, None, 1000, max_loss=5.0)
    assert set(np.flatnonzero(~result.kept)) == set(spoilt)
    assert np.all(result.delta[spoilt] < 0)
    assert result.n_rounds >= 1


def test_good_lattices_all_stay(rng: np.random.Generator):
    offsets, uid, y = observed(rng, 300, 100, n_unique=1000)
    result = reject_by_delta_cc_half(offsets, uid, y, None, 1000, max_loss=5.0)
    assert result.kept.all()
    assert result.n_rounds == 0
    assert np.median(result.delta) > 0


def test_too_few_reflections_have_no_delta():
    offsets, uid = np.array([0, 1, 2]), np.array([0, 0], np.int32)
    assert np.isnan(delta_cc_half(offsets, uid, np.array([1.0, 2.0]), None, 1)).all()
