"""Frames of CrystFEL streams as tables of chunks, and what is planned and known of them."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import FrameCounts, FrameRange, Plan
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.chunk_columns import COLUMN_TYPES
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.pipeline.sample import sample_of_plan
from ssx_processing.pipeline.stream_chunks import StreamTables, stream_tables
from ssx_processing.settings import ProcessingSettings, RequestedSettings, SpotSettings
from tests.unit.formats.crystfel_streams import BLANK, CELL, HEADER, INDEXED, NOT_INDEXED, write_stream

PHOTONS = SpotSettings(gain=4)


@pytest.fixture
def tables(tmp_path: Path) -> StreamTables:
    return stream_tables([write_stream(tmp_path)], None, FrameRange(0, 3), PHOTONS)


def test_frames_are_counted_by_what_crystfel_made_of_them(tables: StreamTables):
    frames = tables.tables()["frames"]
    assert frames["status"].tolist() == ["no_hit", "not_indexed", "integrated"]
    assert frames["file_index"].tolist() == [0, 1, 2]
    assert frames["event"].tolist() == ["//0", "//1", "//2"]
    assert tables.counts == FrameCounts(
        frames_total=3, frame_hits=2, crystal_hits=2, frames_indexed=1, frames_failed_index=1,
        lattices_indexed=1, spots_on_hits=4, spots_on_indexed=2, spots_explained=1,
    )  # fmt: skip


def test_tables_have_the_columns_and_types_of_our_own(tables: StreamTables):
    for name, table in tables.tables().items():
        kinds = {column: kind for column, kind in COLUMN_TYPES[name].items() if kind != "str"}
        assert {column: str(table[column].dtype) for column in kinds} == kinds


def test_intensities_are_photons_and_noise_is_sigma_without_the_signal(tables: StreamTables):
    found = tables.tables()["observations"]
    assert found["intensity"].tolist() == [100.0, -17.0, 10.0]
    assert found["sigma"].tolist() == [11.0, 7.0, 10.0]
    assert found["background"].tolist() == [4.0, 4.0, 4.0]
    # 121 - 100; 49; 100 - 10; at least 4 pixels of 4 photons each
    assert found["noise_variance"].tolist() == [21.0, 49.0, 90.0]


def test_positions_are_rows_of_the_stacked_image(tables: StreamTables):
    found = tables.tables()
    assert found["observations"]["y_px"].tolist() == [10.0, 12.0, 25.0]
    assert found["spots"]["panel"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(found["spots"]["y_px"], [10.98, 21.25, 9.0, 25.0], rtol=1e-6)


def test_excitation_errors_are_distances_from_the_ewald_sphere(tables: StreamTables):
    found = tables.tables()["observations"]
    # |s0 + q|, q = (-0.0125, 0, 0), (0, 0.025, 0) and (0.0375, 0, -0.25) 1/Å, s0 = (0, 0, -1)
    expected = np.hypot([0.0125, 0.025, 0.0375], [1.0, 1.0, 1.25]) - 1.0
    np.testing.assert_allclose(found["excitation_error"], expected, atol=1e-6)
    np.testing.assert_allclose(found["excitation_sigma"], 0.002 / np.sqrt(5.0), rtol=1e-6)


def test_a_peak_at_a_reflection_is_explained_by_it(tables: StreamTables):
    spots = tables.tables()["spots"].iloc[2:]
    assert spots["lattice"].tolist() == [0, -1]  # the second is 5.5 pixels away
    first = spots.iloc[0]
    assert (first["h"], first["k"], first["l"]) == (1, 0, 0)
    assert (first["dx_px"], first["dy_px"]) == (0.5, -1.0)
    assert tables.tables()["lattices"]["rmsd_px"].iloc[0] == pytest.approx(np.hypot(0.5, 1.0))


def test_frames_of_several_streams_are_counted_on(tmp_path: Path):
    paths = [write_stream(tmp_path), write_stream(tmp_path, HEADER, INDEXED, INDEXED, name="y.stream")]
    tables = stream_tables(paths, None, FrameRange(2, 4), PHOTONS).tables()
    assert tables["frames"]["frame"].tolist() == [2, 3]
    assert tables["observations"]["frame"].tolist() == [2, 2, 2, 3, 3, 3]


def test_a_cut_stream_loses_its_last_frame_and_says_so(tmp_path: Path):
    path = write_stream(tmp_path, HEADER, INDEXED, NOT_INDEXED[:-30])
    tables = stream_tables([path], None, FrameRange(0, 2), PHOTONS)
    assert tables.tables()["frames"]["status"].tolist() == ["integrated", "unreadable"]
    assert tables.counts.frames_unreadable == 1
    with pytest.raises(ImageReadError, match=r"frames 1-1: not one is whole; the last: .*chunk 2: .*no end"):
        stream_tables([path], None, FrameRange(1, 2), PHOTONS)


def test_where_the_stream_does_not_say_hits_have_enough_peaks(tmp_path: Path):
    path = write_stream(tmp_path, HEADER, NOT_INDEXED.replace("hit = 1\n", ""))
    for least, status in ((2, "not_indexed"), (3, "no_hit")):
        spots = SpotSettings(min_spots_for_hit=least)
        assert stream_tables([path], None, FrameRange(0, 1), spots).tables()["frames"]["status"][0] == status


def plan_of(*paths: Path, **settings: int) -> Plan:
    return make_plan(paths, RequestedSettings(**settings))  # pyright: ignore[reportArgumentType]


def test_a_plan_counts_the_frames_of_all_streams(tmp_path: Path):
    first, second = write_stream(tmp_path), write_stream(tmp_path, HEADER, BLANK, name="y.stream")
    plan = plan_of(first, second, frames_per_chunk=3)
    assert (plan.frames_total, len(plan.ranges)) == (4, 2)
    assert plan.wavelength == pytest.approx(1.0, abs=1e-5)
    write_stream(tmp_path, HEADER, BLANK, BLANK, name="y.stream")
    assert plan_of(first, second).identity != plan.identity


def test_streams_and_images_are_not_mixed(tmp_path: Path):
    other = tmp_path / "x.cbf"
    other.write_text("no stream")
    with pytest.raises(ImageReadError, match=r"x\.cbf: is no CrystFEL stream, but .*x\.stream is one"):
        plan_of(write_stream(tmp_path), other)
    with pytest.raises(ImageReadError, match="has no chunk"):
        plan_of(write_stream(tmp_path, HEADER))


def test_a_sample_that_is_not_given_is_the_streams(tmp_path: Path):
    settings = RequestedSettings()
    sample = sample_of_plan(plan_of(write_stream(tmp_path)), settings, tmp_path)
    assert (sample.unit_cell, sample.space_group) == ((80, 80, 40, 90, 90, 90), "P422")
    assert [note.split(":")[0] for note in sample.assumed] == ["cell not given", "space group not given"]
    without = write_stream(tmp_path, HEADER.replace(CELL, ""), INDEXED, name="y.stream")
    sample = sample_of_plan(plan_of(without), settings, tmp_path)
    np.testing.assert_allclose(sample.unit_cell, (80, 80, 40, 90, 90, 90))
    given = settings.model_validate({"sample": {"space_group": "4/m"}})
    sample = sample_of_plan(plan_of(without), given, tmp_path)
    assert gemmi.SpaceGroup(sample.space_group).laue_str() == "4/m"
    nothing = plan_of(write_stream(tmp_path, HEADER.replace(CELL, ""), BLANK, name="z.stream"))
    with pytest.raises(SettingsError, match="neither a target cell nor a crystal"):
        sample_of_plan(nothing, settings, tmp_path)


def test_a_chunk_of_a_stream_is_a_folder_as_any(tmp_path: Path):
    requested = RequestedSettings(spots=PHOTONS)
    plan = make_plan([write_stream(tmp_path)], requested)
    settings = requested.with_sample(sample_of_plan(plan, requested, tmp_path))
    calibration = calibrate(plan, settings, tmp_path)
    assert calibration.peak_radius_px == 3.0  # the command's --int-radius
    assert calibration.rocking.constant == pytest.approx(0.002 / np.sqrt(5.0))
    assert (calibration.folder / "refined.geom").is_file()
    job = ChunkJob(plan.paths, plan.identity, plan.ranges[0], settings, calibration.folder, tmp_path)
    first, again = process_chunk(job), process_chunk(job)
    assert (first.reused, again.reused) == (False, True)
    assert again.counts.lattices_indexed == 1
    np.testing.assert_allclose(again.median_cell or (), (80, 80, 40, 90, 90, 90))
    assert len(read_table(RunFolder(tmp_path).chunks / job.key, "observations")) == 3
    assert settings == ProcessingSettings.model_validate(settings.model_dump())


def test_streams_of_different_geometries_are_said_to_be_so(tmp_path: Path):
    moved = HEADER.replace("corner_x = 12.5", "corner_x = 12.6")
    same = write_stream(tmp_path, HEADER, BLANK, name="same.stream")
    other = write_stream(tmp_path, moved, INDEXED, name="other.stream")
    requested = RequestedSettings()
    for second, differs in ((same, False), (other, True)):
        plan = make_plan([write_stream(tmp_path), second], requested)
        settings = requested.with_sample(sample_of_plan(plan, requested, tmp_path))
        notes = calibrate(plan, settings, tmp_path).refinement.notes
        assert any("different geometries" in note for note in notes) is differs
