"""A merge for DIALS: its lattices as experiments, their observations as a reflection table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.formats.crystfel_stream import is_stream
from ssx_processing.formats.dials_geometry_writer import beam_model, detector_model
from ssx_processing.formats.dials_reflections import (
    BOOL,
    DOUBLE,
    INT,
    INTEGRATED_SUM,
    MILLER,
    OUTLIER_IN_SCALING,
    PREDICTED,
    SCALED,
    SIZE,
    VECTOR,
    Column,
    StillExperiment,
    crystal_model,
    imageset_model,
    write_expt,
    write_refl,
)
from ssx_processing.kernels.geometry import incident_wave_vector
from ssx_processing.kernels.symmetry import known_space_group
from ssx_processing.models import Geometry
from ssx_processing.pipeline.detector_places import DetectorPlaces
from ssx_processing.pipeline.export_source import ExportSource
from ssx_processing.pipeline.export_stream import MANY_FRAMES
from ssx_processing.pipeline.merged_orientations import matrices_of_merge
from ssx_processing.pipeline.processed_run import ProcessedRun
from ssx_processing.pipeline.stream_chunks import WAVELENGTH


def export_dials(source: ExportSource, out: Path) -> list[Path]:
    """Write ``<name>.expt`` and ``<name>.refl``; returns the files.

    One experiment per merged lattice, indexed as it was merged and turned as post-refinement left it, with
    the geometry that it was processed with. The table has the observations as integrated, in photons and
    corrected for polarisation, and on the merged scale.

    Raises
    ------
    ChunkError
        A result folder is incomplete.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs, scaled = source.runs(), source.scaled()
    group = known_space_group(source.summary.space_group)
    experiments = Experiments(runs, group)
    for lattice, a_matrix in zip(
        scaled.lattices.to_dict("records"), matrices_of_merge(scaled.lattices), strict=True
    ):
        experiments.add(lattice, a_matrix)
    columns = _columns(scaled.observations, scaled.lattices, experiments.geometries)
    expt = write_expt(
        out / f"{source.name}.expt",
        experiments.listed,
        beams=experiments.beams,
        detectors=experiments.detectors,
        imagesets=experiments.imagesets,
    )
    identifiers = {number: one.identifier for number, one in enumerate(experiments.listed)}
    return [expt, write_refl(out / f"{source.name}.refl", columns, identifiers)]


class Experiments:
    """Experiments of lattices, with the models that they share."""

    def __init__(self, runs: tuple[ProcessedRun, ...], group: gemmi.SpaceGroup) -> None:
        """Share a detector in each run, a beam in all frames of a wavelength, an image in its lattices."""
        self.listed: list[StillExperiment] = []
        self.beams: list[dict[str, Any]] = []
        self.imagesets: list[dict[str, Any]] = []
        self.geometries = [run.calibration.geometry for run in runs]
        self.detectors = [
            detector_model(
                run.calibration.geometry,
                saturation=run.calibration.saturation,
                underload=run.calibration.underload,
                gain=run.settings.spots.gain,
            )
            for run in runs
        ]
        self._runs, self._group = runs, group
        self._has_images = [not is_stream(run.paths[0]) for run in runs]
        self._beam_of: dict[tuple[int, float], int] = {}
        self._imageset_of: dict[tuple[str, int], int] = {}

    def add(self, lattice: dict[Any, Any], a_matrix: NDArray[np.float64]) -> None:
        """Add the experiment of one row of the merge's lattices, with A as merged."""
        number = int(lattice["data_set"])
        name = f"{self._runs[number].folder.name}-{number}"
        self.listed.append(
            StillExperiment(
                identifier=f"{name}-{int(lattice['frame'])}-{int(lattice['lattice'])}",
                crystal=crystal_model(a_matrix, self._group),
                beam=self._beam(number, float(lattice.get(WAVELENGTH, np.nan))),
                detector=number,
                imageset=self._imageset(lattice) if self._has_images[number] else None,
            )
        )

    def _beam(self, number: int, wavelength: float) -> int:
        geometry = self.geometries[number]
        if np.isfinite(wavelength):
            geometry = replace(geometry, wavelength=wavelength)
        key = number, geometry.wavelength
        if key not in self._beam_of:
            self._beam_of[key] = len(self.beams)
            self.beams.append(beam_model(geometry))
        return self._beam_of[key]

    def _imageset(self, lattice: dict[Any, Any]) -> int:
        file, index = str(lattice["file"]), int(lattice["file_index"])
        if (file, index) not in self._imageset_of:
            self._imageset_of[file, index] = len(self.imagesets)
            many = Path(file).suffix.lower() in MANY_FRAMES
            self.imagesets.append(imageset_model(file, index if many else None))
        return self._imageset_of[file, index]


