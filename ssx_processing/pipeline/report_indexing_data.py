"""How indexing went, counted and sampled from the tables of the chunks; drawn by ``report_indexing_plots``.

Residuals are turned into the laboratory, so that panels that lie turned in the image come out right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.formats.chunk_folder import read_known
from ssx_processing.kernels import geometry as geo
from ssx_processing.models import FrameStatus, Geometry
from ssx_processing.pipeline.report_binning import even_sample

MAX_SPOTS = 400_000
"""Indexed spots whose residuals are looked at, spread over the chunks."""
MAX_CHUNKS = 100
"""Of more chunks, so many are looked at, spread evenly."""
RESIDUAL_COLUMNS = ["x_px", "y_px", "panel", "lattice", "dx_px", "dy_px", "excitation_error"]
UNKNOWN = ""
"""Misfit of hits that were processed before reasons were kept."""


@dataclass(frozen=True)
class IndexingCounts:
    """What became of the frames, hits and spots of a chunk or of all chunks."""

    frames: int = 0
    """All frames, readable or not."""
    hits: int = 0
    indexed: int = 0
    """Hits with at least one lattice."""
    lattices: int = 0
    several: int = 0
    """Hits with two lattices or more."""
    spots_on_hits: int = 0
    spots_on_indexed: int = 0
    """Spots on hits with at least one lattice."""
    explained: int = 0
    """Spots that belong to a lattice."""
    split: int = 0
    """Lattices of which a near-duplicate was refused."""
    median_rmsd_px: float = float("nan")
    misfits: Mapping[str, int] = field(default_factory=dict)
    """Value of `Misfit` to hits that were not indexed for it; empty: not known."""


@dataclass(frozen=True)
class SpotResiduals:
    """Observed minus predicted positions of indexed spots; every array has one element for each."""

    x_mm: NDArray[np.float32]
    """Place across the beam, measured from it, along the laboratory's x."""
    y_mm: NDArray[np.float32]
    """Up."""
    radial_px: NDArray[np.float32]
    """Away from the beam."""
    tangential_px: NDArray[np.float32]
    """Counter-clockwise for who looks along the beam, with y up and x to the right."""
    q: NDArray[np.float32]
    """|q|, 1/Å."""
    excitation_error: NDArray[np.float32]
    """1/Å."""
    pixel_mm: float
    """Size of a pixel along fast."""

    def __len__(self) -> int:
        """Number of spots."""
        return len(self.q)


@dataclass(frozen=True)
class IndexingData:
    """How indexing went."""

    total: IndexingCounts
    by_chunk: Mapping[str, IndexingCounts]
    """Key of a chunk to its counts."""
    residuals: SpotResiduals | None
    """None where the tables or the calibration do not tell them."""


def read_indexing(
    folders: Sequence[Path], frames: pd.DataFrame, lattices: pd.DataFrame, geometry: Geometry | None
) -> IndexingData:
    """How indexing went in the chunks there are.

    Parameters
    ----------
    frames, lattices
        Tables of all these chunks, with the column ``chunk``.
    geometry
        That the frames were processed with; None where it is not known.
    """
    of_chunk = dict(tuple(lattices.groupby("chunk")))
    return IndexingData(
        total=indexing_counts(frames, lattices),
        by_chunk={
            str(chunk): indexing_counts(part, of_chunk.get(chunk, lattices.iloc[:0]))
            for chunk, part in frames.groupby("chunk")
        },
        residuals=_read_residuals(folders, geometry) if geometry is not None else None,
    )


def indexing_counts(frames: pd.DataFrame, lattices: pd.DataFrame) -> IndexingCounts:
    """Counts over some frames and the lattices on them."""
    status = frames["status"].to_numpy(str)
    n_spots = frames["n_spots"].to_numpy(np.int64)
    is_indexed, failed = status == FrameStatus.INTEGRATED, status == FrameStatus.NOT_INDEXED
    reasons = frames["misfit"].fillna(UNKNOWN) if "misfit" in frames else pd.Series(UNKNOWN, frames.index)
    rmsd = lattices["rmsd_px"].to_numpy(float)
    split = lattices["split_deg"].to_numpy(float) if "split_deg" in lattices else np.empty(0)
    return IndexingCounts(
        frames=len(frames),
        hits=int((is_indexed | failed).sum()),
        indexed=int(is_indexed.sum()),
        lattices=len(lattices),
        several=int((lattices["frame"].value_counts() > 1).sum()),
        spots_on_hits=int(n_spots[is_indexed | failed].sum()),
        spots_on_indexed=int(n_spots[is_indexed].sum()),
        explained=int(lattices["n_indexed"].sum()),
        split=int(np.isfinite(split).sum()),
        median_rmsd_px=float(np.median(rmsd)) if len(rmsd) else float("nan"),
        misfits={str(name): int(n) for name, n in reasons[failed].value_counts().items()},
    )


def _read_residuals(folders: Sequence[Path], geometry: Geometry) -> SpotResiduals | None:
    """Residuals of indexed spots, of all chunks or of some; None where no chunk kept them."""
    chosen = [folders[n] for n in even_sample(len(folders), MAX_CHUNKS)]
    parts: list[pd.DataFrame] = []
    for folder in chosen:
        if not (folder / "spots.parquet").is_file():
            continue
        spots = read_known(folder, "spots", [], RESIDUAL_COLUMNS)
        if not set(RESIDUAL_COLUMNS) <= set(spots):
            continue
        spots = spots[(spots["lattice"] >= 0) & np.isfinite(spots["dx_px"])]
        parts.append(spots.iloc[even_sample(len(spots), MAX_SPOTS // len(chosen))])
    spots = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return spot_residuals(spots, geometry) if len(spots) else None


def spot_residuals(spots: pd.DataFrame, geometry: Geometry) -> SpotResiduals:
    """Residuals across the beam, along and about it.

    Parameters
    ----------
    spots
        Columns `RESIDUAL_COLUMNS`; all of them indexed.
    """
    x, y, dx, dy = (spots[name].to_numpy(np.float64) for name in ("x_px", "y_px", "dx_px", "dy_px"))
    panel = spots["panel"].to_numpy(np.int32)
    rectangles, axes = geo.panel_rectangles(geometry), geo.panel_axes(geometry)
    i, j = x - rectangles[panel, 0], y - rectangles[panel, 1]
    origin, fast, slow = axes[panel, 0], axes[panel, 1], axes[panel, 2]
    beam = np.array(geometry.beam_direction)
    across = _across(origin + i[:, None] * fast + j[:, None] * slow, beam)
    off = _across(dx[:, None] * fast + dy[:, None] * slow, beam) / np.linalg.norm(axes[0, 1])
    outwards = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    # looking along the beam with y up, x is to the right: counter-clockwise is about the reverse of the beam
    around = np.cross(-beam, outwards)
    q = geo.pixel_to_q(
        x, y, panel, rectangles, axes, geo.incident_wave_vector(geometry), *geo.sensor(geometry)
    )
    columns = (
        across[:, 0],
        across[:, 1],
        np.sum(off * outwards, axis=1),
        np.sum(off * around, axis=1),
        np.linalg.norm(q, axis=1),
        spots["excitation_error"].to_numpy(np.float64),
    )
    pixel_mm = float(np.linalg.norm(axes[0, 1]))
    return SpotResiduals(*(column.astype(np.float32) for column in columns), pixel_mm=pixel_mm)


def _across(vectors: NDArray[np.float64], beam: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) parts of vectors perpendicular to the beam."""
    return vectors - np.outer(vectors @ beam, beam)
