"""Another cut, from the tables alone."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.models import FrameStatus
from ssx_processing.pipeline.recut import ProcessedFrames, read_processed_frames, recut, run_folders
from tests.unit.pipeline.conftest import ProcessedChip


@pytest.fixture
def run(processed_chip: ProcessedChip, tmp_path: Path) -> Path:
    """A run's folder without its images: the tables and the plan."""
    for chunk in processed_chip.chunks:
        shutil.copytree(chunk.folder, tmp_path / "chunks" / chunk.key)
    content = {
        "settings": processed_chip.settings.model_dump(mode="json"),
        "plan": asdict(processed_chip.plan),
        "chunks": [chunk.key for chunk in processed_chip.chunks],
    }
    write_json(tmp_path / "plan.json", content)
    return tmp_path


@pytest.fixture
def processed(run: Path) -> ProcessedFrames:
    return read_processed_frames(run_folders(run))


def test_the_cut_used_gives_the_hits_of_the_processing(
    processed: ProcessedFrames, processed_chip: ProcessedChip
):
    same = recut(processed, processed.settings.spots.min_spots_for_hit, 0.0)
    counts = [chunk.counts for chunk in processed_chip.chunks]
    assert same.n_frames == sum(c.frames_total for c in counts)
    assert same.n_hits == sum(c.frame_hits for c in counts)
    assert same.n_indexed == sum(c.frames_indexed for c in counts)
    assert (same.n_new, same.n_lost, same.n_lost_indexed) == (0, 0, 0)


@pytest.mark.parametrize("min_spots", [1, 5, 40, 80])
def test_hits_won_and_lost_are_those_of_the_table(processed: ProcessedFrames, min_spots: int):
    frames = processed.frames
    hit, was_hit = frames["n_spots"] >= min_spots, frames["status"] != FrameStatus.NO_HIT
    cut = recut(processed, min_spots, 0.0)
    assert cut.n_hits == hit.sum()
    assert cut.n_new == (hit & ~was_hit).sum()
    assert cut.n_lost == (~hit & was_hit).sum()
    assert cut.n_tried == (hit & was_hit).sum()
    assert cut.n_lost_indexed + cut.n_indexed == (frames["status"] == FrameStatus.INTEGRATED).sum()


def test_a_cut_in_photons_counts_like_the_processing(processed: ProcessedFrames):
    middle = float(processed.frames["total_intensity"].median())
    cut = recut(processed, 1, middle)
    assert cut.n_hits == (processed.frames["total_intensity"] >= middle).sum()
    doubled = processed.settings.spots.model_copy(update={"gain": 2.0})
    settings = processed.settings.model_copy(update={"spots": doubled})
    with_gain = ProcessedFrames(**{**vars(processed), "settings": settings})
    assert recut(with_gain, 1, middle / 2).n_hits == cut.n_hits


def test_chunks_that_are_missing_are_counted(run: Path, processed_chip: ProcessedChip):
    shutil.rmtree(run / "chunks" / processed_chip.chunks[0].key)
    processed = read_processed_frames([run])
    assert processed.n_missing_chunks == 1
    assert len(processed.frames) == processed_chip.chunks[1].counts.frames_total


def test_collections_of_a_group_are_found_below_its_folder(run: Path, tmp_path: Path):
    for number in (1, 2):
        (tmp_path / "group" / f"collection-{number}").mkdir(parents=True)
        shutil.copy(run / "plan.json", tmp_path / "group" / f"collection-{number}")
    assert [folder.name for folder in run_folders(tmp_path / "group")] == ["collection-1", "collection-2"]


def test_a_folder_without_anything_processed_is_refused(tmp_path: Path):
    with pytest.raises(ChunkError, match="nothing was processed here"):
        run_folders(tmp_path)
    write_json(tmp_path / "plan.json", {"chunks": ["a"]})
    with pytest.raises(ChunkError, match=r"plan\.json: has no settings"):
        read_processed_frames([tmp_path])
