"""Merged intensities against references of every kind: found equal, found in the other setting, refused."""

from pathlib import Path

import gemmi
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import ReferenceFileError
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit
from ssx_processing.models import ReferenceCheck
from ssx_processing.pipeline.reference_check import cell_difference, check_reference

CELL = (42.0, 42.0, 55.0, 90.0, 90.0, 120.0)
GROUP = "P 63"  # indexed in two ways
D_MIN = 2.5


@pytest.fixture(scope="module")
def model() -> gemmi.Structure:
    """A blob of atoms at random places in the asymmetric unit: most of the cell is solvent."""
    rng = np.random.default_rng(3)
    structure = gemmi.Structure()
    structure.cell, structure.spacegroup_hm = gemmi.UnitCell(*CELL), GROUP
    residue = gemmi.Residue()
    residue.name, residue.seqid = "ALA", gemmi.SeqId("1")
    for i in range(120):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.b_iso = f"C{i}", gemmi.Element("C"), float(rng.uniform(15, 25))
        atom.pos = gemmi.Position(*rng.normal((14.0, 8.0, 12.0), 5.0))
        residue.add_atom(atom)
    chain = gemmi.Chain("A")
    chain.add_residue(residue)
    first = gemmi.Model(1)
    first.add_chain(chain)
    structure.add_model(first)
    structure.setup_entities()
    structure.setup_cell_images()
    return structure


@pytest.fixture(scope="module")
def unit() -> AsymmetricUnit:
    return asymmetric_unit(CELL, GROUP, D_MIN)


@pytest.fixture(scope="module")
def truth(model: gemmi.Structure, unit: AsymmetricUnit) -> NDArray[np.float64]:
    """|F|² of the model, without solvent."""
    calculator = gemmi.StructureFactorCalculatorX(model.cell)
    return np.array(
        [abs(calculator.calculate_sf_from_model(model[0], hkl)) ** 2 for hkl in unit.hkl.tolist()]
    )


@pytest.fixture(scope="module")
def merged(truth: NDArray[np.float64], unit: AsymmetricUnit) -> NDArray[np.float64]:
    """On another scale, with another B, an error of 10 %, and a tenth not measured."""
    rng = np.random.default_rng(4)
    values = 0.3 * np.exp(-2 * 5.0 * unit.s_squared) * truth * (1 + rng.normal(0, 0.1, len(truth)))
    values[rng.random(len(truth)) < 0.1] = np.nan
    return values


def write_mtz(path: Path, hkl: np.ndarray, values: np.ndarray, label: str, column_type: str) -> Path:
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(GROUP)
    mtz.set_cell_for_all(gemmi.UnitCell(*CELL))
    mtz.add_dataset("other")
    mtz.add_column(label, column_type)
    mtz.set_data(np.column_stack([hkl, values]).astype(np.float32))
    mtz.write_to_file(str(path))
    return path


def check(path: Path, unit: AsymmetricUnit, merged: NDArray[np.float64]) -> ReferenceCheck:
    return check_reference(path, unit, merged, np.full(len(unit), 1.0), d_max=40.0, d_min=D_MIN, n_shells=5)


@pytest.mark.parametrize(
    ("label", "kind", "power"), [("IMEAN", "J", 1.0), ("FP", "F", 0.5), ("FC", "F", 0.5)]
)
def test_an_mtz_of_the_same_crystal_fits(
    tmp_path: Path,
    unit: AsymmetricUnit,
    truth: np.ndarray,
    merged: np.ndarray,
    label: str,
    kind: str,
    power: float,
):
    found = check(write_mtz(tmp_path / "other.mtz", unit.hkl, truth**power, label, kind), unit, merged)
    assert found.source == f"{label} of other.mtz"
    assert found.n_common == np.isfinite(merged).sum()
    assert found.cc > 0.98
    assert min(found.cc_shells) > 0.97
    assert found.r_iso < 0.07
    assert (found.k, found.b_factor) == pytest.approx((1 / 0.3, -5.0), rel=0.05)
    assert found.verdict == "isomorphous"


