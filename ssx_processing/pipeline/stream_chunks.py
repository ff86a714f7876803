"""Frames of CrystFEL streams as the tables of a chunk, so that they are merged as our own are.

Intensities are made photons by ``spots.gain``, which is the geometry's where it says. CrystFEL has taken
polarisation into account already, as our integration does.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.crystfel_stream import CrystfelStream
from ssx_processing.formats.stream_geometry import StreamGeometry, stream_geometry
from ssx_processing.formats.stream_records import StreamCrystal, StreamFrame
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import FrameCounts, FrameRange, FrameStatus, UnitCell
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS, COLUMN_TYPES
from ssx_processing.pipeline.resolution import resolution_limit
from ssx_processing.pipeline.stream_calibration import SIGMA_PER_RADIUS, integration_radius
from ssx_processing.pipeline.stream_plan import parts_of_range
from ssx_processing.settings import SpotSettings

LEAST_PIXELS = 4
"""CrystFEL sums at least so many pixels: an empty reflection has no less noise than these."""
WAVELENGTH = "wavelength"
"""Column of frames and lattices, Å: of a laser that jitters each frame has its own."""
EVENT = "event"
"""Column of the frames: what the stream calls the frame within its file."""
_INDEX = re.compile(r"//(\d+)$")

logger = logging.getLogger(__name__)

Columns = dict[str, Any]


@dataclass
class StreamTables:
    """Rows of the four tables, frame after frame, as `ChunkTables` has them."""

    counts: FrameCounts = field(default_factory=FrameCounts)
    rows: dict[str, list[Columns]] = field(default_factory=lambda: {name: [] for name in COLUMN_TYPES})

    @property
    def median_cell(self) -> UnitCell | None:
        """Median over the lattices; None without any."""
        if not self.rows["lattices"]:
            return None
        cells = [[float(row[name][0]) for name in CELL_COLUMNS] for row in self.rows["lattices"]]
        a, b, c, alpha, beta, gamma = (float(x) for x in np.median(cells, axis=0))
        return a, b, c, alpha, beta, gamma

    def tables(self) -> dict[str, pd.DataFrame]:
        """The four tables by name; columns that a stream knows nothing of are nan, 0 or empty."""
        more = {"frames": {EVENT: "str", WAVELENGTH: "float64"}, "lattices": {WAVELENGTH: "float64"}}
        return {
            name: _table(self.rows[name], types | more.get(name, {})) for name, types in COLUMN_TYPES.items()
        }


def _table(rows: list[Columns], types: dict[str, str]) -> pd.DataFrame:
    """Parts below each other, with columns of these types."""
    lengths = [len(next(iter(part.values()))) for part in rows]
    columns = {}
    for name, kind in types.items():
        missing = "" if kind == "str" else np.nan if kind.startswith("float") else 0
        parts = [part.get(name, [missing] * n) for part, n in zip(rows, lengths, strict=True)]
        columns[name] = pd.Series(np.concatenate(parts) if parts else [], dtype=kind)
    return pd.DataFrame(columns)


def stream_tables(
    paths: Sequence[Path], geometry_file: Path | None, frames: FrameRange, spots: SpotSettings
) -> StreamTables:
    """Tables of some frames of streams, counted over all of them.

    A chunk of a stream that is damaged is a frame that cannot be read.

    Raises
    ------
    ImageReadError
        A stream cannot be read, or not one frame of the range is whole.
    """
    tables, problem, short = StreamTables(), "", 0
    for path, start, stop, number in parts_of_range(paths, frames):
        stream = CrystfelStream(path)
        geometry = stream_geometry(stream, geometry_file)
        if geometry_file is not None:
            stream = CrystfelStream(path, [panel.name for panel in geometry.given.geometry.panels])
        converter = FrameConverter(geometry, integration_radius(stream), spots, tables)
        for frame_number, frame in enumerate(stream.frames(start, stop), start=number):
            if frame.problem:
                problem = f"{path}: chunk {frame_number - number + start + 1}: {frame.problem}"
                logger.warning("frame %d cannot be used: %s", frame_number, problem)
            short += sum(len(c.reflections) != c.n_announced for c in frame.crystals)
            converter.add(frame_number, frame)
    if tables.counts.frames_unreadable == frames.n_frames:
        raise ImageReadError(
            f"frames {frames.start}-{frames.stop - 1}: not one is whole; the last: {problem}"
        )
    if short:
        logger.warning(
            "%d crystals have another number of reflections than num_reflections says; those there are used",
            short,
        )
    return tables


class FrameConverter:
    """Adds frames of one stream to the tables."""

    def __init__(
        self, geometry: StreamGeometry, radius_px: float, spots: SpotSettings, tables: StreamTables
    ) -> None:
        """Take positions with ``geometry``; reflections explain peaks within ``radius_px`` of them."""
        self._geometry, self._radius_px, self._spots, self._tables = geometry, radius_px, spots, tables

    def add(self, number: int, frame: StreamFrame) -> None:
        """Add a frame with its peaks, crystals and reflections."""
        rows, status = self._tables.rows, self._status(frame)
        peaks = self._peaks(frame)
        n_peaks, lattices = len(peaks["x_px"]), []
        for lattice, crystal in enumerate(frame.crystals):
            observations = self._observations(frame, crystal)
            distances = self._explain(lattice, peaks, observations)
            lattices.append(self._lattice(frame, crystal, n_peaks, distances))
            where = {"frame": np.full(len(crystal.reflections), number)}
            rows["observations"].append(
                where | {"lattice": np.full(len(crystal.reflections), lattice)} | observations
            )
            rows["lattices"].append({"frame": [number], "lattice": [lattice]} | lattices[-1])
        rows["spots"].append({"frame": np.full(n_peaks, number)} | peaks)
        inverse_d = frame.peaks.inverse_d if frame.peaks is not None else np.empty(0)
        event = _INDEX.search(frame.event)
        rows["frames"].append(
            {
                "frame": [number],
                "status": [status.value],
                "n_spots": [n_peaks],
                "n_lattices": [len(frame.crystals)],
                "file": [frame.file],
                "file_index": [int(event[1]) if event else 0],
                "total_intensity": [float(np.sum(peaks["intensity"]))],
                "resolution_estimate": [resolution_limit(inverse_d)],
                EVENT: [frame.event],
                WAVELENGTH: [frame.wavelength],
            }
        )
        self._tables.counts += _counts(
            status, n_peaks, len(frame.crystals), int((peaks["lattice"] >= 0).sum())
        )

    def _status(self, frame: StreamFrame) -> FrameStatus:
        if frame.problem:
            return FrameStatus.UNREADABLE
        if frame.crystals:
            return FrameStatus.INTEGRATED
        n_peaks = len(frame.peaks) if frame.peaks is not None else 0
        is_hit = n_peaks >= self._spots.min_spots_for_hit if frame.hit is None else frame.hit
        return FrameStatus.NOT_INDEXED if is_hit else FrameStatus.NO_HIT

    def _peaks(self, frame: StreamFrame) -> Columns:
        """Columns of the spots, not yet explained."""
        peaks = frame.peaks
        n = len(peaks) if peaks is not None else 0
        columns: Columns = {name: np.full(n, np.nan) for name in ("dx_px", "dy_px", "excitation_error")}
        columns |= {"lattice": np.full(n, -1), **{name: np.zeros(n, int) for name in "hkl"}}
        if peaks is None:
            return columns | {name: np.empty(0) for name in ("x_px", "y_px", "intensity", "panel")}
        return columns | {
            "x_px": peaks.fs,
            "y_px": self._geometry.in_image(peaks.ss, peaks.panel),
            "intensity": peaks.intensity,
            "panel": peaks.panel,
        }

    def _observations(self, frame: StreamFrame, crystal: StreamCrystal) -> Columns:
        """Columns of a crystal's observations."""
        found = crystal.reflections
        intensity, sigma, background = (
            values / self._spots.gain for values in (found.intensity, found.sigma, found.background)
        )
        width = SIGMA_PER_RADIUS * crystal.profile_radius
        return {
            **dict(zip("hkl", found.hkl.T, strict=True)),
            "intensity": intensity,
            "sigma": sigma,
            "background": background,
            "x_px": found.fs,
            "y_px": self._geometry.in_image(found.ss, found.panel),
            "excitation_error": excitation_errors(crystal.a_matrix, found.hkl, frame.wavelength),
            "excitation_sigma": np.full(len(found), width),
            "noise_variance": noise_variance(intensity, sigma, background),
        }

    def _explain(self, lattice: int, peaks: Columns, observations: Columns) -> NDArray[np.float64]:
        """Give the peaks that no lattice before explained to this one; their distances in px."""
        free = np.flatnonzero(peaks["lattice"] < 0)
        if not len(free) or not len(observations["x_px"]):
            return np.empty(0)
        predicted = np.column_stack([observations["x_px"], observations["y_px"]])
        found = np.column_stack([peaks["x_px"], peaks["y_px"]])[free]
        near = KDTree(predicted).query(found, distance_upper_bound=self._radius_px)
        distance, nearest = np.asarray(near[0], np.float64), np.asarray(near[1], np.int64)
        hit = np.isfinite(distance)
        mine, of = free[hit], nearest[hit]
        peaks["lattice"][mine] = lattice
        for name in "hkl":
            peaks[name][mine] = observations[name][of]
        peaks["dx_px"][mine], peaks["dy_px"][mine] = (found[hit] - predicted[of]).T
        peaks["excitation_error"][mine] = observations["excitation_error"][of]
        return distance[hit]

    def _lattice(
        self, frame: StreamFrame, crystal: StreamCrystal, n_peaks: int, distances: NDArray[np.float64]
    ) -> Columns:
        """Columns of one lattice."""
        values = {
            **dict(zip(A_COLUMNS, crystal.a_matrix.ravel(), strict=True)),
            **dict(zip(CELL_COLUMNS, cell_of(crystal.a_matrix), strict=True)),
            "n_indexed": len(distances),
            "n_spots": n_peaks,
            "rmsd_px": float(np.sqrt(np.mean(distances**2))) if len(distances) else np.nan,
            "excitation_width": SIGMA_PER_RADIUS * crystal.profile_radius,
            "resolution_limit": crystal.resolution_limit,
            "n_observations": len(crystal.reflections),
            WAVELENGTH: frame.wavelength,
        }
        return {name: [value] for name, value in values.items()}


