"""What events say of frames is joined when it tells the subsets, and is part of the key then."""

from pathlib import Path

import pandas as pd
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.pipeline.event_chain import ChainEvent, EventChain
from ssx_processing.pipeline.event_columns import events_digest, with_event_columns, write_event_table
from ssx_processing.pipeline.event_table import EventTable, event_table
from ssx_processing.pipeline.subset_labels import subset_labels
from ssx_processing.settings import MergingSettings

FRAMES = pd.DataFrame({"data_set": [0, 0, 0, 0, 1, 1], "frame": [0, 1, 2, 3, 0, 1]})


def table(laser_at: float) -> EventTable:
    shot = ChainEvent("XrayDetection", 0.0, 0.01, 0.01, 2)
    return event_table([EventChain("", (shot, ChainEvent("LaserExcitation", laser_at)))], 4)


@pytest.fixture
def chunks(tmp_path: Path) -> list[Path]:
    """Folders of two chunks of one data set and one of another, which has no events."""
    write_event_table(tmp_path / "one", table(0.01))
    write_event_table(tmp_path / "two", None)
    return [RunFolder(tmp_path / run).chunks / key for run, key in (("one", "a"), ("one", "b"), ("two", "c"))]


def labels(chunks: list[Path], **merging: object) -> list[str]:
    settings = MergingSettings(**merging)  # type: ignore[arg-type]
    return subset_labels(with_event_columns(FRAMES, chunks, [0, 0, 1], settings), settings).tolist()


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("laser", ["off", "on", "off", "on", "", ""]),
        ("delay_s", ["", "0", "", "0", "", ""]),
        ("dose_index", ["0", "1", "0", "1", "", ""]),
        ("dose_index + 1", ["1", "2", "1", "2", "", ""]),
        ("reaction_trigger", ["off", "off", "off", "off", "", ""]),
        ("frame % 2", ["0", "1", "0", "1", "0", "1"]),
    ],
)
def test_columns_of_the_events_tell_subsets(chunks: list[Path], by: str, expected: list[str]):
    assert labels(chunks, subset_by=by) == expected


def test_columns_of_the_users_table_go_before_those_of_ispyb(chunks: list[Path], tmp_path: Path):
    own = tmp_path / "own.csv"
    pd.DataFrame({"data_set": 0, "frame": [0, 1], "laser": ["dim", "bright"]}).to_csv(own, index=False)
    assert labels(chunks, subset_by="laser", subset_table=own) == ["dim", "bright", "", "", "", ""]


def test_the_key_knows_of_the_events_only_where_they_tell_the_subsets(chunks: list[Path], tmp_path: Path):
    by_laser = MergingSettings(subset_by="laser")
    first = events_digest(chunks, by_laser)
    assert first
    assert events_digest(chunks, MergingSettings(subset_by="frame % 2")) == ""
    write_event_table(tmp_path / "one", table(-0.01))
    assert events_digest(chunks, by_laser) not in ("", first)
    write_event_table(tmp_path / "one", None)
    assert events_digest(chunks, by_laser) == ""


def test_a_damaged_table_of_events_is_said(chunks: list[Path], tmp_path: Path):
    RunFolder(tmp_path / "one").events.write_bytes(b"PAR1")
    with pytest.raises(ChunkError, match=r"events.parquet: not readable"):
        labels(chunks, subset_by="laser")