def test_the_other_way_of_indexing_is_noticed(
    tmp_path: Path, unit: AsymmetricUnit, truth: np.ndarray, merged: np.ndarray
):
    h, k, l = unit.hkl.T  # noqa: E741
    other = np.column_stack([k, h, -l])
    found = check(write_mtz(tmp_path / "other.mtz", other, truth, "I", "J"), unit, merged)
    (operator,) = set(found.cc_settings) - {"h,k,l"}
    assert found.cc_settings[operator] > 0.98
    assert found.cc == found.cc_settings["h,k,l"] < 0.6
    assert f"indexed as {operator} the merge would fit it better" in found.verdict


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_a_model_fits_with_its_solvent(
    tmp_path: Path, unit: AsymmetricUnit, model: gemmi.Structure, merged: np.ndarray, suffix: str
):
    path = tmp_path / f"model.{suffix}"
    if suffix == "pdb":
        model.write_pdb(str(path))
    else:
        model.make_mmcif_document().write_file(str(path))
    found = check(path, unit, merged)
    assert found.source == f"F of the model model.{suffix}"
    assert found.cc > 0.98
    assert found.r_iso < 0.08
    assert found.verdict == "isomorphous"
    assert min(found.cc_settings, key=lambda name: found.cc_settings[name]) != "h,k,l"


def test_structure_factors_in_mmcif_fit(
    tmp_path: Path, unit: AsymmetricUnit, truth: np.ndarray, merged: np.ndarray
):
    mtz = write_mtz(tmp_path / "other.mtz", unit.hkl, truth, "IMEAN", "J")
    path = tmp_path / "other-sf.cif"
    writer = gemmi.MtzToCif()
    writer.spec_lines = ["H H index_h", "K H index_k", "L H index_l", "IMEAN J intensity_meas"]
    path.write_text(writer.write_cif_to_string(gemmi.read_mtz_file(str(mtz))))
    found = check(path, unit, merged)
    assert found.source == "intensity_meas of other-sf.cif"
    assert found.cc > 0.98


def test_another_cell_and_unrelated_intensities_are_told(
    tmp_path: Path, unit: AsymmetricUnit, merged: np.ndarray, rng: np.random.Generator
):
    path = write_mtz(tmp_path / "other.mtz", unit.hkl, rng.exponential(1.0, len(unit)), "IMEAN", "J")
    mtz = gemmi.read_mtz_file(str(path))
    mtz.set_cell_for_all(gemmi.UnitCell(43.0, 43.0, 55.0, 90, 90, 120))
    mtz.write_to_file(str(path))
    found = check(path, unit, merged)
    assert found.verdict.startswith("not isomorphous: the cell differs by 2.4 % and 0.0°; Riso is 0.")
    assert abs(found.cc) < 0.1


def test_cells_are_compared_by_edges_and_angles():
    assert cell_difference(CELL, (42.0, 42.0, 55.55, 90.0, 90.0, 121.0)) == (0.01, 0.55, 1.0)


def test_files_that_cannot_be_compared_with_are_refused_by_name(
    tmp_path: Path, unit: AsymmetricUnit, merged: np.ndarray
):
    phases = write_mtz(tmp_path / "phases.mtz", unit.hkl, np.ones(len(unit)), "PHI", "P")
    few = write_mtz(tmp_path / "few.mtz", unit.hkl[:20], np.ones(20), "I", "J")
    (tmp_path / "empty.pdb").write_text("REMARK nothing\n")
    (tmp_path / "notes.txt").write_text("no")
    (tmp_path / "broken.mtz").write_bytes(b"MTZ nothing")
    for path, words in (
        (phases, r"phases\.mtz: no intensities .*PHI \(P\)"),
        (few, r"few\.mtz: \d+ reflections in common"),
        (tmp_path / "empty.pdb", r"empty\.pdb: neither a model"),
        (tmp_path / "notes.txt", r"notes\.txt: expected \.mtz"),
        (tmp_path / "broken.mtz", r"broken\.mtz: cannot be read"),
        (tmp_path / "none.mtz", r"none\.mtz: no such file"),
    ):
        with pytest.raises(ReferenceFileError, match=words):
            check(path, unit, merged)
