"""Cells and conditions that indexing is judged on, and the judge; tests take their rows from here too."""

import time
from dataclasses import dataclass, field

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.indexing import Indexer
from ssx_processing.kernels.unit_cell import b_matrix, lattice_rotations, misorientation_deg, search_lattice
from ssx_processing.models import UnitCell
from ssx_processing.simulation.chip_settings import (
    FOUR_MPX,
    SimulatedBeam,
    SimulatedCrystals,
    SimulatedDetector,
)
from ssx_processing.simulation.spot_pattern import PatternMaker, SpotPattern, true_geometry

CELLS: dict[str, tuple[UnitCell, str]] = {
    "cubic P": ((91.0, 91.0, 91.0, 90.0, 90.0, 90.0), "P 41 3 2"),
    "cubic I": ((78.0, 78.0, 78.0, 90.0, 90.0, 90.0), "I 21 3"),
    "cubic F": ((118.0, 118.0, 118.0, 90.0, 90.0, 90.0), "F 4 3 2"),
    "tetragonal, a ~ 2c": ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2"),
    "hexagonal": ((61.0, 61.0, 110.0, 90.0, 90.0, 120.0), "P 63"),
    "R, hexagonal axes": ((80.0, 80.0, 160.0, 90.0, 90.0, 120.0), "R 3 2:H"),
    "R, rhombohedral axes": ((70.0, 70.0, 70.0, 78.0, 78.0, 78.0), "R 3 2:R"),
    "orthorhombic": ((63.0, 80.0, 140.0, 90.0, 90.0, 90.0), "P 21 21 21"),
    "orthorhombic C": ((61.5, 122.7, 168.8, 90.0, 90.0, 90.0), "C 2 2 21"),
    "monoclinic, beta 90.5": ((45.0, 65.0, 92.0, 90.0, 90.5, 90.0), "P 1 21 1"),
    "monoclinic C, beta 110": ((90.0, 58.0, 70.0, 90.0, 110.0, 90.0), "C 1 2 1"),
    "triclinic": ((42.0, 55.0, 68.0, 81.0, 86.0, 96.0), "P 1"),
    "axis of 300 Å": ((61.0, 82.0, 300.0, 90.0, 90.0, 90.0), "P 21 21 21"),
    "117 x 223 x 309 Å": ((117.0, 223.0, 309.0, 90.0, 90.0, 90.0), "P 21 21 21"),
}
LYSOZYME = "tetragonal, a ~ 2c"
ONE_MPX = SimulatedDetector()
LONG_AXIS = 200.0
"""Å; spots of such cells would touch on the small detector."""
RIGHT_DEG = 1.0
"""A lattice within this of a true one, up to the symmetry of the lattice, is right."""
SPOT_ERROR_PX = 0.8
"""As the default of the settings."""


@dataclass(frozen=True)
class Scenario:
    """One row: patterns of one kind."""

    cell: str = LYSOZYME
    n_spots: tuple[tuple[int, int], ...] = ((15, 60),)
    """Of each crystal of a frame: fewest, most."""
    false_fraction: tuple[float, float] = (0.2, 0.4)
    """Of all spots, least and most."""
    bandwidth: float = 3e-4
    mosaic_spread_deg: float = 0.05
    position_error_px: float = 0.2
    on_ice_rings: bool = False
    """Where the false spots are."""
    is_shuffled: bool = False
    """Each spot is turned about the beam at random: the control for false indexing."""


@dataclass
class Tally:
    """What became of the patterns of a scenario."""

    right: int = 0
    """True lattices that were found."""
    missed: int = 0
    """True lattices that were not."""
    wrong: int = 0
    """Lattices found that are no true ones."""
    patterns: int = 0
    patterns_wrong: int = 0
    """With at least one wrong lattice."""
    misorientation_deg: list[float] = field(default_factory=list)
    """Of the right ones, as the search leaves them."""
    ms: list[float] = field(default_factory=list)
    """Thread CPU time of each pattern."""


