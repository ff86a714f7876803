"""What a merge reads from chunk folders, in an order that does not depend on how they were cut."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.formats.chunk_folder import read_summary, read_table
from ssx_processing.kernels.integration_table import REJECTED_FLAGS
from ssx_processing.models import FrameCounts, FrameStatus
from ssx_processing.pipeline.chunk_tables import CELL_COLUMNS

_LATTICE_COLUMNS = ["frame", "lattice", *CELL_COLUMNS, "resolution_limit"]
_OBSERVATION_COLUMNS = [
    "frame",
    "lattice",
    "h",
    "k",
    "l",
    "intensity",
    "sigma",
    "excitation_error",
    "excitation_sigma",
    "noise_variance",
]


@dataclass(frozen=True)
class MergeInput:
    """Lattices sorted by data set, frame and number, and their good observations in the same order."""

    counts: FrameCounts
    """Sum over the chunks."""
    lattices: pd.DataFrame
    """Columns of the chunks' tables that merging uses, `chunk`, `data_set` (its place among the data
    sets merged: frames count from 0 in each) and `file_hash` (of the file name)."""
    observations: pd.DataFrame
    """Good observations; `row` says to which row of `lattices` they belong."""


def read_merge_input(
    chunk_folders: Sequence[Path], progress: Callable[[str], None] | None = None
) -> MergeInput:
    """Lattices and good observations of all chunks.

    Raises
    ------
    ChunkError
        A table is missing or damaged.
    MergeError
        No chunks, no lattices, or frames of one data set that are in two chunks.
    """
    if not chunk_folders:
        raise MergeError("no chunk to merge; process at least one chunk first")
    frames, lattices, observations = [], [], []
    places: dict[str, int] = {}
    for i, folder in enumerate(chunk_folders, start=1):
        if progress is not None:
            progress(f"reading chunk {i} of {len(chunk_folders)}")
        place = places.setdefault(read_summary(folder)["input"], len(places))
        frames.append(
            read_table(folder, "frames", ["frame", "status", "n_lattices", "file"]).assign(data_set=place)
        )
        lattices.append(
            read_table(folder, "lattices", _LATTICE_COLUMNS).assign(data_set=place, chunk=folder.name)
        )
        good = read_table(folder, "observations", [*_OBSERVATION_COLUMNS, "flags"])
        observations.append(_usable(good).assign(data_set=place))
    all_frames = _joined(frames)
    twice = all_frames.duplicated(["data_set", "frame"])
    if twice.any():
        first = int(all_frames.loc[twice, "frame"].iloc[0])
        raise MergeError(f"frame {first} is in two of the chunks; merge only chunks that share no frame")
    all_lattices = _joined(lattices)
    if all_lattices.empty:
        raise MergeError(
            f"no lattice in {len(chunk_folders)} chunks with {len(all_frames)} frames"
            f"{_unreadable(all_frames)}; look at hit and indexing rates before merging"
        )
    all_lattices = all_lattices.sort_values(["data_set", "frame", "lattice"], ignore_index=True)
    all_lattices["file_hash"] = _file_hash(all_frames, all_lattices)
    return MergeInput(
        _counts(all_frames), all_lattices, _in_lattice_order(_joined(observations), all_lattices)
    )


def _unreadable(frames: pd.DataFrame) -> str:
    """How many frames could not be read, and a file that holds one; nothing if all could."""
    lost = frames[frames["status"] == FrameStatus.UNREADABLE]
    return f", {len(lost)} of them not readable (such as one in {lost['file'].iloc[0]})" if len(lost) else ""


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other; empty ones would spoil the column types."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _usable(observations: pd.DataFrame) -> pd.DataFrame:
    accepted = (observations["flags"] & REJECTED_FLAGS) == 0
    good = accepted & (observations["sigma"] > 0) & np.isfinite(observations["intensity"])
    return observations.loc[good, _OBSERVATION_COLUMNS]


def _counts(frames: pd.DataFrame) -> FrameCounts:
    of_status = frames["status"].value_counts()
    hits = int(of_status.get(FrameStatus.NOT_INDEXED, 0) + of_status.get(FrameStatus.INTEGRATED, 0))
    return FrameCounts(
        frames_total=len(frames),
        frames_unreadable=int(of_status.get(FrameStatus.UNREADABLE, 0)),
        frame_hits=hits,
        crystal_hits=hits,
        frames_indexed=int(of_status.get(FrameStatus.INTEGRATED, 0)),
        frames_failed_index=int(of_status.get(FrameStatus.NOT_INDEXED, 0)),
        lattices_indexed=int(frames["n_lattices"].sum()),
    )


def _file_hash(frames: pd.DataFrame, lattices: pd.DataFrame) -> NDArray[np.uint64]:
    """Number that stands for the name of the file each lattice's frame is in, wherever it lies."""
    of_file = {
        file: int.from_bytes(hashlib.sha256(Path(str(file)).name.encode()).digest()[:8], "big")
        for file in frames["file"].unique()
    }
    files = lattices[["data_set", "frame"]].merge(frames, how="left", on=["data_set", "frame"])["file"]
    return np.array([of_file.get(file, 0) for file in files], np.uint64)


def _in_lattice_order(observations: pd.DataFrame, lattices: pd.DataFrame) -> pd.DataFrame:
    """Observations sorted by their lattice's row; those of one lattice stay in their order."""
    which = ["data_set", "frame", "lattice"]
    row = pd.MultiIndex.from_frame(lattices[which]).get_indexer(pd.MultiIndex.from_frame(observations[which]))
    order = np.argsort(row, kind="stable")
    order = order[row[order] >= 0]
    columns = [c for c in _OBSERVATION_COLUMNS if c not in ("frame", "lattice")]
    return observations[columns].iloc[order].reset_index(drop=True).assign(row=row[order])
