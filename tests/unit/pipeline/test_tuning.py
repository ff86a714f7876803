"""Thresholds recommended find at least the hits that the defaults find, and no more false ones."""

import numpy as np
import pytest

from ssx_processing.formats.frames import FrameSet
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.pipeline.recommendation import Recommendation, false_spots, recommend
from ssx_processing.pipeline.tuning import Thresholds, ThresholdScan, scan_thresholds
from ssx_processing.pipeline.tuning_page import tuning_page
from ssx_processing.settings import SpotSettings
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedBeam, SimulatedCrystals
from ssx_processing.simulation.truth import read_truth


def scan_of(n_spots: list[list[int]], *, min_spots_for_hit: int = 15) -> ThresholdScan:
    """A scan of two points of the grid: the settings', and more sensitive or stricter ones."""
    counts = np.array(n_spots)
    settings = SpotSettings(min_spots_for_hit=min_spots_for_hit)
    here = Thresholds.of(settings)
    return ThresholdScan(
        settings=settings,
        frames=np.arange(counts.shape[1]),
        thresholds=(Thresholds(3.5, here.min_significance, here.min_counts), here),
        n_spots=counts,
        photons=counts * 50.0,
        is_icy=np.zeros_like(counts, bool),
        median_background=np.ones(counts.shape[1]),
        n_unreadable=0,
        n_hot_pixels=0,
    )


@pytest.fixture(
    scope="module", params=[(0.5, 20.0), (3.0, 25.0)], ids=["low background", "higher background"]
)
def weak_chip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    background, photons = request.param
    settings = ChipSettings(
        n_frames=50,
        hit_fraction=0.5,
        seed=11,
        beam=SimulatedBeam(background_photons=background),
        crystals=SimulatedCrystals(photons_at_4a=photons),
    )
    return simulate_chip(tmp_path_factory.mktemp("weak"), settings)


@pytest.mark.slow
def test_weak_crystals_are_found_better_than_with_the_defaults_and_blanks_are_not(weak_chip: SimulatedChip):
    with FrameSet([weak_chip.master]) as frames:
        scan = scan_thresholds(frames, SpotSettings())
    recommendation = recommend(scan)
    truth = read_truth(weak_chip.truth).frames.is_hit[scan.frames]
    before = scan.is_hit(scan.now, scan.settings.min_spots_for_hit)
    assert recommendation.best is not None
    after = scan.is_hit(recommendation.best_point, recommendation.best.cut)
    assert recommendation.options
    assert after[truth].sum() > before[truth].sum()
    assert after[~truth].sum() <= before[~truth].sum()


def test_strong_crystals_leave_the_settings_as_they_are(simulated_chip: SimulatedChip):
    seen: list[tuple[int, int]] = []
    with FrameSet([simulated_chip.master]) as frames:
        scan = scan_thresholds(frames, SpotSettings(), 30, lambda done, total: seen.append((done, total)))
        hits = HitFinder(frames.geometry, frames.bad_pixels, SpotSettings(), saturation=frames.saturation)
        alone = np.array([len(hits.find(frames.read(int(frame)))) for frame in scan.frames])
    recommendation = recommend(scan)
    truth = read_truth(simulated_chip.truth).frames.is_hit[scan.frames]
    assert seen[-1] == (30, 30)
    on_hot_pixels = alone - scan.n_spots[scan.now]
    assert on_hot_pixels.min() >= 0
    assert on_hot_pixels.max() <= 2
    assert recommendation.options == ()
    assert scan.is_hit(scan.now, 15)[truth].mean() > 0.95
    assert "the settings are fine" in recommendation.reasons[-2]
    page = tuning_page([simulated_chip.master], scan, recommendation)
    assert "The settings are fine as they are" in page


def test_sensitive_thresholds_win_where_blanks_stay_clean():
    blanks, weak = [0, 1, 0, 0, 1, 0, 0, 0, 1, 0], [18, 20, 22, 25, 19]
    recommendation = recommend(scan_of([blanks + weak, [0] * 10 + [7, 9, 9, 12, 8]]))
    assert recommendation.best is not None
    assert recommendation.best.n_hits == 5
    assert "--set spots.min_snr=3.5" in recommendation.options


def test_sensitive_thresholds_lose_where_blanks_fill_with_false_spots():
    blanks, weak = [40, 55, 30, 62, 48, 51, 44, 39, 58, 47], [60, 70, 66, 75, 64]
    recommendation = recommend(scan_of([blanks + weak, [0] * 10 + [14, 16, 18, 22, 15]]))
    assert recommendation.best is not None
    assert recommendation.best.thresholds.min_snr == SpotSettings().min_snr
    assert recommendation.best.n_hits == 5


@pytest.mark.parametrize(
    ("n_spots", "message"),
    [([90, 80, 85, 120, 70, 95], "Too few blanks"), ([0, 0, 1, 0, 0, 1], "Too few hits")],
)
def test_nothing_is_recommended_without_blanks_or_without_hits(n_spots: list[int], message: str):
    recommendation: Recommendation = recommend(scan_of([n_spots, n_spots]))
    assert recommendation.best is None
    assert recommendation.options == ()
    assert recommendation.reasons[0].startswith(f"{message}, nothing to recommend")


def test_frames_that_cannot_be_read_are_told_of_even_if_nothing_is_recommended():
    scan = ThresholdScan(**{**vars(scan_of([[0, 0, 1], [0, 0, 1]])), "n_unreadable": 5})
    assert recommend(scan).reasons[1:] == ("5 of 8 frames could not be read and are left out.",)


def test_ice_is_no_gain():
    scan = scan_of([[0] * 10 + [30, 40, 50, 60, 35], [0] * 10 + [30, 0, 20, 25, 0]])
    icy = np.zeros_like(scan.is_icy)
    icy[0, [11, 14]] = True
    with_ice = ThresholdScan(**{**vars(scan), "is_icy": icy})
    recommendation = recommend(with_ice)
    assert recommendation.best is not None
    assert recommendation.best.thresholds == Thresholds.of(scan.settings)


def test_false_spots_of_poisson_blanks_are_estimated_in_spite_of_weak_hits(rng: np.random.Generator):
    counts = np.concatenate([rng.poisson(4.0, 200), rng.poisson(40.0, 60)])
    mean, deviation = false_spots(counts)
    assert mean == pytest.approx(4.0, abs=0.4)
    assert deviation == pytest.approx(2.0, abs=0.3)
