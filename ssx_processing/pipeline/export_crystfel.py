"""A result for CrystFEL: its frames as streams, its merged intensities as reflection lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing import __version__
from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.formats.crystfel_hkl import HklList, write_hkl
from ssx_processing.formats.crystfel_symmetry import point_group_name
from ssx_processing.kernels.symmetry import asymmetric_unit, known_space_group
from ssx_processing.pipeline.export_source import ExportSource
from ssx_processing.pipeline.export_stream import write_run_as_stream


def export_crystfel(source: ExportSource, out: Path) -> list[Path]:
    """Write streams (with their geometry) and merged lists; returns the files.

    For each run ``<name>.stream`` with all frames, hits or not: reflections as integrated, in the indexing
    in which they were found, whether they were merged or not. ``<name>.hkl`` with the merged intensities,
    ``.hkl1`` and ``.hkl2`` with those of the half sets; where Friedel mates are kept apart as well,
    ``<name>_anomalous.hkl``.

    Raises
    ------
    ChunkError
        A result folder is incomplete.
    GeometryError
        CrystFEL's geometry files cannot say the geometry.
    """
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    runs = source.runs()
    for run in runs:
        stem = source.name if len(runs) == 1 else f"{source.name}_{run.folder.name}"
        written += write_run_as_stream(run, out / f"{stem}.stream")
    return written + write_merged_lists(source, out)


def write_merged_lists(source: ExportSource, out: Path) -> list[Path]:
    """Write the reflection lists of a merge."""
    table = read_table(source.merged_folder, "reflections")
    group = known_space_group(source.summary.space_group)
    laue, notes = point_group_name(group, friedel=True), _notes(source)
    hkl = _hkl(table)
    merged = HklList(
        laue, hkl, _column(table, "intensity"), _column(table, "sigma"), _counts(table, "n"), notes
    )
    written = [write_hkl(out / f"{source.name}.hkl", merged)]
    for half, (n, sigma) in enumerate(_half_sets(source, table), start=1):
        part = HklList(
            laue, hkl, _column(table, f"half{half}"), sigma, n, (*notes, f"half set {half}, by lattice")
        )
        written.append(write_hkl(out / f"{source.name}.hkl{half}", part))
    if {"intensity_plus", "intensity_minus"} <= set(table.columns) and not group.is_centrosymmetric():
        name = point_group_name(group, friedel=False)
        written.append(write_hkl(out / f"{source.name}_anomalous.hkl", _anomalous(name, table, notes)))
    return written


def _notes(source: ExportSource) -> tuple[str, ...]:
    cell = " ".join(f"{value:g}" for value in source.summary.unit_cell)
    return (
        f"Written by ssx-orchestrator {__version__} from merge {source.summary.key}",
        f"space group {source.summary.space_group}, cell {cell} (A, degrees)",
    )


def _anomalous(symmetry: str, table: pd.DataFrame, notes: tuple[str, ...]) -> HklList:
    """Friedel mates as reflections of their own; centric ones once."""
    hkl = _hkl(table)
    mates = _counts(table, "n_minus") > 0
    if "centric" in table:
        mates &= ~table["centric"].to_numpy(bool)

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([table[f"{name}_plus"].to_numpy(), table[f"{name}_minus"].to_numpy()[mates]])

    return HklList(
        symmetry, np.concatenate([hkl, -hkl[mates]]), both("intensity"), both("sigma"), both("n"), notes
    )


def _half_sets(
    source: ExportSource, table: pd.DataFrame
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Observations and standard errors, by counting, of the reflections in both half sets."""
    scaled = source.scaled()
    used = scaled.observations[~scaled.observations["rejected"].to_numpy(bool)]
    unit = asymmetric_unit(
        source.summary.unit_cell, source.summary.space_group, float(table["d"].min()) * (1 - 1e-6)
    )
    of_used, _ = unit.find(*_hkl(used).T)
    of_table, _ = unit.find(*_hkl(table).T)
    half = scaled.lattices["half"].to_numpy()[used["row"].to_numpy()]
    weight = 1.0 / np.square(used["scaled_sigma"].to_numpy(np.float64))
    found = []
    for number in (1, 2):
        mine = (half == number) & (of_used >= 0) & np.isfinite(weight)
        n = np.bincount(of_used[mine], minlength=len(unit))[of_table]
        total = np.bincount(of_used[mine], weights=weight[mine], minlength=len(unit))[of_table]
        found.append((n, np.sqrt(np.divide(1.0, total, out=np.full(len(total), np.nan), where=total > 0))))
    return found


def _hkl(table: pd.DataFrame) -> NDArray[np.int32]:
    return table[["h", "k", "l"]].to_numpy(np.int32)


def _column(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return table[name].to_numpy(np.float64)


def _counts(table: pd.DataFrame, name: str) -> NDArray[np.int64]:
    return table[name].to_numpy(np.int64)