def excitation_errors(
    a_matrix: NDArray[np.float64], hkl: NDArray[np.integer], wavelength: float
) -> NDArray[np.float64]:
    """|s0 + A h| - |s0| for a beam along -z, 1/Å.

    Examples
    --------
    >>> excitation_errors(0.01 * np.eye(3), np.array([[0, 0, 100]]), 1.0).tolist()
    [-1.0]
    """
    s1 = hkl @ a_matrix.T - [0.0, 0.0, 1.0 / wavelength]
    return np.linalg.norm(s1, axis=1) - 1.0 / wavelength


def noise_variance(
    intensity: NDArray[np.float64], sigma: NDArray[np.float64], background: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Variance in photons² that an empty reflection would have there.

    CrystFEL's sigma² is that of counting the reflection's own photons and that of its background: the first
    is taken off. Where rounding or a wrong number of counts per photon leaves nothing, the background's
    counting over `LEAST_PIXELS` stays.

    Examples
    --------
    >>> photons, nothing = np.array([100.0, -5.0]), np.array([0.0, 0.0])
    >>> noise_variance(photons, np.array([11.0, 3.0]), nothing).tolist()
    [21.0, 9.0]
    """
    return np.maximum(
        np.square(sigma) - np.maximum(intensity, 0.0), LEAST_PIXELS * np.maximum(background, 0.0)
    )


def _counts(status: FrameStatus, n_peaks: int, n_lattices: int, n_explained: int) -> FrameCounts:
    is_hit = status in (FrameStatus.INTEGRATED, FrameStatus.NOT_INDEXED)
    return FrameCounts(
        frames_total=1,
        frames_unreadable=int(status is FrameStatus.UNREADABLE),
        frame_hits=int(is_hit),
        crystal_hits=int(is_hit),
        frames_indexed=int(n_lattices > 0),
        frames_failed_index=int(status is FrameStatus.NOT_INDEXED),
        lattices_indexed=n_lattices,
        spots_on_hits=n_peaks if is_hit else 0,
        spots_on_indexed=n_peaks if n_lattices else 0,
        spots_explained=n_explained,
    )
