"""The two files that ISPyB's page reads, exactly as it reads them."""

import json
import math
from pathlib import Path

import pytest

from ispyb_io.ssx_files import write_ssx_cells, write_ssx_stats


def test_stats_have_the_four_keys_that_py_ispyb_wants(tmp_path: Path):
    path = write_ssx_stats(tmp_path, n_hits=800, n_indexed=640, lattice_type="tP", estimated_resolution=1.8)
    assert path == tmp_path / "ssx_stats.json"
    assert json.loads(path.read_text()) == {
        "nbHits": 800,
        "nbIndexed": 640,
        "laticeType": "tP",
        "estimatedResolution": 1.8,
    }


def test_stats_never_hold_a_null(tmp_path: Path):
    path = write_ssx_stats(tmp_path, n_hits=0, n_indexed=0, lattice_type="tP", estimated_resolution=None)
    assert json.loads(path.read_text())["estimatedResolution"] == 0.0


@pytest.mark.parametrize("resolution", [math.nan, math.inf])
def test_a_resolution_that_is_no_number_is_an_error(tmp_path: Path, resolution: float):
    with pytest.raises(ValueError, match="estimated resolution"):
        write_ssx_stats(tmp_path, n_hits=1, n_indexed=1, lattice_type="tP", estimated_resolution=resolution)


def test_more_indexed_frames_than_hits_are_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="5 indexed frames of 4 hits"):
        write_ssx_stats(tmp_path, n_hits=4, n_indexed=5, lattice_type="tP", estimated_resolution=1.8)


def test_cells_are_rows_of_six(tmp_path: Path):
    cells = [(79.1, 79.1, 37.9, 90, 90, 90), (79.3, 79.2, 38.0, 90, 90, 90)]
    path = write_ssx_cells(tmp_path / "new", cells)
    assert json.loads(path.read_text()) == {"unit_cells": [list(map(float, cell)) for cell in cells]}


@pytest.mark.parametrize("cell", [(79.1, 79.1, 37.9), (79.1, 79.1, math.nan, 90, 90, 90)])
def test_a_wrong_cell_is_an_error_and_leaves_the_former_file(tmp_path: Path, cell: tuple[float, ...]):
    former = write_ssx_cells(tmp_path, []).read_text()
    with pytest.raises(ValueError, match="1 of 1 cells are not six finite numbers"):
        write_ssx_cells(tmp_path, [cell])
    assert (tmp_path / "ssx_cells.json").read_text() == former


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path: Path):
    for n in (1, 2):
        path = write_ssx_stats(tmp_path, n_hits=n, n_indexed=0, lattice_type="tP", estimated_resolution=None)
    assert json.loads(path.read_text())["nbHits"] == 2
    assert list(tmp_path.iterdir()) == [path]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
