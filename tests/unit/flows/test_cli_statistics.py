"""``ssx statistics``: what is printed of unmerged files, alone and side by side, and of what is refused."""

import re
from pathlib import Path

import pytest

from flows.messages import one_line


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    return real_data / "rotation_unmerged_for_merging_stats" / "raw"


def last_row(output: str, limits: str) -> list[str]:
    (row,) = re.findall(rf"^ *{limits} +(.*)$", output, re.MULTILINE)
    return row.split()


def test_shells_and_all_data_of_a_file_are_printed_as_iotbx_prints_them(given, folder: Path):
    done = given("statistics", folder / "gamma_HKLOUT_unmerged.mtz", "--shells", 4)
    assert done.exit_code == 0, done.output
    assert "P 21 21 21  34.15  54.81  68.00  90.00  90.00  90.00" in done.output
    assert last_row(done.output, "34.00-1.79") == [
        "44953", "12182", "0.974", "3.7", "16.2", "0.051", "0.060", "0.030", "0.044", "0.998(0)", "0.999",
        "0.515", "0.913",
    ]  # fmt: skip
    assert len(re.findall(r"^ *\d+\.\d\d-\d\.\d\d ", done.output, re.MULTILINE)) == 5
    assert "note: 37 observations of systematically absent reflections left out" in done.output


def test_friedel_mates_are_kept_apart_on_request(given, folder: Path):
    done = given("statistics", folder / "gamma_HKLOUT_unmerged.mtz", "--anomalous", "--shells", 2)
    assert last_row(done.output, "34.00-1.79")[1:3] == ["21874", "0.946"]


def test_two_files_are_compared_over_the_resolution_of_both(given, folder: Path):
    done = given(
        "statistics", folder / "gamma_HKLOUT_unmerged.mtz", folder / "hypf_unmerged.mtz", "--d-min", 3
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"│ Å +│ +29.22-3.00 │ +29.22-3.00 │", done.output)
    assert re.search(r"│ Rmerge +│ +0.03\d │ +0.7\d\d │", done.output)
    assert "files are compared over the resolution that all of them reach" in done.output


def test_a_merged_file_and_no_result_are_errors(given, folder: Path, tmp_path: Path):
    merged = given("statistics", folder / "AUTOMATIC_DEFAULT_scaled.mtz")
    assert merged.exit_code == 1
    assert "is merged: no batches" in one_line(merged.exception)
    nothing = given("statistics", tmp_path)
    assert nothing.exit_code == 1
    assert "no result here" in one_line(nothing.exception)
