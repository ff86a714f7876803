"""What a CrystFEL stream holds, in our units and frame; shared by what reads and what writes streams."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import UnitCell

FIRST_LINE = "CrystFEL stream format"
BEGIN_GEOMETRY, END_GEOMETRY = "----- Begin geometry file -----", "----- End geometry file -----"
BEGIN_CELL, END_CELL = "----- Begin unit cell -----", "----- End unit cell -----"
BEGIN_CHUNK, END_CHUNK = "----- Begin chunk -----", "----- End chunk -----"
BEGIN_PEAKS, END_PEAKS = "Peaks from peak search", "End of peak list"
BEGIN_CRYSTAL, END_CRYSTAL = "--- Begin crystal", "--- End crystal"
BEGIN_REFLECTIONS, END_REFLECTIONS = "Reflections measured after indexing", "End of reflections"
NO_EVENT = "//"
"""Event of a frame that is alone in its file."""


@dataclass(frozen=True)
class TargetCell:
    """The cell that CrystFEL was told."""

    lattice_type: str
    """triclinic, monoclinic, orthorhombic, tetragonal, rhombohedral, hexagonal or cubic."""
    centring: str
    """P, A, B, C, I, F, R, or H: rhombohedral on hexagonal axes."""
    unique_axis: str = "?"
    cell: UnitCell | None = None
    """None where only the type was given."""


@dataclass(frozen=True)
class StreamHeader:
    """What stands before the first chunk."""

    version: tuple[int, int]
    audit: tuple[str, ...]
    """Lines on program, command and methods."""
    geometry: str
    """Text of the geometry file; empty in streams without."""
    target: TargetCell | None


@dataclass(frozen=True)
class StreamPeaks:
    """Peak list of a frame; arrays of n elements."""

    fs: NDArray[np.float64]
    """px in the data file, as in the geometry's min_fs."""
    ss: NDArray[np.float64]
    inverse_d: NDArray[np.float64]
    """1/d, 1/Å."""
    intensity: NDArray[np.float64]
    """Counts."""
    panel: NDArray[np.int32]
    """Number of the panel in the geometry; -1 where the stream names none."""

    @classmethod
    def none(cls) -> "StreamPeaks":
        """No peaks."""
        nothing = np.empty(0)
        return cls(nothing, nothing, nothing, nothing, np.empty(0, np.int32))

    def __len__(self) -> int:
        """Number of peaks."""
        return len(self.fs)


@dataclass(frozen=True)
class StreamReflections:
    """Integrated reflections of a crystal; arrays of n elements."""

    hkl: NDArray[np.int32]
    """(n, 3)."""
    intensity: NDArray[np.float64]
    """Counts."""
    sigma: NDArray[np.float64]
    peak: NDArray[np.float64]
    """Largest pixel, counts."""
    background: NDArray[np.float64]
    """Mean, counts per pixel."""
    fs: NDArray[np.float64]
    """px in the data file."""
    ss: NDArray[np.float64]
    panel: NDArray[np.int32]

    @classmethod
    def none(cls) -> "StreamReflections":
        """No reflections."""
        hkl, panel, nothing = np.empty((0, 3), np.int32), np.empty(0, np.int32), np.empty(0)
        return cls(hkl, nothing, nothing, nothing, nothing, nothing, nothing, panel)

    def __len__(self) -> int:
        """Number of reflections."""
        return len(self.hkl)


@dataclass(frozen=True)
class StreamCrystal:
    """One crystal of a frame."""

    a_matrix: NDArray[np.float64]
    """(3, 3), columns a*, b*, c* in 1/Å, laboratory frame."""
    reflections: StreamReflections
    lattice_type: str = "triclinic"
    centring: str = "P"
    unique_axis: str = "?"
    profile_radius: float = math.nan
    """1/Å."""
    resolution_limit: float = math.nan
    """Å."""
    detector_shift_mm: tuple[float, float] = (0.0, 0.0)
    """By which the detector was moved for this crystal, x and y of the laboratory."""
    n_announced: int = 0
    """Reflections that there should be."""
    n_saturated: int = 0
    """Reflections with saturated pixels, by count only."""


@dataclass(frozen=True)
class StreamFrame:
    """One chunk of a stream: a frame."""

    file: str
    event: str = ""
    """Such as ``entry//12``; empty for files with one frame."""
    serial: int = 0
    """Image serial number."""
    hit: bool | None = None
    """None where the stream does not say."""
    indexed_by: str = "none"
    wavelength: float = math.nan
    """Å."""
    camera_length_mm: float = math.nan
    """Average over the panels."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Copied from the headers of the image, by their place there."""
    peaks: StreamPeaks | None = None
    crystals: tuple[StreamCrystal, ...] = ()
    problem: str = ""
    """Why the chunk cannot be used; empty if it can."""
