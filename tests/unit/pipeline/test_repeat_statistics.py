"""Statistics of real unmerged files are those of iotbx and gemmi."""

import json
from dataclasses import asdict
from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.pipeline.repeat_statistics import FileStatistics, resolution_of_file, statistics_of_file

ANSWERS = json.loads((Path(__file__).parents[2] / "data/iotbx_statistics/answers.json").read_text())
OVERALL = {
    "n_obs": "n_observations",
    "n_uniq": "n_reflections",
    "mult": "multiplicity",
    "i_over_sigma": "mean_i_over_sigma",
    "r_merge": "r_merge",
    "r_meas": "r_meas",
    "r_pim": "r_pim",
    "cc_half": "cc_half",
    "d_max": "d_max",
    "d_min": "d_min",
}


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    return real_data / "rotation_unmerged_for_merging_stats" / "raw"


def on_a_limit(found: FileStatistics) -> int:
    """Possible reflections whose d is a limit but for rounding; iotbx loses some of them."""
    group = gemmi.SpaceGroup(found.space_group)
    cell = gemmi.UnitCell(*found.unit_cell)
    d = cell.calculate_d_array(gemmi.make_miller_array(cell, group, found.overall.d_min * (1 - 1e-9)))
    limits = [found.overall.d_max, found.overall.d_min]
    return int(np.isclose(d[:, None], limits, rtol=1e-9, atol=0).sum())


@pytest.mark.parametrize("number", range(5))
def test_overall_statistics_are_iotbxs_to_the_last_digits(folder: Path, number: int):
    path = sorted(folder.glob("*_iotbx_merging_stats.json"))[number]
    answer = json.loads(path.read_text())
    found = statistics_of_file(path.with_name(path.name.replace("_iotbx_merging_stats.json", ".mtz")))
    ours = asdict(found.overall)
    assert {ours: answer[name] for name, ours in OVERALL.items()} == pytest.approx(
        {name: ours[name] for name in OVERALL.values()}, rel=1e-12
    )
    n_possible = answer["n_uniq"] / answer["completeness"]
    assert found.overall.n_possible - on_a_limit(found) <= round(n_possible) <= found.overall.n_possible
    assert number == 4 or found.overall.completeness == pytest.approx(answer["completeness"], rel=1e-12)


@pytest.mark.parametrize("mode", ["together", "apart"])
@pytest.mark.parametrize("name", ANSWERS)
def test_every_shell_is_iotbxs_with_friedel_mates_together_or_apart(folder: Path, name: str, mode: str):
    found = statistics_of_file(folder / f"{name}.mtz", apart=mode == "apart")
    for shell, answer in zip([found.overall, *found.shells], ANSWERS[name][mode], strict=True):
        ours = asdict(shell)
        for figure, theirs in answer.items():
            if figure == "completeness":  # iotbx widens the shells by 1e-6, mates count twice
                assert abs(shell.n_reflections / theirs - shell.n_possible) < 4.5
            elif theirs:  # iotbx says 0 or nothing where there is no figure
                assert ours[figure] == pytest.approx(theirs, rel=1e-9), (shell.d_min, figure)


def test_r_factors_and_cc_half_of_shells_are_gemmis_within_the_draw(folder: Path):
    found = statistics_of_file(folder / "gamma_HKLOUT_unmerged.mtz", n_shells=8)
    mtz = gemmi.read_mtz_file(str(folder / "gamma_HKLOUT_unmerged.mtz"))
    data = gemmi.Intensities()
    data.import_mtz(mtz)
    data.remove_systematic_absences()
    data.prepare_for_merging(gemmi.DataType.Mean)
    binner = gemmi.Binner()
    binner.setup_from_1_d2(
        8,
        gemmi.Binner.Method.Dstar3,
        gemmi.UnitCell(*found.unit_cell).calculate_1_d2_array(data.miller_array),
        gemmi.UnitCell(*found.unit_cell),
    )
    theirs = data.calculate_merging_stats(binner, "X")
    assert len(theirs) == 8
    for shell, other in zip(found.shells, theirs, strict=True):
        if shell.n_observations == other.all_refl:
            assert shell.n_reflections == other.unique_refl
            for name in ("r_merge", "r_meas", "r_pim"):
                assert getattr(shell, name) == pytest.approx(getattr(other, name)(), rel=1e-6)
            assert abs(shell.cc_half - other.cc_half()) < 5 * shell.cc_half_error
    assert sum(s.n_observations == o.all_refl for s, o in zip(found.shells, theirs, strict=True)) >= 6


def test_limits_in_angstroms_are_kept(folder: Path):
    path = folder / "gamma_HKLOUT_unmerged.mtz"
    found = statistics_of_file(path, n_shells=3, d_max=20.0, d_min=2.5)
    assert (found.overall.d_max, found.overall.d_min) == (20.0, 2.5)
    assert sum(shell.n_observations for shell in found.shells) == found.overall.n_observations
    lowest, highest = resolution_of_file(path)
    assert lowest > 20.0
    assert highest < 4.5


def test_a_merged_file_is_refused_with_its_columns(folder: Path):
    with pytest.raises(MergeError, match=r"is merged: no batches, columns H, K, L, IMEAN"):
        statistics_of_file(folder / "AUTOMATIC_DEFAULT_scaled.mtz")


def test_something_else_than_an_mtz_is_refused(folder: Path):
    with pytest.raises(MergeError, match=r"README\.MD: not an MTZ file"):
        statistics_of_file(folder / "README.MD")
