"""What a refinement of the geometry leaves behind, in the units that people use."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.unit_cell import SearchLattice, cell_of
from ssx_processing.models import Geometry, UnitCell
from ssx_processing.pipeline.detector_normals import STRONG_SNR


@dataclass(frozen=True)
class GeometryRefinement:
    """What the refinement of the geometry did."""

    level: str = "none"
    """none, centre, detector or panels: what was refined."""
    names: tuple[str, ...] = ()
    """Parameters, e.g. ``beam centre fast``."""
    units: tuple[str, ...] = ()
    shifts: tuple[float, ...] = ()
    """Refined minus given."""
    sds: tuple[float, ...] = ()
    """Their standard deviations."""
    correlation: tuple[tuple[float, ...], ...] = ()
    """Between ``names``."""
    group_names: tuple[str, ...] = ()
    """Groups of panels that moved on their own."""
    group_shifts: tuple[tuple[float, ...], ...] = ()
    """Of each: x, y, z in mm, turns about them in mrad, beside the move of the whole detector."""
    rmsd_before_px: float = math.nan
    """Median over the lattices, with the given geometry."""
    rmsd_after_px: float = math.nan
    n_lattices: int = 0
    n_spots: int = 0
    min_snr: float = STRONG_SNR
    """Spots with at least this signal-to-noise ratio counted for the detector."""
    unit_cell: UnitCell | None = None
    """Mean of the crystals."""
    notes: tuple[str, ...] = ()
    """What a person must know, in sentences."""

    @property
    def beam_shift_px(self) -> tuple[float, float]:
        """By how much the beam centre moved on the detector, fast and slow."""
        return (self.shifts[0], self.shifts[1]) if self.shifts else (0.0, 0.0)


def detector_in_words(
    geometry: Geometry,
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    """Names, units and the (5, 5) matrix that makes them from the shifts and turns of the detector.

    The beam centre moves along fast and slow against the detector; a distance grows along the beam.
    """
    panel, beam = geometry.panels[0], np.array(geometry.beam_direction)
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    distance = abs(float(np.array(panel.origin_mm) @ normal) / float(beam @ normal))
    rows = np.zeros((5, 5))
    rows[0, :2] = -np.array(panel.fast_axis)[:2] / panel.pixel_size_mm[0]
    rows[1, :2] = -np.array(panel.slow_axis)[:2] / panel.pixel_size_mm[1]
    rows[2, :3] = 100.0 * beam / distance
    rows[3, 3] = rows[4, 4] = math.degrees(1.0)
    names = ("beam centre fast", "beam centre slow", "distance", "tilt about x", "tilt about y")
    return names, ("px", "px", "%", "°", "°"), rows


def shared_in_words(
    geometry: Geometry, lattice: SearchLattice
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    """Names, units and the matrix that makes them from all shared parameters, the mean cell last."""
    names, units, detector = detector_in_words(geometry)
    more_names, more_units, cell = _cell_changes(lattice)
    n = len(detector) + len(cell)
    rows = np.zeros((n, n))
    rows[:5, :5], rows[5:, 5:] = detector, cell
    return (*names, *more_names), (*units, *more_units), rows


def _cell_changes(lattice: SearchLattice) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    """Names and units of as many cell parameters as there are strains, and how they change with them."""
    step, cell = 1e-5, np.array(lattice.cell)
    slopes = np.array(
        [
            (np.array(cell_of((np.eye(3) + step * e) @ lattice.b @ lattice.to_conventional)) - cell) / step
            for e in lattice.strains
        ]
    ).T
    slopes[:3] *= 100.0 / cell[:3, None]
    chosen: list[int] = []
    for i in range(6):
        if np.linalg.matrix_rank(slopes[[*chosen, i]], tol=1e-2) > len(chosen):
            chosen.append(i)
    names = tuple(f"cell {('a', 'b', 'c', 'alpha', 'beta', 'gamma')[i]}" for i in chosen)
    return names, tuple("%" if i < 3 else "°" for i in chosen), slopes[chosen]
