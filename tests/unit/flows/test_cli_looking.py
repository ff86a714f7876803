"""``ssx view``, ``ssx tune`` and ``ssx recut`` as users give them; what is wrong is one line."""

import shlex
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flows.cli_looking import process_command
from flows.messages import one_line
from ssx_processing.formats.chunk_folder import write_chunk, write_json
from ssx_processing.models import FrameStatus
from ssx_processing.pipeline.recut import ProcessedFrames, recut
from ssx_processing.settings import ProcessingSettings, SampleSettings, SpotSettings
from ssx_processing.simulation.chip import SimulatedChip


def test_a_page_is_written_here_and_the_decision_printed(given, chip: SimulatedChip, tmp_path: Path):
    done = given("view", chip.master, "--frame", 3, "--set", "spots.min_spots_for_hit=1000")
    assert done.exit_code == 0, done.output
    decision, name = done.output.splitlines()
    assert decision.startswith("no hit: ")
    assert decision.endswith("fewer than the 1000 of spots.min_spots_for_hit")
    assert name == "chip_master_frame3.html"
    page = (tmp_path / name).read_text()
    assert decision in page
    assert '<tr class="changed"' in page


def test_a_picture_is_written_where_it_is_wanted(given, chip: SimulatedChip, tmp_path: Path):
    assert given("view", chip.master, "--ice", "--out", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as with_ice:
        assert with_ice.width == 1028
        assert given("view", chip.master, "--no-spots", "--out", tmp_path / "b.png").exit_code == 0
        with Image.open(tmp_path / "b.png") as plain:
            assert with_ice.tobytes() != plain.tobytes()


def test_tuning_prints_a_table_and_writes_a_page(given, chip: SimulatedChip, tmp_path: Path):
    done = given("tune", chip.master, "--set", "spots.min_snr=7")
    assert done.exit_code == 0, done.output
    assert "hits, and false spots on a blank" in done.output
    assert ">" in done.output
    assert "of 12 frames" in done.output
    assert "min_snr 7, min_significance" in (tmp_path / "chip_master_tuning.html").read_text()


def test_a_folder_in_the_place_of_the_page_is_refused_before_images_are_read(given, tmp_path: Path):
    (tmp_path / "a.html").mkdir()
    done = given("view", "nowhere.h5", "--out", "a.html")
    assert done.exit_code == 1
    assert "a.html: is a folder" in one_line(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("view", "CHIP", "--frame", "12"), "no frame 12: the files hold frames 0 to 11"),
        (("view", "nowhere.h5"), "nowhere.h5: no such file"),
        (("view", "CHIP", "--out", "a.pdf"), "--out a.pdf: name a .html page or a .png picture"),
        (("view", "CHIP", "--set", "spots.min_snr=high"), "spots.min_snr: Input should be a valid number"),
        (("view", "CHIP", "--set", "spots.no=1"), "spots.no: there is no such setting"),
        (("view", "CHIP", "--set", "merging.d_min=2"), "--set merging: has no say here"),
        (("view", "CHIP", "--set", "spots=5"), "spots: "),
        (("view", "CHIP", "--geometry", "no.geom"), "no.geom: No such file or directory"),
        (("tune", "CHIP", "--out", "a.png"), "--out a.png: name a .html page"),
        (("view", "CHIP", "--out", "no/a.png"), "no/a.png: there is no folder no; make it, or name another"),
        (("view", "CHIP", "--set", "min_snr=4"), "only settings of spots: --set spots.NAME=VALUE"),
        (
            ("tune", "CHIP", "--out", "no/a.html"),
            "no/a.html: there is no folder no; make it, or name another",
        ),
        (("tune", "nowhere.h5"), "nowhere.h5: no such file"),
        (("view",), "no image file was given; name one, or a result with --result"),
        (("view", "CHIP", "--lattice"), "--lattice needs a cell: give --result GROUP|FOLDER, or --cell"),
        (("view", "CHIP", "--cell", "1,2,3,4,5,6"), "--cell and --space-group have no say without --lattice"),
        (("view", "CHIP", "--result", "no", "--geometry", "a.geom"), "both say where the detector is"),
        (
            ("view", "--result", "nowhere", "--lattice"),
            "nowhere is neither a folder here nor a processing group",
        ),
        (("geometry", "./nowhere"), "nothing was processed here"),
        (("geometry", "nowhere", "--out", "a.txt"), "--out a.txt: name a file that ends in .expt or .geom"),
        (("recut", "nowhere"), "nowhere is neither a folder here nor a processing group"),
        (("recut", "7"), "group 7 was never processed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given, chip: SimulatedChip, words: tuple[str, ...], message: str):
    done = given(*(str(chip.master) if word == "CHIP" else word for word in words))
    assert done.exit_code == 1
    assert done.exception is not None
    assert message in one_line(done.exception)
    assert "\n" not in one_line(done.exception)


SETTINGS = ProcessingSettings(
    sample=SampleSettings(unit_cell=(79.1, 79.1, 37.9, 90, 90, 90), space_group="P43212"),
    spots=SpotSettings(min_snr=4.5),
    frames_per_chunk=100,
)
FRAMES = pd.DataFrame(
    [
        (0, FrameStatus.NO_HIT.value, 9, 500.0),
        (1, FrameStatus.INTEGRATED.value, 40, 9000.0),
        (2, FrameStatus.NOT_INDEXED.value, 16, 800.0),
        (3, FrameStatus.UNREADABLE.value, 0, 0.0),
    ],
    columns=["frame", "status", "n_spots", "total_intensity"],
)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What is left of a run whose images are gone."""
    write_chunk(tmp_path / "run" / "chunks" / "abc", {"frames": FRAMES}, {})
    plan = {"paths": ["/gone/chip.h5"]}
    content = {"settings": SETTINGS.model_dump(mode="json"), "plan": plan, "chunks": ["abc", "missing"]}
    write_json(tmp_path / "run" / "plan.json", content)
    return tmp_path / "run"


def test_cuts_around_the_one_used_are_listed_without_the_images(given, run_folder: Path):
    done = given("recut", run_folder)
    assert done.exit_code == 0, done.output
    assert "3 frames; > the cut used" in done.output
    assert "> 15" in done.output
    assert "left out: 1 unreadable frames, 1 missing chunks" in done.output
    assert "To make it so" not in done.output


def test_a_cut_asked_for_tells_what_is_won_and_lost_and_what_to_run(given, run_folder: Path):
    lower = given("recut", run_folder, "--min-spots", 8)
    assert "3 of 3 frames would be hits." in lower.output
    assert "New: 1. They were no hits, so they have not been indexed" in lower.output
    assert "ssx process /gone/chip.h5 --cell 79.1,79.1,37.9,90,90,90" in lower.output
    assert "spots.min_spots_for_hit=8" in lower.output
    brighter = given("recut", run_folder, "--min-signal", 1000)
    assert "1 of 3 frames would be hits." in brighter.output
    assert "Lost: 1, of which 0 are indexed." in brighter.output
    assert "Nothing would change." in given("recut", run_folder, "--min-spots", 15).output


def test_the_command_for_another_cut_keeps_all_other_settings():
    processed = ProcessedFrames(SETTINGS, (Path("/data/my chip.h5"),), "/data/a.geom", FRAMES[:2], 0, 0)
    cut = recut(processed, 8, 0.0)
    assert (cut.n_hits, cut.n_new, cut.n_lost) == (2, 1, 0)
    words = shlex.split(process_command(processed, cut, None, Path("/out")))
    assert words == [
        "ssx", "process", "/data/my chip.h5", "--cell", "79.1,79.1,37.9,90,90,90", "--space-group", "P43212",
        "--out", "/out", "--geometry", "/data/a.geom", "--set", "spots.min_snr=4.5", "--set",
        "spots.min_spots_for_hit=8", "--set", "frames_per_chunk=100",
    ]  # fmt: skip
    assert process_command(processed, cut, 7, None).startswith("ssx process --group 7 --geometry")
