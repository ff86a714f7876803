"""The observations of a merge on its scale, calculated again from the chunks and what the merge found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import read_summary, read_table
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.error_model import RepeatScatter
from ssx_processing.kernels.reindexing import reindexed
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.kernels.turn_slopes import write_turn_slopes
from ssx_processing.pipeline.chunk_columns import A_COLUMNS
from ssx_processing.pipeline.stored_observations import LEAST_VARIANCE, usable

REJECTED = "rejected"
"""Table of a merge: observations left out one by one."""
_KEY = ["chunk", "frame", "lattice"]


@dataclass(frozen=True)
class ScaledObservations:
    """Merged lattices and their observations, sorted by lattice."""

    lattices: pd.DataFrame
    """Merged lattices only, index 0 to n - 1; columns as in the merge's table."""
    observations: pd.DataFrame
    """`row` (index into lattices), `h k l` in the setting of the merge, `intensity`, `sigma` (photons, as
    integrated), `scaled_intensity`, `scaled_sigma` (on the merged scale, by the error model), `scale`,
    `partiality` (scaled_intensity = intensity / (scale partiality)), `background`, `x_px`, `y_px`,
    `excitation_error`, `d`, `rejected`."""


def read_scaled_observations(run_folders: Sequence[Path], merged_folder: Path) -> ScaledObservations:
    """Observations of the merged lattices, as integrated and on the merged scale.

    Raises
    ------
    ChunkError
        A table cannot be read, or the merge is of a version that did not keep what is needed.
    """
    summary = read_summary(merged_folder)
    details = summary["details"]
    if "observation_model" not in details:
        raise ChunkError(
            f"{merged_folder}: this merge did not keep its scaling model; run ssx merge again and export that"
        )
    table = read_table(merged_folder, "lattices")
    lattices = table[table["filter_reason"] == ""].reset_index(drop=True)
    if "reindexing" not in lattices:
        lattices["reindexing"] = "h,k,l"
    found = _observations(run_folders, lattices)
    found = _in_setting_of_merge(found, lattices)
    found["d"] = gemmi.UnitCell(*summary["unit_cell"]).calculate_d_array(
        np.ascontiguousarray(found[["h", "k", "l"]].to_numpy(np.int32))
    )
    own_limit = 1 / lattices["resolution_limit"].to_numpy() + details["merging"]["max_push_res"]
    inside = ~(1 / found["d"] > own_limit[found["row"]])
    found = found[inside & (found["d"] >= summary["overall"]["d_min"] * (1 - 1e-6))].reset_index(drop=True)
    merged = _merged_intensity(found, summary, merged_folder)
    known = merged > -np.inf  # what space group or cell does not allow is in no result
    found, merged = found[known].reset_index(drop=True), merged[known]
    _scale(found, lattices, merged, details)
    found["rejected"] = _rejected(found, lattices, merged_folder)
    return ScaledObservations(lattices, found.drop(columns=["noise_variance", "excitation_sigma", "flags"]))


def _observations(run_folders: Sequence[Path], lattices: pd.DataFrame) -> pd.DataFrame:
    """Good observations of the lattices with their rows, in the lattices' order."""
    chunks = [RunFolder(folder).chunks / key for folder in run_folders for key in lattices["chunk"].unique()]
    tables = [read_table(c, "observations").assign(chunk=c.name) for c in chunks if c.is_dir()]
    if not tables:
        raise ChunkError(f"none of the merged chunks is in {', '.join(map(str, run_folders))}")
    rows = lattices[_KEY].reset_index(names="row")
    found = pd.concat(tables, ignore_index=True).merge(rows, on=_KEY).drop(columns=_KEY)
    missing = set(range(len(lattices))) - set(found["row"])
    if missing:
        one = lattices.iloc[min(missing)]
        raise ChunkError(
            f"chunk {one['chunk']} with frame {one['frame']} of the merge is not in "
            f"{', '.join(map(str, run_folders))}; process its frames again"
        )
    return found[usable(found)].sort_values("row", kind="stable", ignore_index=True)


