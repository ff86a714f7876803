import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import ImageReadError, SettingsError, SsxError
from ssx_processing.formats.chunk_folder import read_summary
from ssx_processing.models import FrameRange, FrameStatus
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.settings import SampleSettings, SpotSettings
from ssx_processing.simulation.scene import Scene
from tests.unit.pipeline.conftest import ProcessedChip, chunk_jobs


def test_a_chunk_that_exists_is_not_computed_again(processed_chip: ProcessedChip):
    job = chunk_jobs(
        processed_chip.plan, processed_chip.settings, processed_chip.calibration, processed_chip.folder
    )[0]
    before = {p: p.stat().st_mtime_ns for p in job.folder.iterdir()}
    summary = process_chunk(job)
    assert summary.reused
    assert not processed_chip.chunks[0].reused
    assert replace(summary, reused=False) == processed_chip.chunks[0]
    assert before == {p: p.stat().st_mtime_ns for p in job.folder.iterdir()}


def test_a_calibration_that_exists_is_not_computed_again(processed_chip: ProcessedChip):
    again = calibrate(processed_chip.plan, processed_chip.settings, processed_chip.folder)
    assert again.reused
    assert again.geometry == processed_chip.calibration.geometry
    assert again.rocking == processed_chip.calibration.rocking
    np.testing.assert_array_equal(again.bad_pixels, processed_chip.calibration.bad_pixels)


def test_other_chunk_sizes_give_the_same_tables(processed_chip: ProcessedChip):
    settings = processed_chip.settings.model_copy(update={"frames_per_chunk": 37})
    plan = make_plan([processed_chip.chip.master], settings)
    jobs = chunk_jobs(plan, settings, processed_chip.calibration, processed_chip.folder)[:3]
    folders = [process_chunk(job).folder for job in jobs]
    for name in ("frames", "spots", "lattices", "observations"):
        small = pd.concat([pd.read_parquet(f / f"{name}.parquet") for f in folders], ignore_index=True)
        large = processed_chip.table(name)
        large = large[large["frame"] < 3 * 37].reset_index(drop=True)
        pd.testing.assert_frame_equal(small, large)


def test_settings_that_matter_change_the_key_and_others_do_not(processed_chip: ProcessedChip):
    p = processed_chip
    job = chunk_jobs(p.plan, p.settings, p.calibration, p.folder)[0]
    other = p.settings.model_copy(update={"spots": SpotSettings(min_snr=6.0)})
    merging = p.settings.model_copy(update={"merging": p.settings.merging.model_copy(update={"d_min": 3.0})})
    assert replace(job, settings=other).key != job.key
    assert replace(job, settings=merging).key == job.key
    assert replace(job, frames=FrameRange(0, 99)).key != job.key
    assert replace(job, identity="other files").key != job.key


def damaged_copy(chip_master: Path, folder: Path, first_bad: int, n_bad: int) -> Path:
    """Copy of a chip with some frames' compressed chunks overwritten."""
    for file in chip_master.parent.glob("*.h5"):
        shutil.copy(file, folder)
    with h5py.File(folder / chip_master.name.replace("_master", "_data_000001"), "r+") as file:
        data = file["/entry/data/data"]
        for frame in range(first_bad, first_bad + n_bad):
            data.id.write_direct_chunk((frame, 0, 0), b"\0" * 40)
    return folder / chip_master.name


def test_unreadable_frames_are_counted_and_the_others_processed(
    processed_chip: ProcessedChip, tmp_path: Path
):
    master = damaged_copy(processed_chip.chip.master, tmp_path, 10, 3)
    plan = make_plan([master], processed_chip.settings)
    job = chunk_jobs(plan, processed_chip.settings, processed_chip.calibration, tmp_path / "out")[0]
    counts = process_chunk(replace(job, frames=FrameRange(0, 20))).counts
    assert counts.frames_total == 20
    assert counts.frames_unreadable == 3
    frames = pd.read_parquet(replace(job, frames=FrameRange(0, 20)).folder / "frames.parquet")
    assert (frames["status"] == FrameStatus.UNREADABLE).to_numpy().nonzero()[0].tolist() == [10, 11, 12]


def test_a_chunk_without_a_readable_frame_is_an_error_and_leaves_nothing(
    processed_chip: ProcessedChip, tmp_path: Path
):
    master = damaged_copy(processed_chip.chip.master, tmp_path, 10, 3)
    plan = make_plan([master], processed_chip.settings)
    job = chunk_jobs(plan, processed_chip.settings, processed_chip.calibration, tmp_path / "out")[0]
    with pytest.raises(ImageReadError, match="frames 10-12: not one can be read"):
        process_chunk(replace(job, frames=FrameRange(10, 13)))
    assert not job.folder.parent.exists()


@pytest.mark.parametrize("shared", [True, False])
def test_hot_pixels_found_in_a_chunk_are_masked_in_the_next(
    processed_chip: ProcessedChip, tmp_path: Path, shared: bool
):
    few = processed_chip.settings.calibration.model_copy(update={"n_frames": 3, "refine_geometry": "off"})
    settings = processed_chip.settings.model_copy(
        update={"calibration": few, "spots": SpotSettings(share_hot_pixels=shared), "frames_per_chunk": 40}
    )
    plan = make_plan([processed_chip.chip.master], settings)
    calibration = calibrate(plan, settings, tmp_path)
    assert calibration.n_hot_pixels == 0  # three frames make no pixel hot
    first, second = (process_chunk(job) for job in chunk_jobs(plan, settings, calibration, tmp_path)[:2])
    defects = set(
        zip(*(axis.tolist() for axis in Scene(processed_chip.truth.settings).defects.at), strict=True)
    )

    said = [read_summary(chunk.folder)["hot_pixels"] for chunk in (first, second)]
    found = {tuple(pixel) for pixel in said[0]["found"]}
    assert said[0]["masked_from_other_chunks"] == []
    assert found <= defects
    assert len(found) >= processed_chip.truth.settings.detector.n_stuck_pixels
    found_again = {tuple(pixel) for pixel in said[1]["found"]}
    if shared:
        assert {tuple(pixel) for pixel in said[1]["masked_from_other_chunks"]} == found
        assert not found_again & found
    else:
        assert said[1]["masked_from_other_chunks"] == []
        assert len(found_again & found) >= processed_chip.truth.settings.detector.n_stuck_pixels


def test_no_file_is_an_error(processed_chip: ProcessedChip):
    with pytest.raises(ImageReadError, match="no image file"):
        make_plan([], processed_chip.settings)


def test_a_file_given_twice_is_an_error(processed_chip: ProcessedChip):
    master = processed_chip.chip.master
    with pytest.raises(ImageReadError, match="given twice"):
        make_plan([master, master], processed_chip.settings)


@pytest.mark.parametrize(
    ("cell", "group", "says"),
    [
        ((79.0, 80.0, 38.0, 90.0, 90.0, 90.0), "P43212", "contradicts space group"),
        ((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P4321", "not known"),
        ((79.0, 79.0, -38.0, 90.0, 90.0, 90.0), "P43212", "spans no volume"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(cell, group, says):
    with pytest.raises(ValueError, match=says):
        SampleSettings(unit_cell=cell, space_group=group)


def test_errors_on_purpose_have_one_base():
    assert issubclass(ImageReadError, SsxError)
    assert issubclass(SettingsError, SsxError)
