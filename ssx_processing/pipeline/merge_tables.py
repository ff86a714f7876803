"""The tables of a merge."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.formats.merge_folder import MergeTables
from ssx_processing.pipeline.chunk_tables import A_COLUMNS, CELL_COLUMNS
from ssx_processing.pipeline.growth_curve import growth_table
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.merge_steps import Merged, wavelengths
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.pipeline.stored_observations import parts_of
from ssx_processing.settings import SampleSettings


def tables_of(
    data: MergeInput,
    merged: Merged,
    resolution: SettingResolution,
    sample: SampleSettings,
    wavelength: float,
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
    )


def reflection_table(merged: Merged, sums: NDArray[np.float64]) -> pd.DataFrame:
    """Merged intensities of all lattices or of some, from sums as of `merge_sums`."""
    total = merged.estimate_of(sums.sum(axis=(1, 2)))
    plus, minus = (merged.estimate_of(sums[:, sign].sum(axis=1)) for sign in (0, 1))
    half_1, half_2 = (merged.estimate_of(sums[:, :, half].sum(axis=1)) for half in (0, 1))
    seen = total.n > 0
    hkl = merged.unit.hkl[seen]
    return pd.DataFrame(
        {
            "h": hkl[:, 0],
            "k": hkl[:, 1],
            "l": hkl[:, 2],
            "d": merged.unit.d[seen],
            "intensity": total.intensity[seen],
            "sigma": total.sigma[seen],
            "n": total.n[seen],
            "half1": half_1.intensity[seen],
            "half2": half_2.intensity[seen],
            "sigma_internal": total.sigma_internal[seen],
            "sigma_external": total.sigma_external[seen],
            "intensity_plus": plus.intensity[seen],
            "sigma_plus": plus.sigma[seen],
            "n_plus": plus.n[seen],
            "intensity_minus": minus.intensity[seen],
            "sigma_minus": minus.sigma[seen],
            "n_minus": minus.n[seen],
            "centric": merged.unit.centric[seen],
        }
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
    scales, known = merged.scaling.scales, merged.scaling.scales.n_shared > 0
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
    table["reindexing"] = resolution.reindexing
    table["ambiguity_margin"] = resolution.margin
    table["ambiguity_z"] = resolution.margin_z
    table["filter_reason"] = merged.reasons.astype(str)
    return table
