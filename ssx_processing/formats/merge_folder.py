"""The folder of one merge: what `MergeSummary` says, and the tables and MTZ beside it."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ssx_processing.formats.chunk_folder import SUMMARY, atomic_folder, read_summary, write_json
from ssx_processing.formats.mtz import MergedIntensities, write_merged_mtz
from ssx_processing.formats.setting_reference import (
    FILE_NAME,
    SettingReferenceTable,
    write_setting_reference,
)
from ssx_processing.models import FrameCounts, MergeSummary, ReferenceCheck, ShellStatistics, SubsetSummary

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


def read_merge(folder: Path) -> MergeSummary:
    """Summary of a merge that is there already.

    Raises
    ------
    ChunkError
        The folder has no summary that can be read.
    """
    content = read_summary(folder)
    return MergeSummary(
        key=content["key"],
        folder=folder,
        reused=True,
        counts=FrameCounts(**content["counts"]),
        lattices_merged=content["lattices_merged"],
        lattices_excluded=content["lattices_excluded"],
        chunks_expected=content["chunks_expected"],
        chunks_merged=content["chunks_merged"],
        missing=tuple(content["missing"]),
        unit_cell=tuple(content["unit_cell"]),
        space_group=content["space_group"],
        overall=_shell(content["overall"]),
        shells=tuple(_shell(shell) for shell in content["shells"]),
        wilson_b=_number(content["wilson_b"]),
        warnings=tuple(content["warnings"]),
        reference=_reference(content.get("reference")),
        scaling=content.get("scaling", ""),
        subsets=tuple(_subset(subset) for subset in content.get("subsets", ())),
    )


def read_merge_table(folder: Path, name: str) -> pd.DataFrame | None:
    """A table that not every merge has, `growth` or `differences`; None where it has not."""
    path = folder / f"{name}.csv"
    return pd.read_csv(path, dtype={"shell": str}) if path.is_file() else None


def _subset(content: Mapping[str, Any]) -> SubsetSummary:
    shells = tuple(_shell(shell) for shell in content["shells"])
    return SubsetSummary(content["label"], content["lattices_merged"], _shell(content["overall"]), shells)


def _shell(content: Mapping[str, Any]) -> ShellStatistics:
    return ShellStatistics(**{key: _number(value) for key, value in content.items()})


def _reference(content: Mapping[str, Any] | None) -> ReferenceCheck | None:
    if content is None:
        return None
    values = {key: _number(value) for key, value in content.items()}
    values["unit_cell"] = tuple(content["unit_cell"])
    values["cc_shells"] = tuple(_number(cc) for cc in content["cc_shells"])
    values["cc_settings"] = {name: _number(cc) for name, cc in content["cc_settings"].items()}
    return ReferenceCheck(**values)


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _without_nan(value: Any) -> Any:
    """The same with null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
