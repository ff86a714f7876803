"""Merged MTZ files as gemmi reads them back."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.formats.mtz import MergedIntensities, write_merged_mtz
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit
from ssx_processing.models import UnitCell
from tests.unit.formats.file_limits import no_file_beyond

CELL: UnitCell = (79.2, 79.2, 38.0, 90.0, 90.0, 90.0)


@pytest.fixture
def unit() -> AsymmetricUnit:
    return asymmetric_unit(CELL, "P 43 21 2", 4.0)


@pytest.fixture
def merged(unit: AsymmetricUnit) -> MergedIntensities:
    n = len(unit)
    intensity = np.linspace(1.0, 500.0, n)
    minus = np.where(unit.centric, np.nan, intensity + 3)
    return MergedIntensities(
        hkl=unit.hkl,
        intensity=intensity,
        sigma=0.1 * intensity,
        intensity_plus=intensity - 3,
        sigma_plus=0.2 * intensity,
        intensity_minus=minus,
        sigma_minus=0.3 * minus,
        n=np.arange(n) % 7 + 3,
        n_plus=np.arange(n) % 7 + 1,
        n_minus=np.full(n, 2),
        free_flag=np.arange(n) % 20,
    )


@pytest.fixture
def mtz(merged: MergedIntensities, tmp_path: Path) -> gemmi.Mtz:
    path = tmp_path / "merged.mtz"
    write_merged_mtz(
        path,
        merged,
        unit_cell=CELL,
        space_group="P43212",
        wavelength=0.9763,
        history=["ssx-orchestrator merge 0123456789abcdef", "x" * 200],
    )
    return gemmi.read_mtz_file(str(path))


def test_header_holds_cell_space_group_wavelength_and_history(mtz: gemmi.Mtz):
    assert mtz.cell.parameters == pytest.approx(CELL)
    assert mtz.spacegroup is not None
    assert mtz.spacegroup.xhm() == "P 43 21 2"
    assert mtz.dataset(1).wavelength == pytest.approx(0.9763)
    assert mtz.dataset(1).cell.parameters == pytest.approx(CELL)
    assert mtz.history[0].strip() == "ssx-orchestrator merge 0123456789abcdef"
    assert len(mtz.history[1].strip()) == 80


def test_columns_have_the_types_that_ccp4_programs_look_for(mtz: gemmi.Mtz):
    types = {column.label: column.type for column in mtz.columns}
    assert types == {
        "H": "H", "K": "H", "L": "H", "IMEAN": "J", "SIGIMEAN": "Q", "I(+)": "K", "SIGI(+)": "M",
        "I(-)": "K", "SIGI(-)": "M", "N": "I", "N(+)": "I", "N(-)": "I", "FreeR_flag": "I",
    }  # fmt: skip


def test_values_are_read_back_as_written(mtz: gemmi.Mtz, merged: MergedIntensities):
    row_of = {tuple(hkl): i for i, hkl in enumerate(merged.hkl.tolist())}
    rows = [row_of[tuple(hkl)] for hkl in mtz.make_miller_array().tolist()]
    assert sorted(rows) == list(range(len(merged.hkl)))
    for label, values in (
        ("IMEAN", merged.intensity),
        ("SIGIMEAN", merged.sigma),
        ("I(+)", merged.intensity_plus),
        ("SIGI(+)", merged.sigma_plus),
        ("I(-)", merged.intensity_minus),
        ("SIGI(-)", merged.sigma_minus),
        ("N", merged.n),
        ("N(+)", merged.n_plus),
        ("N(-)", merged.n_minus),
        ("FreeR_flag", merged.free_flag),
    ):
        assert values is not None
        found = mtz.column_with_label(label)
        assert found is not None
        assert np.allclose(found.array, values[rows], rtol=1e-6, equal_nan=True)


def test_reflections_lie_in_ccp4s_asymmetric_unit(mtz: gemmi.Mtz):
    assert mtz.spacegroup is not None
    asu = gemmi.ReciprocalAsu(mtz.spacegroup)
    assert all(asu.is_in(hkl) for hkl in mtz.make_miller_array().tolist())
    assert mtz.sort_order[:3] == [1, 2, 3]


def test_gemmi_reads_mean_and_anomalous_intensities(mtz: gemmi.Mtz, unit: AsymmetricUnit):
    mean, anomalous = gemmi.Intensities(), gemmi.Intensities()
    mean.import_mtz(mtz, gemmi.DataType.Mean)
    anomalous.import_mtz(mtz, gemmi.DataType.Anomalous)
    assert len(mean.value_array) == len(unit)
    assert len(anomalous.value_array) == len(unit) + (~unit.centric).sum()


def test_gemmi_recognises_the_free_flags(mtz: gemmi.Mtz):
    column = mtz.rfree_column()
    assert column is not None
    assert column.label == "FreeR_flag"


def test_what_was_not_kept_apart_has_no_columns(merged: MergedIntensities, tmp_path: Path):
    only_mean = MergedIntensities(merged.hkl, merged.intensity, merged.sigma, merged.n)
    write_merged_mtz(tmp_path / "a.mtz", only_mean, unit_cell=CELL, space_group="P43212", wavelength=1.0)
    labels = gemmi.read_mtz_file(str(tmp_path / "a.mtz")).column_labels()
    assert labels == ["H", "K", "L", "IMEAN", "SIGIMEAN", "N"]


def test_a_file_that_cannot_be_written_leaves_the_older_one(merged: MergedIntensities, tmp_path: Path):
    path = tmp_path / "a.mtz"
    path.write_text("older")
    broken = MergedIntensities(merged.hkl, merged.intensity, merged.sigma[:-1], merged.n)
    with pytest.raises(ValueError, match="dimension"):
        write_merged_mtz(path, broken, unit_cell=CELL, space_group="P43212", wavelength=1.0)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_a_file_that_cannot_be_written_whole_is_an_error_and_is_not_there(
    merged: MergedIntensities, tmp_path: Path
):
    with no_file_beyond(4096), pytest.raises(OSError, match="File too large"):
        write_merged_mtz(
            tmp_path / "a.mtz", merged, unit_cell=CELL, space_group="P43212", wavelength=1.0, history=[]
        )
    assert list(tmp_path.iterdir()) == []
