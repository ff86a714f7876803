"""``ssx cells`` on a small chip: what is printed, written and said where nothing is found."""

import re
from pathlib import Path

import pytest

from flows.messages import one_line
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings


@pytest.fixture(scope="module")
def crystals(tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    settings = ChipSettings(name="found", n_frames=40, n_files=1, hit_fraction=0.8, seed=4)
    return simulate_chip(tmp_path_factory.mktemp("cells"), settings)


def test_the_cell_of_a_chip_is_printed_with_the_command_that_uses_it(given, crystals, tmp_path: Path):
    done = given("cells", crystals.master, "--frames", 40)
    assert done.exit_code == 0, done.output
    row = re.search(r"tP +│ ([\d.]+) ([\d.]+) ([\d.]+) 90.00 90.00 90.00 │ (\d+) = ", done.output)
    assert row is not None, done.output
    a, b, c, n_hits = (float(text) for text in row.groups())
    assert (a, b, c) == pytest.approx((79.1, 79.1, 37.9), rel=0.004)
    assert n_hits >= 28
    command = re.search(r"ssx process (\S+) --cell (\S+) --space-group P422 --out DIR", done.output)
    assert command is not None
    assert Path(command[1]) == crystals.master
    assert float(command[2].split(",")[0]) == pytest.approx(a, abs=0.01)
    page = (tmp_path / "found_master_cells.html").read_text()
    assert "tP" in page
    assert "plotly" in page


def test_where_no_cell_can_be_found_it_is_said_why(given, tmp_path: Path):
    blank = simulate_chip(tmp_path, ChipSettings(name="blank", n_frames=10, n_files=1, hit_fraction=0.0))
    done = given("cells", blank.master, "--frames", 10)
    assert done.exit_code == 1
    assert done.exception is not None
    assert "no cell found; there are only 0 hits among the frames looked at" in one_line(done.exception)
    assert not list(tmp_path.glob("*.html"))


def test_a_page_that_is_none_is_refused(given, crystals):
    done = given("cells", crystals.master, "--out", "cells.pdf")
    assert done.exit_code == 1
    assert "--out cells.pdf: name a .html page" in one_line(done.exception)
