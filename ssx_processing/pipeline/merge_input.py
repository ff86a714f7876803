"""What a merge reads from chunk folders, in an order that does not depend on how they were cut."""

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.formats.chunk_folder import joined
from ssx_processing.formats.prepared_chunk import ChunkObservations
from ssx_processing.kernels.lattice_hash import lattice_hash, random_halves
from ssx_processing.models import FrameCounts, FrameStatus
from ssx_processing.pipeline.event_columns import with_event_columns
from ssx_processing.pipeline.prepared_chunks import ChunkSource, forget_others
from ssx_processing.pipeline.stored_observations import COPIES_AT_ONCE, ObservationStore, StoredObservations
from ssx_processing.pipeline.subset_labels import columns_needed, subset_labels
from ssx_processing.settings import MergingSettings

READ_AHEAD = 2
"""Chunks that are read while one is taken in."""
ROOM = 120
"""Bytes for each observation that must be free on the disk for something to be prepared: a merge may need
half of them for its own arrays."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class MergeInput:
    """Lattices sorted by data set, frame and number, and their observations in the same order."""

    counts: FrameCounts
    """Sum over the chunks."""
    lattices: pd.DataFrame
    """Columns of the chunks' tables that merging uses, `chunk`, `data_set` (its place among the data
    sets merged: frames count from 0 in each), `file` and `file_index`."""
    observations: StoredObservations
    hkl: NDArray[np.int16]
    """(n_observations, 3), in the setting of the merge; at first as indexed."""
    half: NDArray[np.uint8]
    """(n_lattices,) half set of each, 0 or 1."""
    rank: NDArray[np.uint64]
    """(n_lattices,) random numbers that a sample is drawn by; like the halves they depend on file name,
    frame and lattice only."""
    chunks_read: int
    """Chunks whose tables were read; the others had been prepared by an earlier merge."""


def read_merge_input(
    chunk_folders: Sequence[Path],
    scratch: Path,
    prepared: Path,
    progress: Progress | None = None,
    settings: MergingSettings = MergingSettings(),  # noqa: B008 (frozen)
) -> MergeInput:
    """Lattices and good observations of all chunks.

    Parameters
    ----------
    scratch
        Folder for temporary files, which are used where there are many observations.
    prepared
        Folder for files, one a chunk, from which the next merge reads the same chunks faster.
    settings
        Of these the subsets, which are columns of the tables of frames.

    Raises
    ------
    ChunkError
        A table is missing or damaged.
    MergeError
        No chunks, no lattices, frames of one data set that are in two chunks, or a full disk.
    """
    if not chunk_folders:
        raise MergeError("no chunk to merge; process at least one chunk first")
    sources = _sources(chunk_folders, prepared, sorted(columns_needed(settings)))
    data_sets = _data_sets(sources)
    frames, lattices = _read_lattices(sources, data_sets)
    counts = _counts(frames)
    if settings.subset_by is not None:
        labelled = with_event_columns(frames, chunk_folders, data_sets, settings)
        frames["subset"] = subset_labels(labelled, settings)
    names = ["data_set", "frame", "file", "file_index", "subset"]
    frames = frames[[name for name in names if name in frames]]
    hashes = _file_hash(frames, lattices)
    number = [lattices[name].to_numpy(np.int64) for name in ("frame", "lattice")]
    lattices = lattices.merge(frames, how="left", on=["data_set", "frame"])
    chunk = lattices["chunk"].to_numpy()
    of_chunk = [np.flatnonzero(chunk == i) for i in range(len(sources))]
    # in the order of their lattices; those without any last
    order = sorted(range(len(of_chunk)), key=lambda i: of_chunk[i][0] if len(of_chunk[i]) else len(chunk))
    found = _observations([sources[i] for i in order], scratch)
    with ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
        store = ObservationStore(sum(source.most for source in sources), len(lattices), scratch, threads)
        for place, (i, observations) in enumerate(zip(order, found, strict=True), start=1):
            if progress is not None:
                progress(f"reading chunk {place} of {len(sources)}")
            store.add(observations, of_chunk[i])
        stored = store.in_order()
    forget_others(prepared, sources)
    lattices["chunk"] = np.array([folder.name for folder in chunk_folders])[chunk]
    return MergeInput(
        counts,
        lattices,
        stored,
        stored.hkl,
        half=random_halves(hashes, *number),
        rank=lattice_hash(hashes, *number, salt=1),
        chunks_read=sum(not source.was_prepared for source in sources),
    )


def _sources(folders: Sequence[Path], prepared: Path, more: Sequence[str]) -> list[ChunkSource]:
    with ThreadPoolExecutor(READ_AHEAD) as threads:
        return list(threads.map(lambda folder: ChunkSource(folder, prepared, more), folders))


def _observations(sources: Sequence[ChunkSource], scratch: Path) -> Iterator[ChunkObservations]:
    """Observations of one chunk after the other; the next are read meanwhile."""
    keep = shutil.disk_usage(scratch).free > ROOM * sum(source.most for source in sources)
    with ThreadPoolExecutor(READ_AHEAD) as threads:
        waiting: deque[Future[ChunkObservations]] = deque()
        for source in sources:
            waiting.append(threads.submit(source.read_observations, keep=keep))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _data_sets(sources: Sequence[ChunkSource]) -> list[int]:
    """Number of the data set of each chunk."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(source.input, len(numbers)) for source in sources]


def _read_lattices(
    sources: Sequence[ChunkSource], data_sets: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All frames, and all lattices sorted, with the number of their chunk."""
    all_frames = joined([source.tables.frames for source in sources])
    n = [len(source.tables.frames) for source in sources]
    all_frames["data_set"] = np.repeat(data_sets, n)
    all_lattices = joined([source.tables.lattices for source in sources])
    n = [len(source.tables.lattices) for source in sources]
    all_lattices["data_set"] = np.repeat(data_sets, n)
    all_lattices["chunk"] = np.repeat(np.arange(len(n)), n)
    if "file_index" not in all_frames:
        all_frames["file_index"] = all_frames["frame"]
    twice = all_frames.duplicated(["data_set", "frame"])
    if twice.any():
        first = int(all_frames.loc[twice, "frame"].iloc[0])
        raise MergeError(f"frame {first} is in two of the chunks; merge only chunks that share no frame")
    if all_lattices.empty:
        raise MergeError(
            f"no lattice in {len(sources)} chunks with {len(all_frames)} frames"
            f"{_unreadable(all_frames)}; look at hit and indexing rates before merging"
        )
    return all_frames, all_lattices.sort_values(["data_set", "frame", "lattice"], ignore_index=True)


def _unreadable(frames: pd.DataFrame) -> str:
    """How many frames could not be read, and a file that holds one; nothing if all could."""
    lost = frames[frames["status"] == FrameStatus.UNREADABLE]
    return f", {len(lost)} of them not readable (such as one in {lost['file'].iloc[0]})" if len(lost) else ""


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