def _in_setting_of_merge(found: pd.DataFrame, lattices: pd.DataFrame) -> pd.DataFrame:
    """Excitation errors after post-refinement, then the indices of the merge."""
    error, sigma = (found[name].to_numpy(np.float64) for name in ("excitation_error", "excitation_sigma"))
    row = found["row"].to_numpy()
    hkl = np.array(found[["h", "k", "l"]], np.int16)
    if set(A_COLUMNS) <= set(lattices.columns):
        slopes = np.empty((len(found), 2), np.float32)
        offsets = np.searchsorted(row, np.arange(len(lattices) + 1))
        matrices = lattices[list(A_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)
        write_turn_slopes(offsets, hkl, matrices, lattices["wavelength"].to_numpy(np.float64), slopes)
        error = error + (slopes * lattices[["turn_x", "turn_y"]].to_numpy()[row]).sum(axis=1)
    known = np.isfinite(error) & (sigma > 0)
    found["excitation_error"] = np.where(known, error, 0.0)
    found["excitation_sigma"] = np.where(known, sigma, np.median(sigma[known]) if known.any() else 1.0)
    triplets = lattices["reindexing"].to_numpy()[row]
    for triplet in np.unique(triplets.astype(str)):
        which = triplets == triplet
        hkl[which] = reindexed(hkl[which], triplet)
    found[["h", "k", "l"]] = hkl
    return found


def _merged_intensity(
    found: pd.DataFrame, summary: Mapping[str, Any], merged_folder: Path
) -> NDArray[np.float64]:
    """Of each observation's reflection; nan where it is not determined, -inf where it cannot be."""
    reflections = read_table(merged_folder, "reflections", ["h", "k", "l", "intensity"])
    d_min = summary["overall"]["d_min"] * (1 - 1e-6)
    unit = asymmetric_unit(tuple(summary["unit_cell"]), summary["space_group"], d_min)
    table = np.append(np.full(len(unit), np.nan), -np.inf)
    table[unit.find(*np.ascontiguousarray(reflections[["h", "k", "l"]].to_numpy(np.int32).T))[0]] = (
        reflections["intensity"]
    )
    return table[unit.find(*np.ascontiguousarray(found[["h", "k", "l"]].to_numpy(np.int32).T))[0]]


def _scale(
    found: pd.DataFrame, lattices: pd.DataFrame, merged: NDArray[np.float64], details: Mapping[str, Any]
) -> None:
    """Add partiality, scale, scaled intensity and sigma; see `kernels.still_sweep`."""
    model, row = details["observation_model"], found["row"].to_numpy()
    own = {name: lattices[name].to_numpy(np.float64)[row] for name in ("scale", "b_factor", "width")}
    sigma = found["excitation_sigma"].to_numpy()
    u = np.abs(found["excitation_error"].to_numpy()) / (sigma * own["width"])
    partiality = np.interp(u, model["knots"], model["partiality"])
    scale = own["scale"] * np.exp(-0.5 * own["b_factor"] / found["d"] ** 2) * model["sigma_reference"] / sigma
    k = scale * partiality
    expected = np.where(np.isfinite(merged), np.maximum(merged, 0.0), 0.0)
    noise = np.maximum(found["noise_variance"], LEAST_VARIANCE)
    spread = np.interp(u, model["knots"], np.square(model["spread"]))
    variance = model["noise_factor"] * (noise / k**2 + expected / k) + spread / partiality**2 * expected**2
    scatter = RepeatScatter(**{name: np.array(values) for name, values in details["repeats"].items()})
    variance *= scatter.variance_factor(merged)
    found["partiality"], found["scale"] = partiality, scale
    found["scaled_intensity"], found["scaled_sigma"] = found["intensity"] / k, np.sqrt(variance)


def _rejected(found: pd.DataFrame, lattices: pd.DataFrame, merged_folder: Path) -> NDArray[np.bool_]:
    """Which observations the merge left out one by one."""
    rejected = read_table(merged_folder, REJECTED)
    rows = pd.MultiIndex.from_frame(lattices[["data_set", "frame", "lattice"]]).get_indexer(
        pd.MultiIndex.from_frame(rejected[["data_set", "frame", "lattice"]])
    )
    out = pd.MultiIndex.from_arrays([rows, rejected["h"], rejected["k"], rejected["l"]])
    return pd.MultiIndex.from_frame(found[["row", "h", "k", "l"]]).isin(out)
