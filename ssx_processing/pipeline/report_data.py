"""What the page shows, read from the folders of one run; nothing else is known to the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pandas as pd

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import SUMMARY, read_known, read_summary, read_table
from ssx_processing.formats.merge_record import read_merge, read_merge_table
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.detector_refinement import DetectorNormal
from ssx_processing.models import FrameCounts, FrameRange, MergeSummary
from ssx_processing.pipeline.calibration import Calibration, read_calibration
from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.drift import read_drift
from ssx_processing.pipeline.report_indexing_data import IndexingData, read_indexing
from ssx_processing.settings import ProcessingSettings

FRAME_COLUMNS = ["frame", "status", "n_spots", "median_background"]
LATTICE_COLUMNS = ["frame", "lattice", *CELL_COLUMNS, "n_indexed", "n_spots", "rmsd_px", "resolution_limit"]
SCALE_COLUMNS = ["scale", "b_factor", "cc", "filter_reason"]
LATER_COLUMNS = {
    "frames": ["misfit"],
    "lattices": ["log10_e", "runner_up_gap", "split_deg"],
    "merged": ["turn_x", "turn_y", "width", "cell_cluster", "reindexing", "ambiguity_margin"],
}
"""Columns that tables of older results lack."""


@dataclass(frozen=True)
class ChunkRecord:
    """One chunk of the plan, with what its summary says if it was processed."""

    number: int
    """From 1."""
    frames: FrameRange
    folder: Path
    counts: FrameCounts | None = None
    """None if the chunk is missing."""
    cpu_seconds: float = 0.0
    drift: DetectorNormal | None = None
    """Where its lattices put the detector; None in chunks that do not say."""
    version: str = ""
    spots_reused: bool = False
    """Its spots were those of an earlier chunk."""

    @property
    def is_missing(self) -> bool:
        """Its folder holds no result."""
        return self.counts is None

    @property
    def images(self) -> str:
        """Its frames as image numbers, which people count from 1."""
        return f"{self.frames.start + 1}-{self.frames.stop}"


@dataclass(frozen=True)
class MergeResult:
    """The merge and the tables of its folder that are drawn."""

    summary: MergeSummary
    details: Mapping[str, Any]
    """Of the scaling, as in the merge's summary.json."""
    lattices: pd.DataFrame
    """Every lattice that was read: scale, b_factor, cc, filter_reason."""
    reflections: pd.DataFrame
    """d in Å and intensity of the unique reflections."""
    growth: pd.DataFrame | None = None
    """Growth curve; None in results from before there was one."""
    differences: pd.DataFrame | None = None
    """Between subsets; None where there are none."""


