"""What all frames of a chip share, and the rendering of one frame."""

from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.simulation.background import (
    IceRing,
    add_ice,
    add_poisson_background,
    expected_background,
    ice_rings,
)
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.crystal import Crystal, random_crystal
from ssx_processing.simulation.detector import pixel_maps
from ssx_processing.simulation.still import BraggSpots, add_diffraction, make_optics
from ssx_processing.simulation.structure_factors import (
    TrueReflections,
    mean_intensity_near,
    unique_reflections,
    whole_sphere,
)

# first numbers of the seeds' spawn keys: frames, chip, sample and detector never share random numbers
FRAME_STREAM, LAYOUT_STREAM, SAMPLE_STREAM, DETECTOR_STREAM = range(4)


@dataclass(frozen=True)
class RenderedFrame:
    """Pixels and answer of one frame."""

    image: NDArray[np.unsignedinteger]
    """(n_slow, n_fast), the detector's pixel type; gaps hold its largest value."""
    background_factor: float
    ice_photons: float
    crystals: tuple[Crystal, ...]
    spots: tuple[BraggSpots, ...]
    """Of each crystal, all that were simulated, visible or not."""


@dataclass(frozen=True)
class DefectPixels:
    """Pixels that count without photons."""

    at: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Rows and columns."""
    counts: NDArray[np.float64]
    probability: NDArray[np.float64]
    """That it counts on a frame; 1: stuck."""


class Scene:
    """Shared state of a chip; frames are rendered in any order, each from its own random numbers."""

    def __init__(self, settings: ChipSettings):
        self.settings = settings
        self.maps = pixel_maps(settings.detector, settings.beam)
        self.background = expected_background(self.maps, settings.beam.background_photons)
        self.optics = make_optics(settings.detector, settings.beam)
        self.defects = self._random_defects()

    def random_stream(self, *key: int) -> np.random.Generator:
        """Random generator for one purpose; the same whatever was drawn before."""
        return np.random.default_rng(np.random.SeedSequence(self.settings.seed, spawn_key=key))

    @cached_property
    def unique(self) -> TrueReflections:
        """Unique reflections to a little beyond the corner of the detector."""
        d_min = 0.99 / float(self.maps.q.max())
        return unique_reflections(self.settings.crystals, d_min, self.random_stream(SAMPLE_STREAM))

    @cached_property
    def sphere(self) -> TrueReflections:
        """The same, with all their equivalents."""
        return whole_sphere(self.unique, self.settings.crystals.sample.gemmi_space_group)

    @cached_property
    def median_scale(self) -> float:
        """Photons per electron² of a fully excited reflection of the median crystal."""
        crystals = self.settings.crystals
        near_4a = mean_intensity_near(self.unique, gemmi.UnitCell(*crystals.unit_cell), 4.0)
        return crystals.photons_at_4a / near_4a

    @cached_property
    def ice(self) -> list[IceRing]:
        """Where ice rings would be."""
        return ice_rings(self.maps)

    def render(self, frame: int, n_crystals: int) -> RenderedFrame:
        """Frame number ``frame`` with so many crystals in the beam."""
        rng = self.random_stream(FRAME_STREAM, frame)
        beam = self.settings.beam
        image = np.zeros(self.maps.q.shape, np.uint32)
        factor = float(np.exp(rng.normal(0, beam.background_variation)))
        add_poisson_background(image, self.background, factor, int(rng.integers(2**63)))
        ice = 0.0
        if rng.random() < beam.ice_fraction:
            ice = float(beam.background_photons * np.exp(rng.normal(0.5, 0.7)))
            add_ice(image, self.ice, ice, rng)
        crystals = tuple(
            random_crystal(self.settings.crystals, beam, self.median_scale, rng) for _ in range(n_crystals)
        )
        spots = tuple(
            add_diffraction(
                image, crystal, self.sphere, optics=self.optics, transmission=self.maps.transmission,
                wavelength=beam.wavelength, rng=rng,
            )
            for crystal in crystals
        )  # fmt: skip
        return RenderedFrame(self._as_read_out(image, rng), factor, ice, crystals, spots)

    def _as_read_out(
        self, image: NDArray[np.uint32], rng: np.random.Generator
    ) -> NDArray[np.unsignedinteger]:
        """Defect pixels, saturation and gaps as the detector delivers them."""
        detector, defects = self.settings.detector, self.defects
        fires = rng.random(len(defects.counts)) < defects.probability
        image[defects.at] += np.where(fires, rng.poisson(defects.counts), 0).astype(np.uint32)
        pixels = np.minimum(image, detector.saturation).astype(detector.pixel_type)
        pixels[self.maps.gap] = np.iinfo(pixels.dtype).max
        return pixels

    def _random_defects(self) -> DefectPixels:
        detector, rng = self.settings.detector, self.random_stream(DETECTOR_STREAM)
        stuck, flickering = detector.n_stuck_pixels, detector.n_flickering_pixels
        flat = rng.choice(np.flatnonzero(~self.maps.gap), size=stuck + flickering, replace=False)
        rows, columns = np.unravel_index(flat, self.maps.gap.shape)
        return DefectPixels(
            at=(rows, columns),
            counts=np.exp(rng.uniform(np.log(60), np.log(20_000), size=stuck + flickering)),
            probability=np.concatenate([np.ones(stuck), rng.uniform(0.1, 0.6, size=flickering)]),
        )
