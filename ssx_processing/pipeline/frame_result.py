"""What becomes of one frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import FrameStatus, Lattice, Misfit, SpotList


@dataclass(frozen=True)
class FrameResult:
    """What became of one frame."""

    status: FrameStatus
    spots: SpotList
    median_background: float
    """Of the rings, counts per pixel."""
    spot_lattice: NDArray[np.int16]
    """Which lattice explains a spot; -1 for none."""
    lattices: tuple[Lattice, ...]
    resolution_limits: tuple[float, ...]
    """Å, of the indexed spots of each lattice."""
    predictions: tuple[NDArray[np.float64], ...]
    """Of each lattice, columns as `prediction.COLUMNS`."""
    integrated: tuple[NDArray[np.float64], ...]
    """Of each lattice, columns as in `integration`."""
    misfit: Misfit | None = None
    """Why a hit has no lattice; None for the others."""


@dataclass(frozen=True)
class IndexedFrame:
    """Lattices of one frame."""

    lattices: tuple[Lattice, ...]
    misfit: Misfit | None = None
    """Why there is none; None where there are."""
