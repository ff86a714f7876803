"""What there is to see of the lattices of one frame: their predicted reflections, and how well they fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.prediction import COLUMNS
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import FrameStatus, UnitCell
from ssx_processing.pipeline.frame_result import FrameResult
from ssx_processing.pipeline.report_words import MISFITS

LATTICE_COLOURS = ("#6a3d9a", "#00838f", "#a6761d", "#c2185b", "#33691e")
"""Of the first, second ... lattice; from the sixth on they are used again."""


@dataclass(frozen=True)
class SeenLattice:
    """One lattice, its predictions, and how well they fit."""

    number: int
    """From 1."""
    cell: UnitCell
    n_indexed: int
    rmsd_px: float
    log10_e: float
    split_deg: float
    """Angle to a near-duplicate that was refused; nan if there was none."""
    hkl: NDArray[np.int64]
    """(n, 3) predicted reflections."""
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    d: NDArray[np.float64]
    """Å."""
    excitation_error: NDArray[np.float64]
    """1/Å."""
    excitation_sigma: NDArray[np.float64]
    """Standard deviation expected of it, 1/Å."""

    @property
    def colour(self) -> str:
        """The same on page and picture."""
        return LATTICE_COLOURS[(self.number - 1) % len(LATTICE_COLOURS)]


@dataclass(frozen=True)
class LatticeView:
    """The lattices of a frame, or why there are none."""

    lattices: tuple[SeenLattice, ...]
    spot_lattice: NDArray[np.int16]
    """(n_spots,) which of the lattices explains a spot, from 0; -1 for none."""
    reason: str
    """Why there is no lattice; empty if there is one."""

    @property
    def sentences(self) -> list[str]:
        """What was found: how many lattices, then one line for each."""
        if self.reason:
            return [f"no lattice: {self.reason}"]
        n_spots, n_explained = len(self.spot_lattice), int((self.spot_lattice >= 0).sum())
        n = len(self.lattices)
        head = f"{n} lattice{'s' * (n > 1)}, together {n_explained} of {n_spots} spots"
        return [head, *(_sentence(lattice, n_spots) for lattice in self.lattices)]


def _sentence(lattice: SeenLattice, n_spots: int) -> str:
    cell = " ".join(f"{value:.2f}" for value in lattice.cell)
    split = f"; the crystal is split by {lattice.split_deg:.2f} degrees" if lattice.split_deg > 0 else ""
    return (
        f"{lattice.number}: {lattice.n_indexed} of {n_spots} spots, {len(lattice.d)} reflections predicted, "
        f"cell {cell}, rmsd {lattice.rmsd_px:.2f} px, log10 E {lattice.log10_e:.0f}{split}"
    )


def view_of_lattices(result: FrameResult) -> LatticeView:
    """What a processed frame shows."""
    seen = []
    for number, (lattice, predicted) in enumerate(zip(result.lattices, result.predictions, strict=True), 1):
        hkl = predicted[:, :3]
        column = {name: predicted[:, n] for n, name in enumerate(COLUMNS)}
        seen.append(
            SeenLattice(
                number=number,
                cell=cell_of(lattice.a_matrix),
                n_indexed=lattice.n_indexed,
                rmsd_px=lattice.rmsd_px,
                log10_e=lattice.log10_e,
                split_deg=lattice.split_deg,
                hkl=np.rint(hkl).astype(np.int64),
                x_px=column["x_px"],
                y_px=column["y_px"],
                d=1.0 / np.maximum(np.linalg.norm(hkl @ lattice.a_matrix.T, axis=1), 1e-9),
                excitation_error=column["excitation_error"],
                excitation_sigma=column["excitation_sigma"],
            )
        )
    return LatticeView(tuple(seen), result.spot_lattice, _reason(result))


def _reason(result: FrameResult) -> str:
    """Why there is no lattice, and what may help; empty if there is one."""
    if result.lattices:
        return ""
    if result.status is FrameStatus.NO_HIT:
        return "the frame is no hit, so none was sought; try a lower --set spots.min_spots_for_hit"
    if result.misfit is None:
        return "no lattice was found"
    word = MISFITS[result.misfit]
    return f"{word.label}. {word.meaning}"