def _columns(table: pd.DataFrame, lattices: pd.DataFrame, geometries: list[Geometry]) -> dict[str, Column]:
    """Columns of the reflection table."""
    numbers = {
        name: table[name].to_numpy(np.float64)
        for name in (
            "x_px", "y_px", "intensity", "sigma", "scaled_intensity", "scaled_sigma", "scale", "partiality",
            "background", "d",
        )
    }  # fmt: skip
    row = table["row"].to_numpy(np.int64)
    panel, on_panel, s1 = _places(numbers["x_px"], numbers["y_px"], lattices, row, geometries)
    scaled = np.where(table["rejected"].to_numpy(bool), OUTLIER_IN_SCALING, 0) | SCALED
    position = np.column_stack([on_panel, np.zeros(len(table))])
    scale = numbers["scale"]
    return {
        "id": Column(INT, row),
        "panel": Column(SIZE, panel),
        "miller_index": Column(MILLER, table[["h", "k", "l"]].to_numpy(np.int32)),
        "flags": Column(SIZE, PREDICTED | INTEGRATED_SUM | scaled),
        "entering": Column(BOOL, np.zeros(len(table), bool)),
        "partial_id": Column(SIZE, np.arange(len(table))),
        "intensity.sum.value": Column(DOUBLE, numbers["intensity"]),
        "intensity.sum.variance": Column(DOUBLE, numbers["sigma"] ** 2),
        "background.mean": Column(DOUBLE, numbers["background"]),
        "xyzcal.px": Column(VECTOR, position),
        "xyzobs.px.value": Column(VECTOR, position),
        "s1": Column(VECTOR, s1),
        "d": Column(DOUBLE, numbers["d"]),
        "partiality": Column(DOUBLE, numbers["partiality"]),
        # DIALS divides by the scale itself
        "inverse_scale_factor": Column(DOUBLE, scale),
        "inverse_scale_factor_variance": Column(DOUBLE, np.zeros(len(table))),
        "intensity.scale.value": Column(DOUBLE, numbers["scaled_intensity"] * scale),
        "intensity.scale.variance": Column(DOUBLE, (numbers["scaled_sigma"] * scale) ** 2),
    }


def _places(
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    lattices: pd.DataFrame,
    row: NDArray[np.int64],
    geometries: list[Geometry],
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Panel, position on it, and s1 = s0 + q in 1/Å of each observation."""
    data_set = lattices["data_set"].to_numpy(np.int64)[row]
    panel, on_panel = np.zeros(len(row), np.int32), np.empty((len(row), 2))
    s1 = np.empty((len(row), 3))
    for number, geometry in enumerate(geometries):
        mine = np.flatnonzero(data_set == number)
        places = DetectorPlaces(geometry)
        x, y = x_px[mine], y_px[mine]
        panel[mine] = places.panels_at(x, y)
        on_panel[mine] = places.on_panel(x, y, panel[mine])
        s1[mine] = incident_wave_vector(geometry) + places.scattering_vectors(x, y, panel[mine])
    return panel, on_panel, s1
