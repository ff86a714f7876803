"""Spot lists of stills with a known answer: what spot finding would hand to indexing, without pixels.

The physics is that of ``still.py``; the brightest reflections are seen, at their expected places
with an error, among false spots. Thousands cost seconds, in any cell.
"""

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import Geometry, Panel
from ssx_processing.simulation.chip_settings import SimulatedBeam, SimulatedCrystals, SimulatedDetector
from ssx_processing.simulation.crystal import random_crystal
from ssx_processing.simulation.detector import silicon_absorption_per_mm, true_beam_centre_px
from ssx_processing.simulation.still import BraggSpots, expected_spots, make_optics
from ssx_processing.simulation.structure_factors import TrueReflections, whole_sphere

ICE_D = (3.90, 3.67, 3.44, 2.67, 2.25)
"""Å, the strong rings of hexagonal ice."""
RING_WIDTH_PX = 1.5
CLOSEST_PX = 2.0
"""Of two spots nearer to each other, spot finding sees one."""
FALSE_SNR = 12.0
"""Mean signal-to-noise ratio of false spots above the threshold of 5."""


@dataclass(frozen=True)
class SpotPattern:
    """Spots of one frame; arrays have one row per spot, in random order."""

    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    snr: NDArray[np.float64]
    crystal: NDArray[np.int64]
    """Row of ``a_matrices``; -1: a false spot."""
    hkl: NDArray[np.int64]
    """(n, 3); 0 0 0 of false ones."""
    a_matrices: NDArray[np.float64]
    """(n_crystals, 3, 3) conventional A, 1/Å."""


