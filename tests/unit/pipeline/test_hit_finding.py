"""Spots and hits on simulated frames with a known answer, and beside a plain peakfinder8."""

from dataclasses import dataclass

import numpy as np
import pytest

from ssx_processing.models import Geometry, Panel
from ssx_processing.pipeline.hit_finding import HitFinder, is_hit
from ssx_processing.settings import SpotSettings
from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedBeam, SimulatedDetector
from ssx_processing.simulation.detector import true_beam_centre_px
from ssx_processing.simulation.scene import RenderedFrame, Scene
from tests.unit.pipeline.peakfinder8 import find_peaks

BACKGROUNDS = [0.02, 0.2, 1.0, 5.0, 50.0]
"""Photons per pixel on the solvent ring."""
CLEAN = SimulatedDetector(
    n_fast=640, n_slow=700, gap_rows=((340, 358),), n_stuck_pixels=0, n_flickering_pixels=0
)


def geometry_of(detector: SimulatedDetector, wavelength: float) -> Geometry:
    x, y = true_beam_centre_px(detector)
    panel = Panel(
        origin_mm=(-x * detector.pixel_mm, y * detector.pixel_mm, -detector.distance_mm),
        fast_axis=(1.0, 0.0, 0.0),
        slow_axis=(0.0, -1.0, 0.0),
        pixel_size_mm=(detector.pixel_mm, detector.pixel_mm),
        fast_start=0,
        slow_start=0,
        n_fast=detector.n_fast,
        n_slow=detector.n_slow,
    )
    return Geometry((panel,), (detector.n_slow, detector.n_fast), wavelength, polarisation_fraction=0.99)


