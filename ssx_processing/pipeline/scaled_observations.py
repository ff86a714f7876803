"""The observations of a merge on its scale, read again from the chunks.

A stand-in with the agreed signature, for merges that keep one scale and B a lattice.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from ssx_processing.formats.chunk_folder import read_summary, read_table
from ssx_processing.formats.run_folder import RunFolder

_A_COLUMNS = [f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]


@dataclass(frozen=True)
class ScaledObservations:
    """Merged lattices and their observations, sorted by lattice."""

    lattices: pd.DataFrame
    """Merged lattices only, index 0 to n - 1."""
    observations: pd.DataFrame
    """`row` (index into lattices), `h k l` in the setting of the merge, `intensity`, `sigma`,
    `scaled_intensity`, `scaled_sigma`, `partiality`, `scale`, `background`, `x_px`, `y_px`,
    `excitation_error`, `d`, `rejected`."""


def read_scaled_observations(run_folders: Sequence[Path], merged_folder: Path) -> ScaledObservations:
    """Observations of the merged lattices, as integrated and on the merged scale."""
    summary = read_summary(merged_folder)
    table = read_table(merged_folder, "lattices")
    merged = table[table["filter_reason"] == ""].reset_index(drop=True)
    known = [_lattices(folder, i) for i, folder in enumerate(run_folders)]
    lattices = merged.merge(pd.concat(known, ignore_index=True), on=["chunk", "frame", "lattice"])
    lattices["reindexing"], lattices["turn_x"], lattices["turn_y"], lattices["width"] = "h,k,l", 0.0, 0.0, 1.0
    where = {key: RunFolder(folder).chunks / key for folder in run_folders for key in _chunks(folder)}
    parts = [read_table(where[key], "observations").assign(chunk=key) for key in lattices["chunk"].unique()]
    rows = lattices[["chunk", "frame", "lattice", "scale", "b_factor"]].reset_index(names="row")
    found = pd.concat(parts, ignore_index=True).merge(rows, on=["chunk", "frame", "lattice"])
    found = found[(found["flags"] == 0) & (found["sigma"] > 0) & np.isfinite(found["intensity"])]
    cell = gemmi.UnitCell(*summary["unit_cell"])
    found["d"] = cell.calculate_d_array(found[["h", "k", "l"]].to_numpy(np.int32))
    found = found[found["d"] >= summary["overall"]["d_min"] * (1 - 1e-6)]
    found["scale"] = found["scale"] * np.exp(-2 * found["b_factor"] * 0.25 / found["d"] ** 2)
    found["partiality"], found["rejected"] = 1.0, False
    found["scaled_intensity"] = found["intensity"] / found["scale"]
    model = summary["details"]["error_model"]
    variance = model["noise_factor"] * found["sigma"] ** 2
    variance += (model["spread"] * np.maximum(found["intensity"], 0)) ** 2
    near = np.exp(-np.minimum(0.5 * (found["excitation_error"] / found["excitation_sigma"]) ** 2, 3.0))
    found["scaled_sigma"] = np.sqrt(variance / near) / found["scale"]  # as the merge weighs them
    return ScaledObservations(lattices, found.sort_values("row", kind="stable", ignore_index=True))


def _chunks(run_folder: Path) -> list[str]:
    plan = json.loads(RunFolder(run_folder).plan.read_text())
    return [key for key in plan["chunks"] if (RunFolder(run_folder).chunks / key).is_dir()]


def _lattices(run_folder: Path, data_set: int) -> pd.DataFrame:
    parts = []
    for key in _chunks(run_folder):
        folder = RunFolder(run_folder).chunks / key
        frames = read_table(folder, "frames", ["frame", "file", "file_index"])
        columns = ["frame", "lattice", *_A_COLUMNS, "n_indexed", "resolution_limit"]
        parts.append(read_table(folder, "lattices", columns).merge(frames, on="frame").assign(chunk=key))
    return pd.concat(parts, ignore_index=True).assign(data_set=data_set)
