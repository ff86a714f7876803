"""Merging with arrays in files, and chunks whose frames interlock: the bytes are the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ssx_processing.formats import scratch_arrays
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.models import MergeSummary
from tests.unit.pipeline.test_merge import chunk_tables, merge, settings_with

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills


def interlocking_chunks(folder: Path, stills: PartialStills, n: int) -> list[Path]:
    """Chunk i holds every n-th frame."""
    chunks = [folder / "chunks" / str(i) for i in range(n)]
    for i, chunk in enumerate(chunks):
        tables = chunk_tables(stills)
        write_chunk(chunk, {k: t[t["frame"] % n == i] for k, t in tables.items()}, {"input": "one chip"})
    return chunks


def merged_from(folder: Path, stills: PartialStills, n_chunks: int) -> MergeSummary:
    """Merged to where the data end, with a model that is chosen and lattices left out for their CC1/2."""
    settings = settings_with(stills, max_cc_half_loss=6.0)
    return merge(folder, interlocking_chunks(folder, stills, n_chunks), settings, n_threads=2)


def contents(summary: MergeSummary) -> dict[str, bytes]:
    """Of the files that do not name the chunks."""
    names = ("reflections.parquet", "rejected.parquet", "growth.csv", "shells.csv")
    return {name: (summary.folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory, partial_stills: PartialStills) -> MergeSummary:
    return merged_from(tmp_path_factory.mktemp("memory"), partial_stills, 1)


def test_chunks_whose_frames_interlock_give_the_same_bytes(
    in_memory: MergeSummary, tmp_path: Path, partial_stills: PartialStills
):
    assert contents(merged_from(tmp_path, partial_stills, 3)) == contents(in_memory)


def test_arrays_in_files_give_the_same_bytes_and_leave_no_file(
    in_memory: MergeSummary, tmp_path: Path, partial_stills: PartialStills, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scratch_arrays, "MOST_IN_MEMORY", 1000)
    summary = merged_from(tmp_path, partial_stills, 3)
    assert contents(summary) == contents(in_memory)
    assert [path.name for path in summary.folder.parent.iterdir()] == [summary.key]