class Stills:
    """A simulated detector with one background, and our finder for it."""

    def __init__(self, background: float, detector: SimulatedDetector = CLEAN, ice_fraction: float = 0.0):
        beam = SimulatedBeam(background_photons=background, ice_fraction=ice_fraction)
        self.scene = Scene(ChipSettings(detector=detector, beam=beam))
        self.geometry = geometry_of(detector, beam.wavelength)
        self.bad_pixels = self.scene.maps.gap
        self.finder = HitFinder(
            self.geometry, self.bad_pixels, SpotSettings(), saturation=detector.saturation, underload=0.0
        )
        x, y = true_beam_centre_px(detector)
        rows, columns = np.mgrid[: detector.n_slow, : detector.n_fast] + 0.5
        self.radius_px = np.hypot(columns - x, rows - y)

    def our_peaks(self, image: np.ndarray) -> np.ndarray:
        spots = self.finder.find(image)
        return np.stack([spots.x_px, spots.y_px], axis=1)

    def plain_peaks(self, image: np.ndarray) -> np.ndarray:
        return find_peaks(image, self.radius_px, self.bad_pixels)[:, :2]

    def truth(self, frame: RenderedFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, photons that arrive and background below each, of all true spots."""
        spots, shape = frame.spots[0], self.bad_pixels.shape
        x, y = (np.clip(v.astype(int), 0, n - 1) for v, n in ((spots.x_px, shape[1]), (spots.y_px, shape[0])))
        background = self.scene.background.image[y, x] * frame.background_factor
        return (
            np.stack([spots.x_px, spots.y_px], axis=1),
            spots.photons * self.scene.maps.transmission[y, x],
            background,
        )


@dataclass
class Score:
    """Peaks of some frames against the truth."""

    n_peaks: int = 0
    n_true: int = 0
    """Peaks where there is a true spot, however weak."""
    n_detectable: int = 0
    n_found: int = 0
    """Of the detectable spots."""

    def add(self, peaks: np.ndarray, xy: np.ndarray, photons: np.ndarray, background: np.ndarray) -> None:
        distance = np.hypot(peaks[:, :1] - xy[:, 0], peaks[:, 1:] - xy[:, 1])
        self.n_peaks += len(peaks)
        self.n_true += int((distance[:, photons > 0.5].min(axis=1) < 2.5).sum())
        detectable = photons / np.sqrt(photons + 9 * background) > 4  # over some 3 by 3 pixels
        self.n_detectable += int(detectable.sum())
        self.n_found += int((distance[:, detectable].min(axis=0) < 1.5).sum())


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_as_many_true_spots_as_a_plain_peakfinder8_and_hardly_a_false_one(background):
    stills, ours, plain = Stills(background), Score(), Score()
    for number in range(8):
        frame = stills.scene.render(number, 1)
        truth = stills.truth(frame)
        ours.add(stills.our_peaks(frame.image), *truth)
        plain.add(stills.plain_peaks(frame.image), *truth)
    assert ours.n_detectable > 100
    assert ours.n_found >= plain.n_found
    assert ours.n_true >= 0.998 * ours.n_peaks


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_centroids_are_right_within_a_sixth_of_a_pixel_and_without_bias(background):
    stills, errors = Stills(background), []
    for number in range(12):
        frame = stills.scene.render(number, 1)
        xy, photons, below = stills.truth(frame)
        well_seen = photons > 20 + 20 * np.sqrt(below)
        crowded = np.hypot(xy[well_seen, :1] - xy[:, 0], xy[well_seen, 1:] - xy[:, 1]) < 8
        alone = (crowded & (photons > 0.02 * photons[well_seen, None])).sum(axis=1) == 1
        xy, peaks = xy[well_seen][alone], stills.our_peaks(frame.image)
        distance = np.hypot(xy[:, :1] - peaks[:, 0], xy[:, 1:] - peaks[:, 1])
        nearest = distance.argmin(axis=1)
        found = distance.min(axis=1) < 1.5
        errors.append(peaks[nearest[found]] - xy[found])
    error = np.concatenate(errors)
    assert len(error) > 150
    assert np.sqrt((error**2).mean()) < 0.17
    assert np.abs(error.mean(axis=0)).max() < 0.03


def dirty_frames(kind: str, background: float):
    """Frames without a crystal on which something else may look like one, and a finder for them."""
    detector = CLEAN
    if kind == "hot pixels":
        detector = CLEAN.model_copy(update={"n_stuck_pixels": 40, "n_flickering_pixels": 40})
    stills = Stills(background, detector, ice_fraction=1.0 if kind == "ice rings" else 0.0)
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[: detector.n_slow, : detector.n_fast]
    for number in range(6):
        image = stills.scene.render(number, 0).image.copy()
        if kind == "shadow":  # of a holder that is not in the mask, soft over some pixels
            distance = np.hypot(columns - 430, (rows - 200) * 0.7) - 90
            image = rng.binomial(image, 1 / (1 + np.exp(-distance / 3)))
            image = rng.binomial(image, 1 / (1 + np.exp(-(np.abs(columns - 180) - 12) / 2.0)))
        if kind == "module edges":  # where pixels are twice as large
            image[[0, 339, 358, 699]] *= 2
            image[:, [0, 639]] *= 2
        yield stills, image.astype(np.uint16)


@pytest.mark.parametrize("kind", ["blank", "ice rings", "hot pixels", "shadow", "module edges"])
@pytest.mark.parametrize("background", [0.1, 2.0, 20.0])
def test_a_frame_without_crystal_is_no_hit(kind, background):
    n_spots = []
    for stills, image in dirty_frames(kind, background):
        spots = stills.finder.find(image)
        assert not stills.finder.is_hit(spots)
        n_spots.append(len(spots))
    assert np.mean(n_spots) < 4


def electronic_noise(photons: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """As an integrating detector reads them: 0.1 photons of noise, and charge sharing left out."""
    return ((photons + rng.normal(0.0, 0.1, photons.shape)) * scale).astype(np.float32)


@pytest.mark.parametrize(("unit", "gain"), [("photons", 1.0), ("keV", 12.4)])
def test_an_integrating_detector_gives_nearly_the_same_spots(unit, gain, rng):
    stills = Stills(1.0)
    settings = SpotSettings(gain=gain)
    finder = HitFinder(stills.geometry, stills.bad_pixels, settings, saturation=np.inf)
    counted = integrating = 0
    for number in range(4):
        photons = stills.scene.render(number, 1).image
        image = electronic_noise(np.where(stills.bad_pixels, 0, photons), rng, gain)
        spots = finder.find(image)
        ours = stills.our_peaks(photons)
        distance = np.hypot(ours[:, :1] - spots.x_px, ours[:, 1:] - spots.y_px)
        counted += len(ours)
        integrating += int((distance.min(axis=1) < 0.5).sum())
        assert (distance.min(axis=0) > 2.5).sum() <= 0.05 * len(spots)
        blank = stills.scene.render(100 + number, 0).image
        blank_image = electronic_noise(np.where(stills.bad_pixels, 0, blank), rng, gain)
        assert len(finder.find(blank_image)) <= 2
    assert integrating > 0.93 * counted


@pytest.mark.parametrize("pixel_type", [np.uint32, np.int16, np.int32, np.float32])
def test_the_pixel_type_changes_nothing(pixel_type):
    stills = Stills(3.0)
    image = stills.scene.render(0, 1).image
    good = np.where(stills.bad_pixels, 0, image)
    expected = stills.finder.find(image)
    spots = stills.finder.find(np.where(stills.bad_pixels, -1, good).astype(pixel_type))
    np.testing.assert_array_equal(spots.x_px, expected.x_px)
    np.testing.assert_array_equal(spots.intensity, expected.intensity)


def test_a_hit_needs_spots_and_where_asked_for_also_signal():
    settings = SpotSettings(min_spots_for_hit=10, min_signal_for_hit=500, gain=2)
    assert is_hit(10, 1000.0, settings)
    assert not is_hit(9, 1e6, settings)
    assert not is_hit(50, 999.0, settings)