@dataclass(frozen=True)
class ReportData:
    """One run."""

    run_folder: Path
    name: str
    data_collection_id: int | None
    paths: tuple[Path, ...]
    frames_total: int
    """Planned, processed or not."""
    wavelength: float
    """Å."""
    settings: ProcessingSettings
    chunks: tuple[ChunkRecord, ...]
    calibration: Calibration | None
    frames: pd.DataFrame
    lattices: pd.DataFrame
    """Of all chunks there are; ``merged`` says which are in the merged intensities."""
    merge: MergeResult | None
    indexing: IndexingData
    missing: tuple[str, ...] = ()
    """One sentence for each chunk that is not in the result."""
    merge_problem: str = ""
    """Why there is no merge."""
    reused: frozenset[str] | None = None
    """Keys of chunks that were there already; None where that is not known."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """More to be shown at the top, e.g. proposal and sample."""

    @property
    def counts(self) -> FrameCounts:
        """Sum over the chunks there are."""
        return reduce(add, (chunk.counts for chunk in self.chunks if chunk.counts), FrameCounts())

    @property
    def missing_chunks(self) -> tuple[ChunkRecord, ...]:
        """Chunks of the plan without a result."""
        return tuple(chunk for chunk in self.chunks if chunk.is_missing)


def read_report_data(
    run_folder: Path,
    merge_folder: Path | None,
    *,
    missing: Sequence[str] = (),
    merge_problem: str = "",
    reused: frozenset[str] | None = None,
    facts: Mapping[str, str] | None = None,
) -> ReportData:
    """All that the page of a run needs.

    Raises
    ------
    ChunkError
        There is no plan, or a result folder is damaged.
    """
    folder = RunFolder(run_folder)
    content = _read_plan(folder.plan)
    plan = content["plan"]
    chunks = tuple(
        _chunk(number, FrameRange(**frames), folder.chunks / key)
        for number, (frames, key) in enumerate(zip(plan["ranges"], content["chunks"], strict=True), start=1)
    )
    done = [chunk.folder for chunk in chunks if not chunk.is_missing]
    merge = _read_merge_result(merge_folder) if merge_folder is not None else None
    calibration_folder = folder.calibrations / content["calibration"]
    known = (calibration_folder / SUMMARY).is_file()
    calibration = read_calibration(calibration_folder) if known else None
    frames = _tables(done, "frames", FRAME_COLUMNS)
    lattices = _tables(done, "lattices", LATTICE_COLUMNS)
    return ReportData(
        run_folder=run_folder,
        name=content["name"],
        data_collection_id=content.get("data_collection_id"),
        paths=tuple(Path(path) for path in plan["paths"]),
        frames_total=plan["frames_total"],
        wavelength=plan["wavelength"],
        settings=_settings(content["settings"], merge),
        chunks=chunks,
        calibration=calibration,
        frames=frames,
        lattices=_with_merge(lattices, merge),
        merge=merge,
        indexing=read_indexing(done, frames, lattices, calibration.geometry if calibration else None),
        missing=tuple(missing) or _missing(chunks, merge),
        merge_problem=merge_problem,
        reused=reused,
        facts=facts or {},
    )


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(f"{path}: not readable ({error}); process the images first") from error


def _chunk(number: int, frames: FrameRange, folder: Path) -> ChunkRecord:
    if not (folder / SUMMARY).is_file():
        return ChunkRecord(number, frames, folder)
    summary = read_summary(folder)
    counts = FrameCounts(**summary["counts"])
    return ChunkRecord(
        number=number,
        frames=frames,
        folder=folder,
        counts=counts,
        cpu_seconds=summary["cpu_seconds"],
        drift=read_drift(summary.get("drift")),
        version=summary["version"],
        spots_reused=summary.get("spots_from") is not None,
    )


def _settings(planned: Mapping[str, Any], merge: MergeResult | None) -> ProcessingSettings:
    """Settings of the plan; those of merging from the merge itself, which may have been repeated."""
    merging = merge.details.get("merging") if merge is not None else None
    return ProcessingSettings.model_validate({**planned, **({"merging": merging} if merging else {})})


def _tables(folders: Sequence[Path], name: str, columns: list[str]) -> pd.DataFrame:
    """Tables of all chunks below each other, with the chunk's key."""
    tables = [
        read_known(folder, name, columns, LATER_COLUMNS[name]).assign(chunk=folder.name) for folder in folders
    ]
    filled = [table for table in tables if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return pd.DataFrame({column: [] for column in [*columns, "chunk"]})


def _read_merge_result(folder: Path) -> MergeResult:
    return MergeResult(
        read_merge(folder),
        read_summary(folder).get("details", {}),
        read_known(
            folder, "lattices", ["chunk", "frame", "lattice", *SCALE_COLUMNS], LATER_COLUMNS["merged"]
        ),
        read_table(folder, "reflections", ["d", "intensity"]),
        read_merge_table(folder, "growth"),
        read_merge_table(folder, "differences"),
    )


def _with_merge(lattices: pd.DataFrame, merge: MergeResult | None) -> pd.DataFrame:
    """The lattices with their scales and the column ``merged``."""
    if merge is None or lattices.empty:
        return lattices.assign(merged=False, **dict.fromkeys(SCALE_COLUMNS))
    joined = lattices.merge(merge.lattices, how="left", on=["chunk", "frame", "lattice"])
    return joined.assign(merged=joined["filter_reason"] == "")


def _missing(chunks: Sequence[ChunkRecord], merge: MergeResult | None) -> tuple[str, ...]:
    """The sentences of the merge, which say why; without any, which chunks have no folder."""
    if merge is not None and merge.summary.missing:
        return merge.summary.missing
    return tuple(
        f"chunk {chunk.number} (images {chunk.images}): no result" for chunk in chunks if chunk.is_missing
    )
