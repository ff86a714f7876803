"""Frame results gathered into the four tables of a chunk."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.kernels.integration_table import (
    BACKGROUND,
    FLAG_BACKGROUND,
    FLAG_BAD_PIXEL,
    FLAG_INCOMPLETE,
    FLAG_OVERLAP,
    FLAG_SATURATED,
    FLAG_SHARED,
    FLAGS,
    FRACTION,
    INTENSITY,
    NOISE,
    REJECTED_FLAGS,
    SIGMA,
)
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import FrameCounts, FrameStatus, Misfit, UnitCell
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS, COLUMN_TYPES, SPOT_COLUMNS
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.frame_result import FrameResult
from ssx_processing.pipeline.resolution import resolution_limit

REFLECTION_KINDS = {
    "overlapped": FLAG_OVERLAP,
    "cut_off": FLAG_BAD_PIXEL,
    "saturated": FLAG_SATURATED,
    "without_background": FLAG_BACKGROUND,
    "shared": FLAG_SHARED,
    "incomplete": FLAG_INCOMPLETE,
}
"""Counted kinds of reflections and their flags; the first four are not merged."""


class ChunkTables:
    """Rows of the four tables, frame after frame."""

    def __init__(self) -> None:
        self.counts = FrameCounts()
        self._columns: dict[str, dict[str, list[Any]]] = {name: defaultdict(list) for name in COLUMN_TYPES}
        self._cells: list[UnitCell] = []
        self.reflections = dict.fromkeys(("predicted", "good", *REFLECTION_KINDS), 0)
        """How many were predicted, may be merged, and have each flag."""

    def add_unreadable(self, frame: int, path: Path, index: int) -> None:
        """Add a frame whose pixels could not be read."""
        self.counts += FrameCounts(frames_total=1, frames_unreadable=1)
        self._add_frame(frame, path, index, FrameStatus.UNREADABLE, 0, 0, 0.0, float("nan"), float("nan"))

    def add(self, frame: int, path: Path, index: int, result: FrameResult, processor: FrameProcessor) -> None:
        """Add a processed frame."""
        n_lattices = len(result.lattices)
        is_hit = result.status is not FrameStatus.NO_HIT
        self.counts += FrameCounts(
            frames_total=1,
            frame_hits=int(is_hit),
            crystal_hits=int(is_hit),
            frames_indexed=int(n_lattices > 0),
            frames_failed_index=int(is_hit and not n_lattices),
            lattices_indexed=n_lattices,
            spots_on_hits=len(result.spots) if is_hit else 0,
            spots_on_indexed=len(result.spots) if n_lattices else 0,
            spots_explained=int((result.spot_lattice >= 0).sum()),
        )
        spots = result.spots
        q = np.linalg.norm(processor.scattering_vectors(spots), axis=1)
        self._add_frame(
            frame,
            path,
            index,
            result.status,
            len(spots),
            n_lattices,
            float(spots.intensity.sum()),
            result.median_background,
            resolution_limit(q),
            result.misfit,
        )
        self._add("spots", frame, {name: getattr(spots, name) for name in SPOT_COLUMNS})
        self._add_more(
            "spots",
            n_pixels=spots.n_pixels,
            n_saturated=spots.n_saturated,
            panel=spots.panel,
            lattice=result.spot_lattice,
            **_indices_and_residuals(result),
        )
        for number in range(n_lattices):
            self._add_lattice(frame, number, result)

    def _add_frame(
        self,
        frame: int,
        path: Path,
        index: int,
        status: FrameStatus,
        n_spots: int,
        n_lattices: int,
        total_intensity: float,
        median_background: float,
        resolution_estimate: float,
        misfit: Misfit | None = None,
    ) -> None:
        row = {
            "status": [status.value],
            "misfit": [misfit.value if misfit else ""],
            "n_spots": [n_spots],
            "n_lattices": [n_lattices],
            "file": [str(path)],
            "file_index": [index],
            "total_intensity": [total_intensity],
            "median_background": [median_background],
            "resolution_estimate": [resolution_estimate],
        }
        self._add("frames", frame, row)

    def _add_lattice(self, frame: int, number: int, result: FrameResult) -> None:
        lattice, predicted, summed = (
            result.lattices[number],
            result.predictions[number],
            result.integrated[number],
        )
        flags = summed[:, FLAGS].astype(np.uint8)
        self._count_kinds(flags)
        known = (flags & (FLAG_BAD_PIXEL | FLAG_BACKGROUND)) == 0
        predicted, summed, flags = predicted[known], summed[known], flags[known]
        cell = cell_of(lattice.a_matrix)
        self._cells.append(cell)
        row = {
            "lattice": number,
            **dict(zip(A_COLUMNS, lattice.a_matrix.ravel(), strict=True)),
            **dict(zip(CELL_COLUMNS, cell, strict=True)),
            "n_indexed": lattice.n_indexed,
            "n_spots": len(result.spots),
            "rmsd_px": lattice.rmsd_px,
            "log10_e": lattice.log10_e,
            "runner_up_gap": lattice.runner_up_gap,
            "split_deg": lattice.split_deg,
            "excitation_width": lattice.excitation_width,
            "resolution_limit": result.resolution_limits[number],
            "n_observations": len(predicted),
        }
        self._add("lattices", frame, {name: [value] for name, value in row.items()})
        self._add("observations", frame, {"lattice": np.full(len(predicted), number)})
        self._add_more(
            "observations",
            **{name: predicted[:, i] for i, name in enumerate(("h", "k", "l", "x_px", "y_px"))},
            excitation_error=predicted[:, 6],
            excitation_sigma=predicted[:, 7],
            intensity=summed[:, INTENSITY],
            sigma=summed[:, SIGMA],
            background=summed[:, BACKGROUND],
            noise_variance=summed[:, NOISE],
            fraction=summed[:, FRACTION],
            flags=flags,
        )

    def _count_kinds(self, flags: NDArray[np.uint8]) -> None:
        """Count the reflections of one lattice by their flags."""
        self.reflections["predicted"] += len(flags)
        self.reflections["good"] += int(((flags & REJECTED_FLAGS) == 0).sum())
        for kind, bit in REFLECTION_KINDS.items():
            self.reflections[kind] += int(((flags & bit) != 0).sum())

    def _add(self, table: str, frame: int, columns: dict[str, Any]) -> None:
        """Add rows of one frame."""
        n = len(next(iter(columns.values())))
        self._add_more(table, frame=np.full(n, frame), **columns)

    def _add_more(self, table: str, **columns: list[Any] | NDArray[Any]) -> None:
        """Add further columns of rows just added."""
        for name, values in columns.items():
            kind = COLUMN_TYPES[table][name]
            self._columns[table][name].append(values if kind == "str" else np.asarray(values, kind))

    @property
    def median_cell(self) -> UnitCell | None:
        """Median over the lattices; None without any."""
        if not self._cells:
            return None
        a, b, c, alpha, beta, gamma = (float(x) for x in np.median(self._cells, axis=0))
        return a, b, c, alpha, beta, gamma

    def tables(self) -> dict[str, pd.DataFrame]:
        """The four tables by name, all columns typed, also where there are no rows."""
        return {
            table: pd.DataFrame(
                {
                    name: pd.Series(
                        np.concatenate(self._columns[table][name]) if self._columns[table][name] else [],
                        dtype=kind,
                    )
                    for name, kind in types.items()
                }
            )
            for table, types in COLUMN_TYPES.items()
        }


def _indices_and_residuals(result: FrameResult) -> dict[str, NDArray[Any]]:
    """Columns of the spots that come from the lattice that explains each; nothing where none does."""
    n = len(result.spots)
    hkl, residuals = np.zeros((n, 3), np.int16), np.full((n, 3), np.nan)
    for lattice in result.lattices:
        hkl[lattice.spot_index] = lattice.fit.hkl
        residuals[lattice.spot_index] = lattice.fit.residuals[:, :3]
    names = ("dx_px", "dy_px", "excitation_error")
    return dict(zip("hkl", hkl.T, strict=True)) | dict(zip(names, residuals.T, strict=True))
