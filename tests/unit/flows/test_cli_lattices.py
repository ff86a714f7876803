"""``ssx view --lattice`` and ``ssx geometry`` on a small chip: what is drawn, said and written."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from flows.messages import one_line
from ssx_processing.formats.frame_reader import open_reader
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.pipeline.lattice_view import LATTICE_COLOURS
from ssx_processing.pipeline.processed_run import read_processed_run
from ssx_processing.simulation.chip import SimulatedChip
from ssx_processing.simulation.truth import read_truth


@pytest.fixture(scope="module")
def hit(chip: SimulatedChip) -> int:
    return int(np.flatnonzero(read_truth(chip.truth).frames.is_hit)[0])


def drawn(page: Path) -> dict:
    """What the page's script draws."""
    found = re.search(r'<script id="content" type="application/json">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


def test_a_result_is_enough_to_see_the_lattices_of_its_frames(
    given, calibrated: Path, hit: int, tmp_path: Path
):
    done = given("view", "--result", calibrated, "--frame", hit, "--lattice")
    assert done.exit_code == 0, done.output
    decision, count, first, *_, name = done.output.splitlines()
    assert decision.startswith("hit: ")
    assert count.startswith("1 lattice, together ")
    said = re.match(r"1: (\d+) of (\d+) spots, (\d+) reflections predicted, cell 7[89]\.\d\d 7[89]", first)
    assert said is not None
    n_indexed, n_spots, n_predicted = map(int, said.groups())
    content = drawn(tmp_path / name)
    (lattice,) = content["lattices"]
    assert lattice["colour"] == LATTICE_COLOURS[0]
    assert len(lattice["x"]) == n_predicted > n_indexed
    assert len(content["spots"]["lattice"]) == n_spots
    assert content["spots"]["lattice"].count(0) == n_indexed
    assert first in (tmp_path / name).read_text()


def test_predictions_lie_on_the_spots_they_explain(given, calibrated: Path, hit: int, tmp_path: Path):
    given("view", "--result", calibrated, "--frame", hit, "--lattice")
    content = drawn(tmp_path / f"chip_master_frame{hit}.html")
    (lattice,), spots = content["lattices"], content["spots"]
    places = np.column_stack([lattice["x"], lattice["y"]])
    mine = np.array(spots["lattice"]) == 0
    apart = np.column_stack([spots["x"], spots["y"]])[mine, None] - places[None]
    nearest = np.linalg.norm(apart, axis=2).min(axis=1)
    assert np.mean(nearest < 2.0) > 0.8


def test_a_cell_will_do_without_a_result(given, chip: SimulatedChip, hit: int, tmp_path: Path):
    sample = ("--cell", ",".join(map(str, chip.sample.unit_cell)), "--space-group", "P43212")
    done = given("view", chip.master, "--frame", hit, "--lattice", *sample, "--out", "a.png")
    assert done.exit_code == 0, done.output
    assert "1 lattice, together" in done.output
    with Image.open(tmp_path / "a.png") as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 20) or ()}
    assert tuple(bytes.fromhex(LATTICE_COLOURS[0][1:])) in colours


def test_why_there_is_no_lattice_is_said(given, chip: SimulatedChip, calibrated: Path, hit: int):
    other = ("--cell", "61,72,113,90,90,90", "--space-group", "P212121")
    done = given("view", chip.master, "--frame", hit, "--lattice", *other)
    assert "no lattice: no solution. No orientation of the expected cell explains" in done.output
    strict = ("--set", "spots.min_spots_for_hit=1000")
    done = given("view", "--result", calibrated, "--frame", hit, "--lattice", *strict)
    assert "no lattice: the frame is no hit, so none was sought" in done.output


def test_a_setting_without_a_say_in_one_frame_is_refused(given, calibrated: Path):
    done = given("view", "--result", calibrated, "--lattice", "--set", "merging.d_min=2")
    assert "--set merging: has no say here, only settings of spots and indexing" in one_line(done.exception)


@pytest.mark.parametrize("name", ["refined.expt", "refined.geom"])
def test_the_geometry_of_a_result_is_written_for_others_and_for_us(
    given, calibrated: Path, chip: SimulatedChip, name: str, tmp_path: Path
):
    done = given("geometry", calibrated, "--out", name)
    assert done.output.splitlines() == [name]
    written = read_geometry(tmp_path / name, chip.master).geometry.panels[0]
    calibration = read_processed_run(calibrated).calibration
    used = calibration.geometry.panels[0]
    np.testing.assert_allclose(written.origin_mm, used.origin_mm, rtol=0, atol=1e-6)
    own, reader = open_reader(chip.master), open_reader(chip.master, tmp_path / name)
    expected = calibration.bad_pixels if name.endswith("geom") else own.bad_pixels
    np.testing.assert_array_equal(reader.bad_pixels, expected)
    np.testing.assert_array_equal(reader.read(3), own.read(3))
    own.close()
    reader.close()


@pytest.fixture
def group(calibrated: Path, tmp_path: Path) -> Path:
    """Folder of a group with two data collections, of which the second's images are gone."""
    for number in (1, 2):
        shutil.copytree(calibrated, tmp_path / "group" / f"collection-{number}")
    plan = tmp_path / "group" / "collection-2" / "plan.json"
    content = json.loads(plan.read_text())
    content["plan"]["paths"] = ["/gone/other.h5"]
    plan.write_text(json.dumps(content))
    return tmp_path / "group"


def test_a_file_says_which_data_collection_of_a_group_is_meant(
    given, group: Path, chip: SimulatedChip, hit: int
):
    refused = given("view", "--result", group, "--frame", hit, "--lattice")
    assert "has 2 data collections; name the file to look at, of: " in one_line(refused.exception)
    assert "/gone/other.h5" in one_line(refused.exception)
    done = given("view", chip.master, "--result", group, "--frame", hit, "--lattice")
    assert "1 lattice, together" in done.output


def test_every_data_collection_of_a_group_gets_a_geometry_file(given, group: Path, tmp_path: Path):
    done = given("geometry", group, "--out", "x.geom")
    assert done.output.splitlines() == ["x-collection-1.geom", "x-collection-2.geom"]
    texts = [(tmp_path / name).read_text() for name in done.output.splitlines()]
    assert ["data = /entry/data/data" in text for text in texts] == [True, False]


def test_a_result_of_another_detector_is_refused(given, calibrated: Path, small_master: Path):
    done = given("view", small_master, "--result", calibrated)
    assert "those of the result have (1062, 1028)" in one_line(done.exception)


@pytest.fixture
def small_master(tmp_path: Path) -> Path:
    """A DECTRIS-like master of another detector."""
    path = tmp_path / "small_master.h5"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["data/data"] = np.zeros((2, 40, 56), np.uint16)
        detector = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"] = "NXinstrument"
        detector.attrs["NX_class"] = "NXdetector"
        entry["instrument/beam/incident_wavelength"] = 1.0
        entry["instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
        for name, value in (("x_pixel_size", 1e-4), ("y_pixel_size", 1e-4), ("detector_distance", 0.1)):
            detector[name] = value
            detector[name].attrs["units"] = "m"
        for name in ("beam_center_x", "beam_center_y"):
            detector[name] = 20.0
            detector[name].attrs["units"] = "pixel"
    return path
