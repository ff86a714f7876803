"""Merging again reads chunks only, keeps other settings and says what differs."""

import shutil
from pathlib import Path

import pytest

from flows.job import ProcessRequest
from flows.merge import MergeRequest, run_merge
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError
from ssx_processing.simulation.chip import SimulatedChip
from tests.flows.conftest import CHIP, enter_chip
from tests.flows.rows import rows


def test_a_group_is_merged_again_without_its_images(
    own_chip: SimulatedChip, ispyb, site: SiteSettings, tmp_path: Path
):
    group_id = enter_chip(ispyb, own_chip, CHIP).group_id
    first = run_process(ProcessRequest(group_id=group_id), site)
    shutil.rmtree(own_chip.master.parent)
    again = run_merge(MergeRequest(group_id=group_id, settings={"merging": {"d_min": "3.0"}}))
    assert again.status is WorkStatus.SUCCESS
    assert again.chunks_reused == first.chunks_done
    assert again.changes == ("merging.d_min: None -> 3.0",)
    assert again.merge.overall.d_min == pytest.approx(3.0)
    assert again.merge.key != first.merge.key
    programs = rows(tmp_path / "ispyb.sqlite", "SELECT processingEnvironment FROM AutoProcProgram")
    assert [again.merge.key in program["processingEnvironment"] for program in programs] == [False, True]

    with pytest.raises(SettingsError, match=r"merging\.\* only, not spots"):
        run_merge(MergeRequest(group_id=group_id, settings={"spots": {"min_snr": "4"}}))


def test_what_was_never_processed_cannot_be_merged(group_id: int, site: SiteSettings):
    with pytest.raises(SettingsError, match=f"group {group_id} has no result"):
        run_merge(MergeRequest(group_id=group_id))
