"""The growth curve is that of merging the first lattices alone; forecasts come true within their errors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.kernels.growth import Growth, forecast, growth, lattices_needed

N_UNIQUE = 1500


class Stills:
    """Lattices of some 60 observations each; reflections differ in how often they are seen."""

    def __init__(self, rng: np.random.Generator, n_lattices: int) -> None:
        n_each = rng.integers(40, 81, n_lattices)
        chance = rng.gamma(3.0, 1.0, N_UNIQUE)
        self.truth = rng.exponential(10.0, N_UNIQUE)
        self.offsets = np.concatenate([[0], np.cumsum(n_each)])
        self.uid = rng.choice(N_UNIQUE, self.offsets[-1], p=chance / chance.sum()).astype(np.int32)
        self.y = self.truth[self.uid] + rng.normal(0, 15.0, len(self.uid))
        self.weight = rng.uniform(0.5, 1.5, len(self.uid))
        self.half = rng.integers(0, 2, n_lattices).astype(np.uint8)

    def growth(self, n_lattices: int) -> Growth:
        end = self.offsets[n_lattices]
        return growth(
            self.offsets[: n_lattices + 1],
            self.uid[:end],
            self.y[:end],
            self.weight[:end],
            self.half[:n_lattices],
            N_UNIQUE,
        )

    def mean(self, used: NDArray[np.bool_]) -> NDArray[np.float64]:
        total = np.bincount(self.uid[used], (self.weight * self.y)[used], N_UNIQUE)
        weight = np.bincount(self.uid[used], self.weight[used], N_UNIQUE)
        return np.divide(total, weight, out=np.full(N_UNIQUE, np.nan), where=weight > 0)


@pytest.fixture
def stills(rng: np.random.Generator) -> Stills:
    return Stills(rng, 2400)


def test_every_checkpoint_is_the_merge_of_the_lattices_so_far(stills: Stills):
    stills.weight[stills.offsets[5] : stills.offsets[6]] = 0.0
    found = stills.growth(300)
    of_observation = np.repeat(np.arange(2400), np.diff(stills.offsets))
    assert found.n_lattices.tolist() == [25 * i - 1 for i in range(1, 13)]  # one has nothing merged
    for i in (0, 6, 11):
        used = (of_observation < 25 * (i + 1)) & (stills.weight > 0)
        n = np.bincount(stills.uid[used], minlength=N_UNIQUE)
        assert found.n_observations[i] == n.sum()
        assert found.completeness[i] == (n > 0).mean()
        assert found.multiplicity[i] == pytest.approx(n.sum() / (n > 0).sum())
        halves = [stills.mean(used & (stills.half[of_observation] == half)) for half in (0, 1)]
        both = np.isfinite(halves).all(axis=0)
        x, y = (half[both] for half in halves)
        assert found.cc_half[i] == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
        expected = np.abs(x - y).sum() / (x + y).sum() * np.sqrt(2)
        assert found.r_split[i] == pytest.approx(expected, rel=1e-9)


def test_fewer_lattices_than_checkpoints_are_one_checkpoint_each(stills: Stills):
    assert stills.growth(3).n_lattices.tolist() == [1, 2, 3]


def test_no_lattices_have_no_curve_and_no_forecast(stills: Stills):
    found = stills.growth(0)
    assert len(found.n_lattices) == 0
    assert np.isnan(forecast(found, 10).cc_half)
    assert np.isnan(lattices_needed(found, 0.9))


@pytest.mark.parametrize("factor", [2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_forecasts_come_true_within_their_errors(factor: int, seed: int):
    stills = Stills(np.random.default_rng(seed), 300 * factor)
    expected = forecast(stills.growth(300), 300 * factor)
    later = stills.growth(300 * factor)
    assert abs(expected.cc_half - later.cc_half[-1]) < 2.5 * expected.cc_half_error
    assert expected.cc_half_error < 0.15
    assert expected.completeness == pytest.approx(later.completeness[-1], abs=0.01)
    assert abs(expected.completeness - later.completeness[-1]) < 2.5 * expected.completeness_error + 1e-3
    assert expected.multiplicity == pytest.approx(later.multiplicity[-1], rel=0.03)


def test_the_lattices_needed_for_a_cc_half_are_those_that_the_forecast_is_made_for(stills: Stills):
    found = stills.growth(400)
    n = lattices_needed(found, 0.95)
    assert n > 400
    assert forecast(found, round(n)).cc_half == pytest.approx(0.95, abs=1e-3)
