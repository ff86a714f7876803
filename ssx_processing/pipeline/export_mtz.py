"""The MTZ files of an export."""

from pathlib import Path

import numpy as np
import pandas as pd

from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.formats.mtz import write_merged_mtz
from ssx_processing.formats.unmerged_mtz_writer import BatchLattice, UnmergedIntensities, write_unmerged_mtz
from ssx_processing.pipeline.export_source import ExportSource
from ssx_processing.pipeline.merge_summary import history
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.merged_orientations import matrices_of_merge


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
        history=history(source.summary),
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
        history=history(source.summary),
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
