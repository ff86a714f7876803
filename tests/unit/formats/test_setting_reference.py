"""The reference for the indexing setting: written, read, and left once only."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.formats.setting_reference import (
    SettingReferenceTable,
    keep_setting_reference,
    read_setting_reference,
    write_setting_reference,
)
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.models import UnitCell

CELL: UnitCell = (40.0, 40.0, 50.0, 90.0, 90.0, 90.0)


@pytest.fixture
def reference(rng: np.random.Generator) -> SettingReferenceTable:
    hkl = asymmetric_unit(CELL, "P 4", 3.0).hkl
    return SettingReferenceTable(CELL, "P 4", "0123", 7, hkl, rng.normal(size=len(hkl)), rng.random(len(hkl)))


def test_a_reference_is_read_as_written(tmp_path: Path, reference: SettingReferenceTable):
    path = tmp_path / "indexing_reference.parquet"
    write_setting_reference(path, reference)
    again = read_setting_reference(path)
    for name in ("hkl", "amplitude", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))
    assert (again.unit_cell, again.space_group, again.key, again.n_lattices) == (CELL, "P 4", "0123", 7)
    assert len(again.sha256) == 64


def test_the_first_reference_stays(tmp_path: Path, reference: SettingReferenceTable):
    path = tmp_path / "sample" / "indexing_reference.parquet"
    assert keep_setting_reference(path, reference)
    assert keep_setting_reference(path, reference)
    assert not keep_setting_reference(path, replace(reference, key="4567"))
    assert read_setting_reference(path).key == "0123"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("label", "power"), [("J", 1.0), ("F", 0.5)])
def test_an_mtz_gives_normalised_amplitudes(
    tmp_path: Path, rng: np.random.Generator, label: str, power: float
):
    unit = asymmetric_unit(CELL, "P 4", 2.5)
    intensity = rng.exponential(1.0, len(unit))
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 4")
    mtz.add_dataset("model")
    mtz.set_cell_for_all(gemmi.UnitCell(*CELL))
    mtz.add_column("X", label)
    values = (500 * intensity * np.exp(-40 * unit.s_squared)) ** power
    mtz.set_data(np.column_stack([unit.hkl, values]).astype(np.float32))
    mtz.write_to_file(str(tmp_path / "model.mtz"))
    found = read_setting_reference(tmp_path / "model.mtz")
    expected = np.sqrt(intensity)[unit.find(*found.hkl.T)[0]]
    assert len(found.hkl) == len(unit)
    assert np.corrcoef(found.amplitude, expected)[0, 1] > 0.98


def test_a_damaged_reference_is_refused(tmp_path: Path):
    path = tmp_path / "indexing_reference.parquet"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MergeError, match="not readable as a reference"):
        read_setting_reference(path)
