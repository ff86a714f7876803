"""What a merge left in its folder, read again; quick to import, for commands that only show it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssx_processing.formats.chunk_folder import read_summary
from ssx_processing.models import FrameCounts, MergeSummary, ReferenceCheck, ShellStatistics, SubsetSummary

if TYPE_CHECKING:
    import pandas as pd


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


def read_merge_table(folder: Path, name: str) -> "pd.DataFrame | None":
    """A table that not every merge has, `growth` or `differences`; None where it has not."""
    import pandas as pd

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
