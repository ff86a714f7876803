"""Merging again from what an earlier merge prepared: only new chunks are read, the bytes are the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats import prepared_chunk
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import MergeSummary
from ssx_processing.pipeline import merge_input
from ssx_processing.settings import ProcessingSettings
from tests.unit.pipeline.test_merge import chunk_tables, merge, settings_with, write_chunks

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills

EDGES = [0, 30, 60, 90, 135]


@pytest.fixture(scope="module")
def tables(partial_stills: PartialStills) -> dict[str, pd.DataFrame]:
    """Some observations are bad, without a known width, or of a lattice that was given up."""
    tables = chunk_tables(partial_stills)
    observations = tables["observations"]
    observations.loc[::50, "flags"] = np.uint8(1)
    observations.loc[::70, "excitation_sigma"] = np.nan
    observations.loc[::90, "lattice"] = 7
    return tables


@pytest.fixture
def chunks(tmp_path: Path, tables: dict[str, pd.DataFrame]) -> list[Path]:
    return write_chunks(tmp_path, tables, EDGES)


@pytest.fixture
def settings(partial_stills: PartialStills) -> ProcessingSettings:
    return settings_with(partial_stills, d_min=2.5)


@pytest.fixture
def other_settings(partial_stills: PartialStills) -> ProcessingSettings:
    return settings_with(partial_stills, d_min=2.6)


def contents(summary: MergeSummary) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in summary.folder.iterdir()}


def prepared(folder: Path) -> list[Path]:
    return sorted(RunFolder(folder).prepared.iterdir())


def test_with_one_more_chunk_only_that_one_is_read_and_the_bytes_are_those_of_all_read(
    tmp_path: Path, chunks: list[Path], settings: ProcessingSettings
):
    first = merge(tmp_path, chunks[:-1], settings)
    second = merge(tmp_path, chunks, settings)
    assert (first.chunks_read, second.chunks_read) == (3, 1)
    found = contents(second)
    shutil.rmtree(tmp_path / "merged")
    shutil.rmtree(RunFolder(tmp_path).prepared)
    afresh = merge(tmp_path, chunks, settings)
    assert afresh.chunks_read == 4
    assert contents(afresh) == found


def test_only_what_the_last_merge_needed_is_kept(
    tmp_path: Path, chunks: list[Path], settings: ProcessingSettings
):
    merge(tmp_path, chunks, settings)
    all_of_them = prepared(tmp_path)
    merge(tmp_path, chunks[1:], settings)
    assert len(all_of_them) == 4
    assert len(set(prepared(tmp_path)) & set(all_of_them)) == len(prepared(tmp_path)) == 3


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, spoil_one_byte, Path.unlink])
def test_what_is_damaged_is_read_again_and_prepared_again(
    tmp_path: Path,
    chunks: list[Path],
    settings: ProcessingSettings,
    other_settings: ProcessingSettings,
    damage: Callable[[Path], None],
):
    merge(tmp_path, chunks, settings)
    before = {path: path.read_bytes() for path in prepared(tmp_path)}
    damage(next(iter(before)))
    again = merge(tmp_path, chunks, other_settings)
    assert again.chunks_read == 1
    assert {path: path.read_bytes() for path in prepared(tmp_path)} == before
    assert contents(again) == contents(merge(tmp_path / "afresh", chunks, other_settings))


def test_no_spoilt_byte_of_a_prepared_chunk_goes_unnoticed(
    tmp_path: Path, chunks: list[Path], settings: ProcessingSettings
):
    merge(tmp_path, chunks, settings)
    path = min(prepared(tmp_path), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    right = prepared_chunk.read_prepared_observations(path)
    assert right is not None
    rng = np.random.default_rng(0)
    directory = np.arange(len(whole) - 400, len(whole))  # where names, sizes and places of the parts are
    for place in [*directory, *rng.integers(0, len(whole), 100)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        found = prepared_chunk.read_prepared_observations(path)
        for name, value in vars(right).items() if found is not None else ():
            np.testing.assert_array_equal(getattr(found, name), value)


def test_chunks_written_anew_are_read_anew_and_damaged_ones_are_errors(
    tmp_path: Path,
    tables: dict[str, pd.DataFrame],
    chunks: list[Path],
    settings: ProcessingSettings,
    other_settings: ProcessingSettings,
):
    merge(tmp_path, chunks, settings)
    shutil.rmtree(chunks[0])
    start, stop = next(pairwise(EDGES))
    part = {name: t[(t["frame"] >= start) & (t["frame"] < stop)] for name, t in tables.items()}
    write_chunk(chunks[0], part, {"input": "one chip"})
    assert merge(tmp_path, chunks, other_settings).chunks_read == 1
    cut_short(chunks[0] / "observations.parquet")
    with pytest.raises(ChunkError, match=r"observations\.parquet"):
        merge(
            tmp_path, chunks, settings.model_copy(update={"merging": other_settings.merging}), missing=["x"]
        )


def test_without_room_on_the_disk_nothing_is_prepared(
    tmp_path: Path,
    chunks: list[Path],
    settings: ProcessingSettings,
    other_settings: ProcessingSettings,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(merge_input, "ROOM", 1 << 60)
    assert merge(tmp_path, chunks, settings).chunks_read == 4
    assert not RunFolder(tmp_path).prepared.exists()
    assert merge(tmp_path, chunks, other_settings).chunks_read == 4


def test_where_nothing_can_be_written_the_merge_goes_on(
    tmp_path: Path, chunks: list[Path], settings: ProcessingSettings, caplog: pytest.LogCaptureFixture
):
    RunFolder(tmp_path).prepared.write_text("in the way")
    assert merge(tmp_path, chunks, settings).chunks_read == 4
    assert "cannot be kept for the next merge" in caplog.text