class PatternMaker:
    """Patterns of one sample on one detector.

    Parameters
    ----------
    d_min
        Å; reflections beyond are not simulated.
    position_error_px
        Standard error of strong spots in each direction; weaker ones have more.
    """

    def __init__(
        self,
        crystals: SimulatedCrystals,
        beam: SimulatedBeam,
        detector: SimulatedDetector,
        rng: np.random.Generator,
        *,
        d_min: float = 2.0,
        position_error_px: float = 0.2,
    ) -> None:
        self.crystals, self.beam, self.detector = crystals, beam, detector
        self.position_error_px = position_error_px
        self.rng = rng
        self.optics = make_optics(detector, beam)
        self.sphere = wilson_sphere(crystals, d_min, rng)

    def pattern(
        self, n_spots: int | tuple[int, ...], n_false: int = 0, *, on_ice_rings: bool = False
    ) -> SpotPattern:
        """One frame.

        Parameters
        ----------
        n_spots
            Spots of its crystal, or of each of several; fewer where the crystal gives fewer.
        n_false
            Spots anywhere.
        on_ice_rings
            The false ones lie on rings instead.
        """
        wanted = (n_spots,) if isinstance(n_spots, int) else n_spots
        columns, matrices = [], []
        for number, n in enumerate(wanted):
            crystal = random_crystal(self.crystals, self.beam, 1.0, self.rng)
            matrices.append(crystal.a_matrix)
            seen = expected_spots(crystal, self.sphere, self.optics, self.beam.wavelength)
            columns.append(self._brightest(seen, n, number))
        columns.append(self._false(n_false, on_ice_rings))
        table = np.concatenate(columns)
        table = table[_apart(table[:, :2], CLOSEST_PX)]
        table = table[self.rng.permutation(len(table))]
        return SpotPattern(
            x_px=table[:, 0].copy(),
            y_px=table[:, 1].copy(),
            snr=table[:, 2].copy(),
            crystal=table[:, 3].astype(np.int64),
            hkl=table[:, 4:].astype(np.int64),
            a_matrices=np.array(matrices).reshape(-1, 3, 3),
        )

    def _brightest(self, seen: BraggSpots, n: int, number: int) -> NDArray[np.float64]:
        """(n, 7) x, y, snr, crystal, h, k, l of the spots that stand out most on the detector."""
        on = self._on_detector(seen.x_px, seen.y_px)
        chosen = np.flatnonzero(on)[np.argsort(-seen.photons[on])[:n]]
        relative = seen.photons[chosen] / max(float(seen.photons[chosen].min(initial=np.inf)), 1e-12)
        snr = 6.0 * np.sqrt(relative)
        error = np.hypot(self.position_error_px, 2.0 / snr)
        return np.column_stack(
            [
                seen.x_px[chosen] + error * self.rng.standard_normal(len(chosen)),
                seen.y_px[chosen] + error * self.rng.standard_normal(len(chosen)),
                snr,
                np.full(len(chosen), number),
                seen.hkl[chosen],
            ]
        )

    def _false(self, n: int, on_ice_rings: bool) -> NDArray[np.float64]:
        """(n, 7) false spots, more of them at low angle as real ones are, or on rings."""
        at, rng = np.array(true_beam_centre_px(self.detector)), self.rng
        found = np.empty((0, 2))
        corner = float(np.hypot(self.detector.n_fast, self.detector.n_slow)) / 2
        while len(found) < n:
            radius = corner * np.sqrt(rng.uniform(0.003, 1, n)) * rng.uniform(0.3, 1, n)
            if on_ice_rings:
                sine = self.beam.wavelength / 2 / rng.choice(ICE_D, n)
                far = self.detector.distance_mm / self.detector.pixel_mm
                radius = far * np.tan(2 * np.arcsin(sine)) + RING_WIDTH_PX * rng.standard_normal(n)
            phi = rng.uniform(0, 2 * np.pi, n)
            place = at + radius[:, None] * np.column_stack([np.cos(phi), np.sin(phi)])
            found = np.concatenate([found, place[self._on_detector(*place.T)]])
        rest = np.tile([-1.0, 0, 0, 0], (n, 1))
        return np.column_stack([found[:n], 5.0 + rng.exponential(FALSE_SNR, n), rest])

    def _on_detector(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        d = self.detector
        on = (x > 1) & (y > 1) & (x < d.n_fast - 1) & (y < d.n_slow - 1)
        for start, stop in d.gap_rows:
            on &= (y < start) | (y >= stop)
        centre = true_beam_centre_px(d)
        return on & (np.hypot(x - centre[0], y - centre[1]) * d.pixel_mm > self.beam.beam_stop_radius_mm)


def wilson_sphere(crystals: SimulatedCrystals, d_min: float, rng: np.random.Generator) -> TrueReflections:
    """All reflections to ``d_min`` (Å) with intensities of Wilson's distribution that fall off with B."""
    cell, group = gemmi.UnitCell(*crystals.unit_cell), crystals.sample.gemmi_space_group
    hkl = np.asarray(gemmi.make_miller_array(cell, group, d_min), np.int32)
    hkl = hkl[~np.asarray(group.operations().systematic_absences(hkl), bool)]
    falloff = np.exp(-0.5 * crystals.wilson_b * np.asarray(cell.calculate_1_d2_array(hkl)))
    # far above the fewest photons that a reflection needs to be followed at all
    return whole_sphere(TrueReflections(hkl, 1e4 * rng.exponential(1.0, len(hkl)) * falloff), group)


def true_geometry(detector: SimulatedDetector, beam: SimulatedBeam) -> Geometry:
    """Beam and detector as they truly are, for processing that is to start without an error."""
    beam_x, beam_y = true_beam_centre_px(detector)
    pixel = detector.pixel_mm
    panel = Panel(
        origin_mm=(-beam_x * pixel, beam_y * pixel, -detector.distance_mm),
        fast_axis=(1.0, 0.0, 0.0),
        slow_axis=(0.0, -1.0, 0.0),
        pixel_size_mm=(pixel, pixel),
        fast_start=0,
        slow_start=0,
        n_fast=detector.n_fast,
        n_slow=detector.n_slow,
    )
    return Geometry(
        panels=(panel,),
        image_shape=(detector.n_slow, detector.n_fast),
        wavelength=beam.wavelength,
        sensor_thickness_mm=detector.thickness_mm,
        sensor_absorption_per_mm=silicon_absorption_per_mm(beam.wavelength),
        polarisation_fraction=beam.polarisation_fraction,
    )


def _apart(xy: NDArray[np.float64], closest: float) -> NDArray[np.bool_]:
    """True for rows that no earlier row is closer to than ``closest``."""
    near = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) < closest
    return ~np.any(np.tril(near, -1), axis=1)
