"""CrystFEL streams: whole ones, cut ones, and several behind each other."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.crystfel_stream import BLOCK, CrystfelStream, is_stream
from ssx_processing.formats.stream_geometry import stream_geometry
from ssx_processing.formats.stream_records import TargetCell
from tests.unit.formats.crystfel_streams import (
    BLANK,
    CELL,
    CRYSTAL,
    GEOMETRY,
    HEADER,
    INDEXED,
    NOT_INDEXED,
    REFLECTIONS,
    head,
    write_stream,
)


def test_frames_peaks_and_crystals_are_read_in_our_units(tmp_path: Path):
    stream = CrystfelStream(write_stream(tmp_path))
    blank, hit, indexed = stream.frames()
    assert [frame.problem for frame in (blank, hit, indexed)] == ["", "", ""]
    assert (blank.hit, hit.hit, indexed.hit) == (False, True, True)
    assert (indexed.file, indexed.event, indexed.serial) == ("/data/run1.h5", "//2", 3)
    assert indexed.wavelength == pytest.approx(gemmi.hc / 12398.4198)
    assert indexed.camera_length_mm == pytest.approx(100.0)
    assert indexed.values["/LCLS/distance"] == -400.0
    assert blank.peaks is not None
    assert len(blank.peaks) == 0
    assert hit.peaks is not None
    assert hit.peaks.fs.tolist() == [10.5, 33.5]
    assert hit.peaks.inverse_d == pytest.approx([0.235, 0.235])
    assert hit.peaks.panel.tolist() == [0, 1]
    (crystal,) = indexed.crystals
    # half a turn about y: x and z change sign; nm to Å
    np.testing.assert_allclose(crystal.a_matrix, np.diag([-0.0125, 0.0125, -0.025]))
    assert crystal.profile_radius == pytest.approx(0.002)
    assert crystal.resolution_limit == pytest.approx(4.0)
    assert crystal.detector_shift_mm == pytest.approx((-0.02, -0.009))
    assert (crystal.lattice_type, crystal.centring, crystal.unique_axis) == ("tetragonal", "P", "c")
    assert crystal.reflections.hkl.tolist() == [[1, 0, 0], [0, 2, 0], [-3, 0, 10]]
    assert crystal.reflections.intensity.tolist() == [400.0, -68.0, 40.0]
    assert crystal.reflections.panel.tolist() == [0, 0, 1]


def test_the_header_says_command_geometry_and_target_cell(tmp_path: Path):
    header = CrystfelStream(write_stream(tmp_path)).header
    assert header.version == (2, 3)
    assert header.audit[1].startswith("indexamajig")
    assert header.geometry == GEOMETRY
    assert header.target == TargetCell("tetragonal", "P", "c", (80.0, 80.0, 40.0, 90.0, 90.0, 90.0))


def test_the_geometry_takes_from_the_frames_what_it_leaves_to_images(tmp_path: Path):
    geometry = stream_geometry(CrystfelStream(write_stream(tmp_path)))
    first, second = geometry.given.geometry.panels
    assert geometry.given.geometry.wavelength == pytest.approx(1.0, abs=1e-5)
    assert first.origin_mm == pytest.approx((-1.25, 0.8, -100.0))
    assert geometry.given.gain == 4
    assert (first.slow_start, second.slow_start) == (0, 20)
    panels = np.array([0, 1, -1], np.int32)
    assert geometry.in_image(np.array([3.0, 3.0, 3.0]), panels).tolist() == [3.0, 23.0, 3.0]


def test_a_stream_larger_than_a_block_is_read_to_its_end(tmp_path: Path):
    n = 2 * BLOCK // len(INDEXED)
    stream = CrystfelStream(write_stream(tmp_path, HEADER, INDEXED * n, BLANK))
    assert len(stream) == n + 1
    frames = list(stream.frames(n - 3))
    assert [len(frame.crystals) for frame in frames] == [1, 1, 1, 0]
    assert sum(len(frame.crystals) for frame in stream.frames(0, n)) == n


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (INDEXED[: INDEXED.index("--- End crystal")], "no end"),
        (INDEXED[: INDEXED.index("num_peaks")], "no end"),
        (INDEXED.replace("End of peak list\n", ""), "list of peaks"),
        (INDEXED.replace("End of reflections\n", ""), "list of reflections"),
        (INDEXED.replace("-68.00", "-6z.00"), "0    2    0     -6z.00"),
        (INDEXED.replace("   5.0 p1", "   5.0"), r"-3    0   10 "),
        (INDEXED.replace("   1    0    0 ", " 1.5    0    0 "), "whole numbers"),
        (INDEXED.replace("bstar = ", "bstar is "), "bstar is missing"),
        (INDEXED.replace("+0.2500000 nm", "+0.0000000 nm"), "no volume"),
        (INDEXED.replace("photon_energy_eV = 12398", "photon_energy_eV = -12398", 1), "photon_energy_eV"),
        (INDEXED.replace("Image filename: /data/run1.h5\n", ""), "filename"),
    ],
    ids=range(11),
)
def test_a_damaged_chunk_says_why_and_costs_its_frame_only(tmp_path: Path, chunk: str, problem: str):
    whole, damaged, after = CrystfelStream(write_stream(tmp_path, HEADER, INDEXED, chunk, INDEXED)).frames()
    assert (whole.problem, after.problem) == ("", "")
    assert problem in damaged.problem
    assert len(after.crystals) == 1


def test_a_crystal_that_was_not_integrated_has_no_reflections(tmp_path: Path):
    chunk = INDEXED.replace("Reflections measured after indexing\n" + REFLECTIONS, "")
    (frame,) = CrystfelStream(write_stream(tmp_path, HEADER, chunk)).frames()
    assert len(frame.crystals[0].reflections) == 0


def test_several_crystals_of_a_frame_are_kept_apart(tmp_path: Path):
    other = CRYSTAL.replace("   1    0    0 ", "   7    0    0 ")
    chunk = INDEXED.replace(CRYSTAL, CRYSTAL + other)
    (frame,) = CrystfelStream(write_stream(tmp_path, HEADER, chunk)).frames()
    assert [crystal.reflections.hkl[0, 0] for crystal in frame.crystals] == [1, 7]


def test_streams_behind_each_other_are_one_unless_their_geometries_differ(tmp_path: Path):
    stream = CrystfelStream(write_stream(tmp_path, HEADER, BLANK, HEADER, INDEXED))
    assert [len(frame.crystals) for frame in stream.frames()] == [0, 1]
    moved = HEADER.replace("corner_x = 12.5", "corner_x = 12.6")
    with pytest.raises(ImageReadError, match=r"both\.stream: from byte \d+ on .* geometry differs"):
        CrystfelStream(write_stream(tmp_path, HEADER, BLANK, moved, INDEXED, name="both.stream"))


def test_format_2_2_names_no_panels_and_needs_a_geometry_file(tmp_path: Path):
    text = "".join([HEADER.replace("format 2.3", "format 2.2"), NOT_INDEXED, INDEXED])
    text = text.replace(GEOMETRY, "").replace(" p0\n", "\n").replace(" p1\n", "\n").replace(" panel\n", "\n")
    text = text.replace("----- Begin geometry file -----\n----- End geometry file -----\n", "")
    stream = CrystfelStream(write_stream(tmp_path, text))
    frame = list(stream.frames())[1]
    assert frame.problem == ""
    assert len(frame.crystals[0].reflections) == 3
    with pytest.raises(GeometryError, match="--geometry"):
        stream_geometry(stream)
    geometry_file = tmp_path / "x.geom"
    geometry_file.write_text(GEOMETRY)
    assert stream_geometry(stream, geometry_file).given.gain == 4


@pytest.mark.parametrize("first", ["CrystFEL stream format 2.1", "CrystFEL stream format 9.0"])
def test_other_versions_are_refused(tmp_path: Path, first: str):
    path = write_stream(tmp_path, f"{first}\n", CELL, head(0, 0))
    with pytest.raises(ImageReadError, match=r"format 2\.2 and 2\.3 are read"):
        CrystfelStream(path)


def test_other_files_are_no_streams(tmp_path: Path):
    path = tmp_path / "x.stream"
    path.write_text("no stream at all\n")
    assert not is_stream(path)
    assert not is_stream(tmp_path / "missing.stream")
    with pytest.raises(ImageReadError, match="name a CrystFEL stream"):
        CrystfelStream(path)
    with pytest.raises(ImageReadError, match="No such file"):
        CrystfelStream(tmp_path / "missing.stream")