class Bench:
    """Makes patterns of a scenario and indexes them."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        cell, name = CELLS[scenario.cell]
        self.scenario, self.rng = scenario, np.random.default_rng(seed)
        detector = FOUR_MPX if max(cell[:3]) > LONG_AXIS else ONE_MPX
        beam = SimulatedBeam(bandwidth=scenario.bandwidth)
        crystals = SimulatedCrystals(
            unit_cell=cell, space_group=name, mosaic_spread_deg=scenario.mosaic_spread_deg
        )
        self.maker = PatternMaker(
            crystals, beam, detector, self.rng, position_error_px=scenario.position_error_px
        )
        self.geometry = true_geometry(detector, beam)
        self.group = gemmi.SpaceGroup(name)
        self.b, self.rotations = b_matrix(cell), lattice_rotations(cell, self.group)
        s0 = geo.incident_wave_vector(self.geometry)
        sigma_q = SPOT_ERROR_PX * detector.pixel_mm / detector.distance_mm / beam.wavelength
        self.indexer = Indexer(search_lattice(cell, self.group), s0, sigma_q)

    def pattern(self) -> SpotPattern:
        """A frame of the scenario."""
        s = self.scenario
        wanted = tuple(int(self.rng.integers(low, high + 1)) for low, high in s.n_spots)
        false = self.rng.uniform(*s.false_fraction)
        n_false = round(max(sum(wanted), 40 * (not wanted)) * false / max(1 - false, 0.5 * (not wanted)))
        return self.maker.pattern(wanted, n_false, on_ice_rings=s.on_ice_rings)

    def q(self, pattern: SpotPattern) -> NDArray[np.float64]:
        """(n, 3) scattering vectors of its spots, 1/Å."""
        g = self.geometry
        q = geo.pixel_to_q(
            pattern.x_px, pattern.y_px, np.zeros(len(pattern.x_px), np.int32), geo.panel_rectangles(g),
            geo.panel_axes(g), geo.incident_wave_vector(g), *geo.sensor(g),
        )  # fmt: skip
        if self.scenario.is_shuffled:
            phi = self.rng.uniform(0, 2 * np.pi, len(q))
            x, y = q[:, 0].copy(), q[:, 1].copy()
            q[:, 0], q[:, 1] = np.cos(phi) * x - np.sin(phi) * y, np.sin(phi) * x + np.cos(phi) * y
        return q

    def run(self, n_patterns: int) -> Tally:
        """Index so many patterns and judge them."""
        tally = Tally(patterns=n_patterns)
        for _ in range(n_patterns):
            pattern = self.pattern()
            q = self.q(pattern)
            if not tally.ms:  # compile what a sparse, a crowded and a hopeless pattern need
                for step in (1, 3, -1):
                    self.indexer.index(q[::step] * step, pattern.snr[::step])
            start = time.thread_time_ns()
            found, _ = self.indexer.index(q, pattern.snr)
            tally.ms.append((time.thread_time_ns() - start) / 1e6)
            to_conventional = self.indexer.lattice.to_conventional
            self.judge([one.a_primitive @ to_conventional for one in found], pattern, tally)
        return tally

    def judge(self, found: list[NDArray[np.float64]], pattern: SpotPattern, tally: Tally) -> None:
        """Compare with the truth; a shuffled pattern has none."""
        true = [] if self.scenario.is_shuffled else list(pattern.a_matrices)
        wrong = 0
        for a in found:
            angles = [misorientation_deg(a, t, self.b, self.rotations) for t in true]
            if angles and min(angles) < RIGHT_DEG:
                tally.misorientation_deg.append(min(angles))
                tally.right += 1
                true.pop(int(np.argmin(angles)))
            else:
                wrong += 1
        tally.missed += len(true)
        tally.wrong += wrong
        tally.patterns_wrong += wrong > 0
