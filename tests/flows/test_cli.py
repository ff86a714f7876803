"""The ``ssx`` command says what is wrong in one line and ends with status 1."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from flows.cli_input import parse_cell, parse_settings
from ssx_processing.errors import SettingsError
from ssx_processing.simulation.chip import SimulatedChip
from tests.command_line import ssx

LYSOZYME = ("--cell", "79.1,79.1,37.9,90,90,90", "--space-group", "P43212")


def line_of_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def images(own_chip: SimulatedChip) -> Path:
    return own_chip.master


def of_no_known_format(images: Path) -> None:
    images.write_text("no image at all\n" * 100)


def truncated(images: Path) -> None:
    images.write_bytes(images.read_bytes()[:1000])


def with_a_truncated_data_file(images: Path) -> None:
    data = images.with_name("chip_data_000002.h5")
    data.write_bytes(data.read_bytes()[:100_000])


def with_a_missing_data_file(images: Path) -> None:
    images.with_name("chip_data_000001.h5").unlink()


def without_frames(images: Path) -> None:
    with h5py.File(images, "r+") as file:
        del file["entry/data/data"]
        file.create_dataset("entry/data/data", data=np.empty((0, 1062, 1028), np.uint16))


def missing(images: Path) -> None:
    images.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, r"no such file"),
        (of_no_known_format, r"format|dxtbx"),
        (truncated, r"truncated, 1000 of \d+ bytes"),
        (with_a_truncated_data_file, r"chip_data_000002\.h5: truncated"),
        (with_a_missing_data_file, r"chip_data_000001\.h5.*missing"),
        (without_frames, r"no frames"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_images_are_one_line_that_names_the_file(
    images: Path, spoil: Callable[[Path], None], message: str, tmp_path: Path
):
    spoil(images)
    line = line_of_error(ssx("process", images, *LYSOZYME, "--out", tmp_path / "out", cwd=tmp_path))
    assert line.startswith("ssx: ")
    assert images.name.removesuffix("_master.h5") in line
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*LYSOZYME[:2], "--space-group", "P212121x"), "space group 'P212121x' is not known"),
        ((*LYSOZYME, "--set", "spots.min_snr=-4"), "spots.min_snr: Input should be greater than 0, got '-4'"),
    ],
)
def test_wrong_settings_are_one_line(
    chip: SimulatedChip, arguments: tuple[str, ...], message: str, tmp_path: Path
):
    line = line_of_error(ssx("process", chip.master, *arguments, "--out", tmp_path / "out", cwd=tmp_path))
    assert message in line


def test_words_that_are_no_cell_and_no_setting_are_told():
    with pytest.raises(SettingsError, match=r"^--cell 79,78: expected six numbers"):
        parse_cell("79,78")
    with pytest.raises(SettingsError, match=r"^--set spots: expected section.name=value"):
        parse_settings(["spots"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("process", "--group", "1"), "no ISPyB is configured"),
        (("watch",), "no ISPyB is configured"),
        (("merge", "./nowhere"), "nowhere/ssx-ledger.sqlite: no such database file"),
        (("merge", "nowhere"), "there is no processing group nowhere; ssx groups lists them"),
        (("show", "7"), "group 7 has no result"),
        (("process", *LYSOZYME), "give either image files or the id of a group"),
        (("process", "a.h5", *LYSOZYME), "need a folder; give --out DIR"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path):
    assert message in line_of_error(ssx(*arguments, cwd=tmp_path))


def test_wrong_requests_leave_nothing_behind(tmp_path: Path):
    ssx("process", "a.h5", *LYSOZYME, "--out", "out", cwd=tmp_path)
    ssx("merge", "./nowhere", cwd=tmp_path)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_wrong_address_of_ispyb_is_one_line_without_the_password(tmp_path: Path):
    url = "mysql+pymysql://me:secret@127.0.0.1:1/ispyb"
    line = line_of_error(ssx("ispyb", "check", cwd=tmp_path, SSX_ISPYB_URL=url))
    assert "127.0.0.1" in line
    assert "secret" not in line


@pytest.mark.slow
def test_the_demonstration_runs_a_second_time_does_nothing_and_its_result_is_exported(tmp_path: Path):
    first = ssx("demo", "--folder", "demo", "--frames", "60", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for name in ("frame_hits", "lattices_merged", "CC1/2", "CC to the truth", "merged.mtz", "report.html"):
        assert name in first.stdout
    second = ssx("demo", "--folder", "demo", "--frames", "60", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "nothing is simulated, processed or recorded again" in second.stdout
    (outcome,) = (tmp_path / "demo").rglob("outcome.json")
    exported = ssx("export", outcome.parent, "--out", "files", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "files" / f"{outcome.parent.name}.mtz").is_file()
