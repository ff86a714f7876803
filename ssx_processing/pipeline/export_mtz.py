"""The MTZ files of an export."""

from importlib.metadata import version
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.formats.mtz import write_merged_mtz
from ssx_processing.formats.unmerged_mtz_writer import BatchLattice, UnmergedIntensities, write_unmerged_mtz
from ssx_processing.pipeline.export_source import ExportSource
from ssx_processing.pipeline.merged_intensities import merged_intensities

_A_COLUMNS = [f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]


def export_merged_mtz(source: ExportSource, path: Path, free_flags_file: Path | None = None) -> Path:
    """Write the merged intensities with counts and free flags.

    Raises
    ------
    SettingsError
        The free flags cannot be had from the file.
    ChunkError
        The table of merged reflections cannot be read.
    """
    reflections = read_table(source.merged_folder, "reflections")
    write_merged_mtz(
        path,
        merged_intensities(
            reflections, source.sample, unit_cell=source.summary.unit_cell, free_flags_file=free_flags_file
        ),
        unit_cell=source.summary.unit_cell,
        space_group=source.summary.space_group,
        wavelength=source.wavelength,
        history=history(source),
    )
    return path


def export_unmerged_mtz(source: ExportSource, path: Path) -> Path:
    """Write every observation that was merged, one batch per lattice.

    Raises
    ------
    ChunkError
        A table cannot be read.
    SettingsError
        There are more lattices than a file can hold.
    """
    scaled = source.scaled()
    lattices = scaled.lattices
    found = scaled.observations
    found = found[~found["rejected"].to_numpy(bool)]
    matrices = matrices_of_merge(lattices)
    titles = [
        f"{Path(str(file)).name} frame {index} lattice {lattice}"
        for file, index, lattice in zip(
            lattices["file"], lattices["file_index"], lattices["lattice"], strict=True
        )
    ]
    write_unmerged_mtz(
        path,
        _unmerged(found),
        [BatchLattice(matrix, title) for matrix, title in zip(matrices, titles, strict=True)],
        unit_cell=source.summary.unit_cell,
        space_group=source.summary.space_group,
        wavelength=source.wavelength,
        image_shape=source.calibrations()[0].geometry.image_shape,
        history=history(source),
    )
    return path


def _unmerged(found: pd.DataFrame) -> UnmergedIntensities:
    scale = found["scale"].to_numpy(np.float64) * found["partiality"].to_numpy(np.float64)
    return UnmergedIntensities(
        hkl=found[["h", "k", "l"]].to_numpy(np.int32),
        lattice=found["row"].to_numpy(),
        intensity=found["scaled_intensity"].to_numpy(np.float64),
        sigma=found["scaled_sigma"].to_numpy(np.float64),
        raw_intensity=found["intensity"].to_numpy(np.float64),
        raw_sigma=found["sigma"].to_numpy(np.float64),
        scale=1 / scale,
        partiality=found["partiality"].to_numpy(np.float64),
        x_px=found["x_px"].to_numpy(np.float64),
        y_px=found["y_px"].to_numpy(np.float64),
        excitation_error=found["excitation_error"].to_numpy(np.float64),
    )


def matrices_of_merge(lattices: pd.DataFrame) -> NDArray[np.float64]:
    """(n, 3, 3) A of the lattices as they were merged: reindexed, and turned by post-refinement.

    With hkl' = M hkl of the reindexing, A' = A M⁻¹; the turn acts on the laboratory's side.

    Raises
    ------
    ChunkError
        The table is from before A was kept.
    """
    missing = [name for name in _A_COLUMNS if name not in lattices]
    if missing:
        raise ChunkError(f"the table of merged lattices has no {missing[0]}; run ssx merge again")
    matrices = lattices[_A_COLUMNS].to_numpy(np.float64).reshape(-1, 3, 3).copy()
    for triplet in lattices["reindexing"].unique():
        rows = (lattices["reindexing"] == triplet).to_numpy()
        # gemmi's hkl operators act on rows: hkl' = hkl rot, so M is rot transposed
        operator = np.array(gemmi.Op(triplet).rot, np.float64).T / gemmi.Op.DEN
        matrices[rows] = matrices[rows] @ np.linalg.inv(operator)
    return turns(lattices["turn_x"].to_numpy(), lattices["turn_y"].to_numpy()) @ matrices


def turns(turn_x: NDArray[np.float64], turn_y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) rotations by the vectors (turn_x, turn_y, 0), radians (Rodrigues)."""
    angle = np.hypot(turn_x, turn_y)
    x, y = turn_x, turn_y
    none = np.zeros_like(angle)
    cross = np.array([[none, none, y], [none, none, -x], [-y, x, none]]).transpose(2, 0, 1)
    first = np.sinc(angle / np.pi)[:, None, None]
    second = 0.5 * (np.sinc(angle / (2 * np.pi)) ** 2)[:, None, None]
    return np.eye(3) + first * cross + second * cross @ cross


def history(source: ExportSource) -> tuple[str, ...]:
    """Lines for the header of a file."""
    return (
        f"ssx-orchestrator {version('ssx-orchestrator')} merge {source.summary.key}",
        f"{source.summary.lattices_merged} lattices, {source.summary.chunks_merged} of "
        f"{source.summary.chunks_expected} chunks",
    )
