"""Cell and space group that were given, that were not, and that contradict what is found."""

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ssx_processing.errors import SettingsError
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.find_cell import CellProposal, CellSearch
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.sample import sample_of_cell, sample_of_plan, sample_of_search
from ssx_processing.settings import (
    CalibrationSettings,
    CellSearchSettings,
    ProcessingSettings,
    RequestedSample,
    RequestedSettings,
    SampleSettings,
)
from ssx_processing.simulation.chip import SimulatedChip

TETRAGONAL: UnitCell = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
CENTRED: UnitCell = (61.5, 122.7, 168.8, 90.0, 90.0, 90.0)


def proposal(cell: UnitCell, lattice: str, group: str, n: int) -> CellProposal:
    spread = (0.1, 0.1, 0.1, 0.0, 0.0, 0.0)
    return CellProposal(cell, lattice, group, n, n / 100, 0.8, spread, n, np.tile(cell, (n, 1)))


SEARCH = CellSearch(
    100, 80, 60, (proposal(TETRAGONAL, "tP", "P 4 2 2", 70), proposal(CENTRED, "oC", "C 2 2 2", 20))
)


def test_what_was_given_is_taken_as_it_is():
    given = RequestedSample(unit_cell=TETRAGONAL, space_group="96").known
    assert given is not None
    assert given == SampleSettings(unit_cell=TETRAGONAL, space_group="P43212")
    assert given.assumed == ()


def test_cell_and_space_group_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="contradicts space group P43212"):
        RequestedSample(unit_cell=CENTRED, space_group="P43212")
    with pytest.raises(SettingsError, match=r"P 43 21 2 contradicts the cell found, 61.5 122.7 168.8 oC"):
        sample_of_search(RequestedSample(space_group="P43212", cell_cluster=2), SEARCH)
    with pytest.raises(ValidationError, match="'hello' is not known"):
        RequestedSample(space_group="hello")


def test_an_unknown_sample_gets_the_first_cell_and_the_highest_symmetry_and_says_so():
    found = sample_of_search(RequestedSample(), SEARCH)
    assert (found.unit_cell, found.space_group) == (TETRAGONAL, "P422")
    assert found.assumed[0] == (
        "cell not given: taking 79.1 79.1 37.9 tP, which indexes 70 % of 100 hits "
        "(1 other proposal: see ssx cells)"
    )
    assert found.assumed[1].startswith("space group not given: P 4 2 2, the highest symmetry")


def test_another_cell_can_be_taken_and_the_class_gets_its_centring():
    found = sample_of_search(RequestedSample(space_group="mmm", cell_cluster=2), SEARCH)
    assert (found.unit_cell, found.space_group) == (CENTRED, "C222")
    assert "only mmm was given: C 2 2 2 stands for it" in found.assumed[1]
    with pytest.raises(SettingsError, match="cell cluster 3 is wanted, but only 2 cells were found"):
        sample_of_search(RequestedSample(cell_cluster=3), SEARCH)


def test_a_space_group_that_is_given_is_kept_for_the_cell_found():
    found = sample_of_search(RequestedSample(space_group="P43212"), SEARCH)
    assert found.space_group == "P43212"
    assert len(found.assumed) == 1


def test_where_no_cell_is_found_the_reason_and_a_remedy_are_named():
    for n_hits, n_found, words in ((1, 0, "only 1 hits"), (50, 0, "on none of 50"), (50, 3, "no two agree")):
        with pytest.raises(SettingsError, match=f"none can be found: .*{words}"):
            sample_of_search(RequestedSample(), CellSearch(n_hits, 50, n_found, ()))


@pytest.mark.parametrize(
    ("cell", "space_group", "expected"),
    [
        (TETRAGONAL, None, "P422"),
        (TETRAGONAL, "4/mmm", "P422"),
        (TETRAGONAL, "4/m", "P4"),
        (CENTRED, "C2/m", "C121"),
        ((50.0, 60.0, 70.0, 90.0, 90.0, 90.0), None, "P222"),
    ],
)
def test_a_cell_without_a_space_group_gets_what_its_metric_or_the_class_allows(cell, space_group, expected):
    found = sample_of_cell(RequestedSample(unit_cell=cell, space_group=space_group), cell)
    assert found.space_group == expected
    assert found.unit_cell == pytest.approx(cell, abs=1e-6)
    assert len(found.assumed) == 1


def test_the_cell_of_a_chip_is_found_once_and_kept(simulated_chip: SimulatedChip, tmp_path: Path):
    settings = RequestedSettings(cells=CellSearchSettings(n_frames=40))
    plan = make_plan([simulated_chip.master], settings)
    first = sample_of_plan(plan, settings, tmp_path)
    np.testing.assert_allclose(first.unit_cell, simulated_chip.sample.unit_cell, rtol=0.005)
    assert first.space_group == "P422"
    (stored,) = (tmp_path / "cells").iterdir()
    before = (stored / "summary.json").stat().st_mtime_ns
    assert sample_of_plan(plan, settings, tmp_path) == first
    assert (stored / "summary.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("factors", [(1.05, 1.05, 1.05), (0.95, 0.95, 0.95), (1, 1, 1.05)])
def test_a_cell_that_is_wrong_by_five_per_cent_is_noticed(
    simulated_chip: SimulatedChip, tmp_path: Path, factors: tuple[float, float, float]
):
    """By what it indexes, and then the right one is proposed; or it is indexed and its change is told."""
    true = np.array(simulated_chip.sample.unit_cell)
    a, b, c = true[:3] * factors
    sample = SampleSettings(unit_cell=(a, b, c, 90.0, 90.0, 90.0), space_group="P43212")
    settings = ProcessingSettings(sample=sample, calibration=CalibrationSettings(n_frames=30))
    try:
        notices = calibrate(make_plan([simulated_chip.master], settings), settings, tmp_path).cell_notices
    except SettingsError as error:
        notices = (str(error),)
    if "run again with --cell" in notices[0]:
        proposed = re.findall(r"--cell ([0-9.,]+)", notices[0])[0].split(",")
        np.testing.assert_allclose(np.array(proposed, float), true, rtol=0.01)
    else:
        assert re.search(r"the cell measured differs from the one given.*: c 3[78].* \(-4\.. %\)", notices[0])


def test_nothing_is_said_of_a_cell_that_is_right(processed_chip):
    assert processed_chip.calibration.cell_notices == ()
