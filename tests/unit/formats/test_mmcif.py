"""mmCIF files of a merge: against wwPDB's dictionary, and as gemmi reads them back."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.formats.mmcif import CifContent, Delivery, write_mmcif
from ssx_processing.formats.mtz import MergedIntensities
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.models import FrameCounts, MergeSummary, ShellStatistics, UnitCell
from tests.unit.formats.file_limits import no_file_beyond

CELL: UnitCell = (79.2, 79.2, 38.0, 90.0, 90.0, 90.0)
UNIT = asymmetric_unit(CELL, "P 43 21 2", 4.0)


def shell(d_max: float, d_min: float, cc_half: float = 0.9) -> ShellStatistics:
    return ShellStatistics(
        d_max=d_max,
        d_min=d_min,
        n_observations=5000,
        n_reflections=500,
        n_possible=520,
        completeness=500 / 520,
        multiplicity=10.0,
        mean_i_over_sigma=5.5,
        cc_half=cc_half,
        cc_star=0.97,
        r_split=0.15,
    )


SUMMARY = MergeSummary(
    key="0123456789abcdef",
    folder=Path("merged"),
    reused=False,
    counts=FrameCounts(
        frames_total=1000,
        frame_hits=400,
        crystal_hits=400,
        frames_indexed=300,
        frames_failed_index=100,
        lattices_indexed=350,
    ),
    lattices_merged=340,
    lattices_excluded={},
    chunks_expected=4,
    chunks_merged=4,
    missing=(),
    unit_cell=CELL,
    space_group="P43212",
    overall=shell(40.0, 2.0),
    shells=(shell(40.0, 2.5), shell(2.5, 2.0, cc_half=float("nan"))),
    wilson_b=23.4,
    warnings=(),
)


@pytest.fixture
def content() -> CifContent:
    n = len(UNIT)
    intensity = np.linspace(-5.0, 500.0, n)
    reflections = MergedIntensities(
        hkl=UNIT.hkl,
        intensity=intensity,
        sigma=np.full(n, 3.25),
        n=np.full(n, 7),
        intensity_plus=intensity + 1,
        sigma_plus=np.full(n, 4.0),
        intensity_minus=np.where(UNIT.centric, np.nan, intensity - 1),
        sigma_minus=np.where(UNIT.centric, np.nan, 5.0),
        free_flag=np.arange(n) % 20,
    )
    return CifContent(
        "chip 7/a", SUMMARY, reflections, (0.15, 0.15, 0.08, 0, 0, 0), 0.9763, Delivery.FIXED_TARGET
    )


def complaints(path: Path, dictionary: Path) -> list[str]:
    """What the dictionary has against a file: unknown items, types, ranges, enumerations, keys, parents."""
    found: list[str] = []
    ddl = gemmi.cif.Ddl(logger=found.append)
    ddl.read_ddl(gemmi.cif.read(str(dictionary)))
    found.clear()  # on the dictionary itself
    ddl.validate_cif(gemmi.cif.read(str(path)))  # its answer leaves out unknown items
    return found


def test_every_item_is_as_the_dictionary_has_it(content: CifContent, mmcif_dictionary: Path, tmp_path: Path):
    anomalous = {
        name: 0.5 for name in ("r_merge", "r_meas", "cc_anomalous") if hasattr(SUMMARY.overall, name)
    }
    full = replace(SUMMARY, overall=replace(SUMMARY.overall, **anomalous))
    injected = replace(content, summary=full, delivery=Delivery.INJECTION, carrier="LCP, 60 %(w/v)")
    for name, told in (("plain", content), ("full", injected)):
        path = write_mmcif(tmp_path / f"{name}.cif", told)
        assert complaints(path, mmcif_dictionary) == []


def test_the_dictionary_objects_to_what_it_does_not_know(
    content: CifContent, mmcif_dictionary: Path, tmp_path: Path
):
    text = write_mmcif(tmp_path / "a.cif", content).read_text()
    for before, after, objection in (
        ("_refln.status", "_refln.state", "unknown tag _refln.state"),
        ("lattices_merged 340", "lattices_merged 4x", "4x"),
        ("by_lattice", "by_frame", "not one of the allowed values"),
    ):
        assert before in text
        (tmp_path / "b.cif").write_text(text.replace(before, after))
        assert objection in "\n".join(complaints(tmp_path / "b.cif", mmcif_dictionary))


def test_gemmi_reads_intensities_cell_and_space_group(content: CifContent, tmp_path: Path):
    document = gemmi.cif.read(str(write_mmcif(tmp_path / "a.cif", content)))
    (block,) = gemmi.as_refln_blocks(document)
    assert block.block.name == "chip_7_a"
    assert block.cell.parameters == pytest.approx(CELL)
    assert block.spacegroup.xhm() == "P 43 21 2"
    assert block.wavelength == pytest.approx(0.9763)
    assert block.make_miller_array().tolist() == UNIT.hkl.tolist()
    merged = content.reflections
    for label, values in (
        ("intensity_meas", merged.intensity),
        ("intensity_sigma", merged.sigma),
        ("pdbx_I_plus", merged.intensity_plus),
        ("pdbx_I_minus", merged.intensity_minus),
        ("pdbx_I_minus_sigma", merged.sigma_minus),
    ):
        assert values is not None
        assert np.allclose(block.make_float_array(label), values, rtol=1e-6, equal_nan=True)
    assert list(block.block.find_values("_refln.status"))[:21] == ["f", *["o"] * 19, "f"]


def test_serial_counts_have_the_wwpdbs_names(content: CifContent, tmp_path: Path):
    block = gemmi.cif.read(str(write_mmcif(tmp_path / "a.cif", content))).sole_block()
    counts = block.get_mmcif_category("_pdbx_serial_crystallography_data_reduction.")
    assert counts == {
        "diffrn_id": ["1"], "frames_total": ["1000"], "frame_hits": ["400"], "crystal_hits": ["400"],
        "frames_failed_index": ["100"], "frames_indexed": ["300"], "lattices_indexed": ["350"],
        "lattices_merged": ["340"],
    }  # fmt: skip
    assert block.find_value("_diffrn.pdbx_serial_crystal_experiment") == "Y"
    assert block.get_mmcif_category("_pdbx_serial_crystallography_sample_delivery.")["method"] == [
        "fixed target"
    ]


@pytest.mark.parametrize(
    ("delivery", "expected"), [(Delivery.INJECTION, "LCP"), (Delivery.FIXED_TARGET, None), (None, None)]
)
def test_the_carrier_is_that_of_injected_crystals(
    delivery: Delivery | None, expected: str | None, content: CifContent, tmp_path: Path
):
    path = write_mmcif(tmp_path / "a.cif", replace(content, delivery=delivery, carrier="LCP"))
    item = "_pdbx_serial_crystallography_sample_delivery_injection.carrier_solvent"
    assert gemmi.cif.read(str(path)).sole_block().find_value(item) == expected


def test_cell_deviations_are_of_the_population_and_only_where_the_cell_may_vary(
    content: CifContent, tmp_path: Path
):
    block = gemmi.cif.read(str(write_mmcif(tmp_path / "a.cif", content))).sole_block()
    cell = block.get_mmcif_category("_cell.")
    assert (cell["length_a_esd"], cell["length_c_esd"], cell["pdbx_esd_method"]) == (
        ["0.1500"], ["0.0800"], ["population"],
    )  # fmt: skip
    assert "angle_alpha_esd" not in cell


def test_what_is_not_known_is_a_question_mark_or_left_out(content: CifContent, tmp_path: Path):
    unknown = replace(content, delivery=None, summary=replace(SUMMARY, wilson_b=float("nan")))
    path = write_mmcif(tmp_path / "a.cif", unknown)
    block = gemmi.cif.read(str(path)).sole_block()
    assert "nan" not in path.read_text()
    assert block.find_value("_reflns.B_iso_Wilson_estimate") is None
    assert block.find_value("_pdbx_serial_crystallography_sample_delivery.method") is None
    assert list(block.find_values("_reflns_shell.pdbx_CC_half")) == ["0.9", "?"]
    assert list(block.find_values("_reflns_shell.percent_possible_all")) == ["96.1538", "96.1538"]


def test_a_file_that_cannot_be_written_whole_is_an_error_and_is_not_there(
    content: CifContent, tmp_path: Path
):
    with no_file_beyond(1024), pytest.raises(OSError, match="File too large"):
        write_mmcif(tmp_path / "a.cif", content)
    assert list(tmp_path.iterdir()) == []
