"""The folder of one merge: what `MergeSummary` says, and the tables and MTZ beside it."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ssx_processing.formats.chunk_folder import SUMMARY, atomic_folder, write_json
from ssx_processing.formats.mtz import MergedIntensities, write_merged_mtz
from ssx_processing.formats.setting_reference import (
    FILE_NAME,
    SettingReferenceTable,
    write_setting_reference,
)
from ssx_processing.models import MergeSummary

OF_THIS_RUN = ("folder", "reused", "chunks_read")
"""Of a summary, not kept: they say nothing of the result."""


@dataclass(frozen=True)
class SubsetTables:
    """Of a subset that was merged apart."""

    label: str
    intensities: MergedIntensities
    """For subsets/<label>.mtz."""
    reflections: pd.DataFrame
    """subsets/<label>.parquet."""


@dataclass(frozen=True)
class MergeTables:
    """What lies beside the summary."""

    intensities: MergedIntensities
    """For merged.mtz."""
    reflections: pd.DataFrame
    """reflections.parquet."""
    lattices: pd.DataFrame
    """lattices.parquet."""
    rejected: pd.DataFrame
    """rejected.parquet: observations left out one by one."""
    growth: pd.DataFrame | None = None
    """growth.csv."""
    subsets: tuple[SubsetTables, ...] = ()
    differences: pd.DataFrame | None = None
    """differences.csv, where there are subsets."""
    setting_reference: SettingReferenceTable | None = None
    """indexing_reference.parquet, where the indexing ambiguity was resolved."""


def write_merge(
    summary: MergeSummary,
    tables: MergeTables,
    *,
    wavelength: float,
    details: Mapping[str, Any],
    history: tuple[str, ...],
) -> None:
    """Write a merge to ``summary.folder``, whole or not at all.

    Parameters
    ----------
    wavelength
        Å.
    details
        More about the scaling, JSON-able, kept in summary.json under ``details``.
    history
        Lines for the MTZ header.
    """
    shells = [asdict(shell) for shell in summary.shells]
    about = {
        "unit_cell": summary.unit_cell,
        "space_group": summary.space_group,
        "wavelength": wavelength,
    }
    with atomic_folder(summary.folder) as folder:
        write_merged_mtz(folder / "merged.mtz", tables.intensities, history=history, **about)
        for subset in tables.subsets:
            stem = folder / "subsets" / subset_file_name(subset.label)
            stem.parent.mkdir(exist_ok=True)
            of_subset = (f"subset {subset.label}", *history)
            write_merged_mtz(
                stem.with_name(f"{stem.name}.mtz"), subset.intensities, history=of_subset, **about
            )
            subset.reflections.to_parquet(
                stem.with_name(f"{stem.name}.parquet"), index=False, compression="zstd"
            )
        tables.reflections.to_parquet(folder / "reflections.parquet", index=False, compression="zstd")
        tables.lattices.to_parquet(folder / "lattices.parquet", index=False, compression="zstd")
        tables.rejected.to_parquet(folder / "rejected.parquet", index=False, compression="zstd")
        for name, table in (("growth", tables.growth), ("differences", tables.differences)):
            if table is not None:
                table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        if tables.setting_reference is not None:
            write_setting_reference(folder / FILE_NAME, tables.setting_reference)
        pd.DataFrame(shells).to_csv(folder / "shells.csv", index=False, float_format="%.6g")
        write_json(
            folder / "shells.json",
            {"overall": _without_nan(asdict(summary.overall)), "shells": _without_nan(shells)},
        )
        content = {key: value for key, value in asdict(summary).items() if key not in OF_THIS_RUN}
        write_json(folder / SUMMARY, {**_without_nan(content), "details": _without_nan(dict(details))})


def subset_file_name(label: str) -> str:
    """Of the files of a subset.

    Examples
    --------
    >>> subset_file_name("delay 1.5/ms")
    'delay_1.5_ms'
    """
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", label).strip("_.") or "subset"


def _without_nan(value: Any) -> Any:
    """The same with null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
