"""The tables of a merge."""

import numpy as np
import pandas as pd

from ssx_processing.formats.merge_folder import MergeTables
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS
from ssx_processing.pipeline.growth_curve import growth_table
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.merge_steps import Merged, wavelengths
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.reflection_table import reflection_table
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.pipeline.stored_observations import parts_of
from ssx_processing.pipeline.subset_merges import MergedSubsets
from ssx_processing.settings import SampleSettings


def tables_of(
    data: MergeInput,
    merged: Merged,
    resolution: SettingResolution,
    sample: SampleSettings,
    wavelength: float,
    subsets: MergedSubsets,
) -> MergeTables:
    """Everything that is written beside the summary."""
    reflections = reflection_table(merged, merged.sums)
    return MergeTables(
        merged_intensities(reflections, sample, unit_cell=merged.unit.unit_cell),
        reflections,
        _lattices(data, merged, resolution, wavelength),
        rejected=_rejected(data, merged),
        growth=growth_table(merged.growth),
        setting_reference=resolution.reference,
        subsets=subsets.tables,
        differences=subsets.differences,
    )


def _rejected(data: MergeInput, merged: Merged) -> pd.DataFrame:
    """Observations left out one by one, indices in the setting of the merge."""
    outlier, uid = merged.scaling.outlier, merged.observations.uid
    parts = parts_of(data.observations.offsets)
    found = [part.start + np.flatnonzero(outlier[part] & (uid[part] >= 0)) for part in parts]
    which = np.concatenate([np.empty(0, np.int64), *found])
    rows = np.searchsorted(data.observations.offsets, which, side="right") - 1
    accepted = (merged.reasons == "")[rows]
    which, rows = which[accepted], rows[accepted]
    table = data.lattices.iloc[rows][["data_set", "frame", "lattice"]].reset_index(drop=True)
    table[["h", "k", "l"]] = data.hkl[which]
    return table.assign(reason="outlier")


def _lattices(
    data: MergeInput, merged: Merged, resolution: SettingResolution, wavelength: float
) -> pd.DataFrame:
    """Every lattice that was read, with its scale and why it is not in the result, if so."""
    scales = merged.scaling.scales
    known = scales.accepted | (scales.n_shared > 0)
    columns = [c for c in (*A_COLUMNS, "n_indexed") if c in data.lattices]
    names = ["data_set", "frame", "lattice", "chunk", "file", "file_index", *CELL_COLUMNS, "resolution_limit"]
    table = data.lattices[[*names, *columns]].copy()
    table["wavelength"] = wavelengths(data.lattices, wavelength)
    found = {
        "scale": np.exp(scales.log_g),
        "b_factor": scales.b_factor,
        "turn_x": scales.turns[:, 0],
        "turn_y": scales.turns[:, 1],
        "width": np.exp(scales.log_width),
        "cc": scales.cc,
    }
    for name, values in found.items():
        table[name] = np.where(known, values, np.nan)
    table["n_merged"] = merged.n_merged
    table["delta_cc_half"] = np.where(merged.reasons == "", merged.delta_cc_half, np.nan)
    table["cell_cluster"] = merged.selection.clusters
    table["half"] = merged.half + 1
    if "subset" in data.lattices:
        table["subset"] = data.lattices["subset"]
    table["reindexing"] = resolution.reindexing
    table["ambiguity_margin"] = resolution.margin
    table["ambiguity_z"] = resolution.margin_z
    table["filter_reason"] = merged.reasons.astype(str)
    return table
