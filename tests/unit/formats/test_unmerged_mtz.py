"""Unmerged MTZ files written here: indices, columns, rows that are left out."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.formats.unmerged_mtz import read_unmerged_mtz

ROWS = [  # h k l M/ISYM BATCH value sigma; ISYM 2 is the Friedel mate, 3 another operator of P 21 21 21
    [1, 2, 3, 1, 1, 10.0, 1.0],
    [1, 2, 3, 2, 1, 20.0, 1.0],
    [1, 2, 3, 3, 2, 30.0, 1.0],
    [1, 2, 4, 257, 2, 40.0, 1.0],
    [1, 2, 5, 1, 2, 50.0, 0.0],
    [1, 2, 6, 1, 2, np.nan, 1.0],
]


def written(path: Path, *columns: tuple[str, str]) -> Path:
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 21 21 21")
    mtz.set_cell_for_all(gemmi.UnitCell(30, 40, 50, 90, 90, 90))
    for label, column_type in (("M/ISYM", "Y"), ("BATCH", "B"), *columns):
        mtz.add_column(label, column_type)
    mtz.set_data(np.array(ROWS, np.float32))
    mtz.write_to_file(str(path))
    return path


def test_indices_are_those_measured_and_useless_rows_are_left_out(tmp_path: Path):
    data = read_unmerged_mtz(written(tmp_path / "x.mtz", ("I", "J"), ("SIGI", "Q")))
    assert data.hkl[:2].tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert sorted(np.abs(data.hkl[2]).tolist()) == [1, 2, 3]
    assert data.hkl[2].tolist() not in data.hkl[:2].tolist()
    assert data.intensity.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert (data.n_rows, data.n_partial) == (6, 1)
    assert data.space_group == "P 21 21 21"


def test_the_first_intensity_with_a_sigma_is_taken_where_none_is_called_i(tmp_path: Path):
    data = read_unmerged_mtz(written(tmp_path / "x.mtz", ("IPR", "J"), ("SIGIPR", "Q")))
    assert data.labels == ("IPR", "SIGIPR")


def test_a_file_without_sigmas_is_refused_with_what_it_has(tmp_path: Path):
    path = written(tmp_path / "x.mtz", ("I", "J"), ("LP", "R"))
    with pytest.raises(MergeError, match=r"expected I and SIGI, got H \(H\), .*I \(J\), LP \(R\)"):
        read_unmerged_mtz(path)
