"""Columns that event chains give to frames: kept beside the chunks of a data set, joined when merging."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ssx_processing.errors import ChunkError
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.formats.whole_file import whole_file
from ssx_processing.pipeline.event_table import ALL_COLUMNS, EventTable
from ssx_processing.pipeline.subset_labels import columns_needed
from ssx_processing.settings import MergingSettings


def write_event_table(run_folder: Path, table: EventTable | None) -> None:
    """Put the table of frames beside the chunks of a data set, or take away that of an earlier record."""
    path = RunFolder(run_folder).events
    if table is None:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as temporary:
        table.frames.to_parquet(temporary, index=False)


def event_columns_needed(settings: MergingSettings) -> list[str]:
    """Columns of the events that tell the subsets."""
    return [name for name in columns_needed(settings) if name in ALL_COLUMNS]


def events_digest(chunk_folders: Sequence[Path], settings: MergingSettings) -> str:
    """Of the tables that tell the subsets, for the key of a merge; empty if they have no say."""
    paths = _paths(chunk_folders) if event_columns_needed(settings) else []
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest() if digests else ""


def with_event_columns(
    frames: pd.DataFrame, chunk_folders: Sequence[Path], data_sets: Sequence[int], settings: MergingSettings
) -> pd.DataFrame:
    """Frames with the columns of the events that tell the subsets, as far as there are any.

    Parameters
    ----------
    data_sets
        Number of the data set of each chunk.

    Raises
    ------
    ChunkError
        A table cannot be read.
    """
    needed = event_columns_needed(settings)
    of_data_set = dict(zip(data_sets, map(_path, chunk_folders), strict=True)) if needed else {}
    tables = [_read(path).assign(data_set=number) for number, path in of_data_set.items() if path.is_file()]
    if not tables:
        return frames
    events = pd.concat(tables, ignore_index=True)
    there = [name for name in needed if name in events and name not in frames]
    return frames.merge(events[["data_set", "frame", *there]], how="left", on=["data_set", "frame"])


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ChunkError(f"{path}: not readable ({error}); merge again, which writes it anew") from error
    return table.astype({"dose_index": "float64"})


def _path(chunk_folder: Path) -> Path:
    """Of the data set that a chunk is of."""
    return RunFolder(chunk_folder.parent.parent).events


def _paths(chunk_folders: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(map(_path, chunk_folders)))
