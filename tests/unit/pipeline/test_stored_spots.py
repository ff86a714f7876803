"""Frames processed again with other settings: from the spots of the first time, to the same last bit."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.chunk_folder import read_summary, read_table
from ssx_processing.formats.frames import FrameSet
from ssx_processing.models import ChunkSummary
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from tests.unit.pipeline.conftest import ProcessedChip, chunk_jobs

TABLES = ("frames", "spots", "lattices", "observations")
Again = Callable[..., ChunkJob]


@pytest.fixture
def again(processed_chip: ProcessedChip, tmp_path: Path) -> Again:
    """Job of the first chunk with other settings, after the chip has been processed; or with none before."""
    after, alone = tmp_path / "after", tmp_path / "alone"
    shutil.copytree(processed_chip.folder, after)

    def job(section: str, *, fresh: bool = False, **changed: Any) -> ChunkJob:
        ours = getattr(processed_chip.settings, section)
        settings = processed_chip.settings.model_copy(update={section: ours.model_copy(update=changed)})
        folder = alone if fresh else after
        plan = make_plan([processed_chip.chip.master], settings)
        return chunk_jobs(plan, settings, calibrate(plan, settings, folder), folder)[0]

    return job


@pytest.fixture
def frames_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the frames whose pixels were read."""
    numbers: list[int] = []
    read = FrameSet.read

    def counted(self: FrameSet, frame: int) -> Any:
        numbers.append(frame)
        return read(self, frame)

    monkeypatch.setattr(FrameSet, "read", counted)
    return numbers


def assert_same_tables(one: ChunkSummary, other: ChunkSummary):
    for name in TABLES:
        first, second = (read_table(summary.folder, name) for summary in (one, other))
        pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("sample", {"unit_cell": (79.9, 79.9, 38.2, 90.0, 90.0, 90.0)}),
        ("indexing", {"max_lattices": 1}),
        ("integration", {"d_min": 3.0}),
        ("spots", {"min_spots_for_hit": 30}),
    ],
)
def test_only_frames_with_lattices_are_read_again(
    again: Again, frames_read: list[int], section: str, changed: dict[str, Any]
):
    job = again(section, **changed)
    frames_read.clear()
    from_spots = process_chunk(job)
    assert (from_spots.reused, from_spots.spots_reused) == (False, True)
    frames = read_table(from_spots.folder, "frames")
    assert frames_read == frames.loc[frames["n_lattices"] > 0, "frame"].tolist()
    assert 0 < len(frames_read) <= from_spots.counts.frame_hits < from_spots.counts.frames_total
    fresh = process_chunk(again(section, fresh=True, **changed))
    assert not fresh.spots_reused
    assert fresh.counts == from_spots.counts
    assert_same_tables(fresh, from_spots)
    kept = [read_summary(one.folder) for one in (fresh, from_spots)]
    assert kept[0]["hot_pixels"] == kept[1]["hot_pixels"]
    assert kept[0]["drift"] == kept[1]["drift"]


def test_other_settings_of_the_spots_read_every_frame(again: Again, frames_read: list[int]):
    job = again("spots", min_snr=7.0)
    frames_read.clear()
    assert not process_chunk(job).spots_reused
    assert frames_read == list(range(job.frames.start, job.frames.stop))


@pytest.mark.parametrize("spoilt", ["spots.parquet", "summary.json", "."])
def test_spots_that_are_lost_are_found_again(again: Again, processed_chip: ProcessedChip, spoilt: str):
    job = again("integration", d_min=3.0)
    there = job.folder.with_name(processed_chip.chunks[0].key) / spoilt
    if there.is_dir():
        shutil.rmtree(there)
    else:
        there.write_bytes(there.read_bytes()[:100])
    assert not process_chunk(job).spots_reused
    shutil.rmtree(job.folder)
    assert not process_chunk(job).reused
    assert process_chunk(again("integration", d_min=3.2)).spots_reused


def test_spots_of_a_chunk_with_unreadable_frames_are_not_reused(
    processed_chip: ProcessedChip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = FrameSet.read

    def gone(self: FrameSet, frame: int) -> Any:
        if frame == 5:
            raise ImageReadError("frame 5 is on a disk that is away")
        return read(self, frame)

    monkeypatch.setattr(FrameSet, "read", gone)
    job = chunk_jobs(processed_chip.plan, processed_chip.settings, processed_chip.calibration, tmp_path)[0]
    assert process_chunk(job).counts.frames_unreadable == 1
    monkeypatch.setattr(FrameSet, "read", read)
    integration = job.settings.integration.model_copy(update={"d_min": 3.0})
    later = replace(job, settings=job.settings.model_copy(update={"integration": integration}))
    summary = process_chunk(later)
    assert (summary.counts.frames_unreadable, summary.spots_reused) == (0, False)
