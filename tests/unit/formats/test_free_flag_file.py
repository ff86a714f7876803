"""Free flags taken over from another MTZ file."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import SettingsError
from ssx_processing.formats.free_flag_file import copied_free_flags
from ssx_processing.kernels.free_flags import free_flags
from ssx_processing.models import UnitCell

CELL: UnitCell = (79.2, 79.2, 38.0, 90.0, 90.0, 90.0)
SPACE_GROUP = "P 43 21 2"
HKL = gemmi.make_miller_array(gemmi.UnitCell(*CELL), gemmi.SpaceGroup(SPACE_GROUP), 4.0)
OWN = free_flags(HKL, CELL, SPACE_GROUP)


def write_flags(
    path: Path, hkl: np.ndarray, flags: np.ndarray, label: str = "FreeR_flag", cell: UnitCell = CELL
) -> Path:
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(SPACE_GROUP)
    mtz.set_cell_for_all(gemmi.UnitCell(*cell))
    mtz.add_dataset("refined")
    mtz.add_column(label, "I")
    mtz.set_data(np.column_stack([hkl, flags]).astype(np.float32))
    mtz.write_to_file(str(path))
    return path


def copied(path: Path, space_group: str = SPACE_GROUP) -> np.ndarray:
    return copied_free_flags(path, HKL, OWN, unit_cell=CELL, space_group=space_group)


def test_ccp4s_flags_are_kept_and_ours_fill_the_gaps(tmp_path: Path, rng: np.random.Generator):
    theirs = rng.integers(0, 20, len(HKL))
    known = HKL[:300]
    found = copied(write_flags(tmp_path / "a.mtz", known, theirs[:300]))
    assert found[:300].tolist() == theirs[:300].tolist()
    assert found[300:].tolist() == OWN[300:].tolist()


def test_the_rarer_of_two_values_is_the_test_set(tmp_path: Path, rng: np.random.Generator):
    test = rng.random(len(HKL)) < 0.05
    of_phenix = copied(write_flags(tmp_path / "a.mtz", HKL, test.astype(int), "R-free-flags"))
    of_others = copied(write_flags(tmp_path / "b.mtz", HKL, (~test).astype(int)))
    assert ((of_phenix == 0) == test).all()
    assert ((of_others == 0) == test).all()


def test_equivalent_reflections_of_the_file_are_recognised(tmp_path: Path, rng: np.random.Generator):
    theirs = rng.integers(0, 20, len(HKL))
    moved = HKL[:, [1, 0, 2]] * [1, 1, -1]  # a two-fold of 422
    assert copied(write_flags(tmp_path / "a.mtz", moved, theirs)).tolist() == theirs.tolist()


def test_a_file_without_flags_or_of_another_crystal_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="no column with free flags"):
        copied(write_flags(tmp_path / "a.mtz", HKL, OWN, "IMEAN"))
    with pytest.raises(SettingsError, match="its cell is 60"):
        copied(write_flags(tmp_path / "b.mtz", HKL, OWN, cell=(60.0, 60.0, 38.0, 90.0, 90.0, 90.0)))
    with pytest.raises(SettingsError, match="its space group is P 43 21 2, that of the result P 43"):
        copied(write_flags(tmp_path / "c.mtz", HKL, OWN), "P 43")
    with pytest.raises(SettingsError, match="all flags in FreeR_flag are the same"):
        copied(write_flags(tmp_path / "d.mtz", HKL, np.ones(len(HKL))))
    (tmp_path / "e.mtz").write_text("not an MTZ")
    with pytest.raises(SettingsError, match="not readable as MTZ"):
        copied(tmp_path / "e.mtz")
