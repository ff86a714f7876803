"""The watcher finds what ISPyB holds, waits for what is not complete, and leaves nobody behind."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.databases import open_databases
from flows.looks import GroupLook, UnfinishedGroupsError, Verdict, look_at_groups
from flows.settings import SiteSettings
from flows.watch import run_watch
from ssx_processing.simulation.chip import SimulatedChip
from tests.flows.conftest import CHIP, enter_chip
from tests.flows.rows import row_counts, rows


def look(site: SiteSettings) -> list[GroupLook]:
    with open_databases(site) as databases:
        return list(look_at_groups(site, databases))


def change(ispyb: Engine, statement: str) -> None:
    with ispyb.begin() as connection:
        connection.execute(text(statement))


def test_the_watcher_finds_the_group_and_processes_it_once(group_id: int, site: SiteSettings, tmp_path: Path):
    (first,) = run_watch(site)
    assert (first.group_id, first.verdict) == (group_id, Verdict.PROCESSED)
    before = row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")
    (second,) = run_watch(site)
    assert second.verdict is Verdict.DONE
    assert second.detail == f"success, {first.detail}"
    assert (row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")) == before


def test_a_group_without_a_cell_fails_with_a_message_and_the_others_go_on(
    group_id: int, ispyb: Engine, chip: SimulatedChip, site: SiteSettings, tmp_path: Path
):
    change(ispyb, "UPDATE Crystal SET cell_a = NULL")
    good = enter_chip(ispyb, chip, CHIP.model_copy(update={"name": "good"}))
    with pytest.raises(
        UnfinishedGroupsError, match=f"group {group_id} .* has no unit cell in ISPyB"
    ) as error:
        run_watch(site)
    verdicts = {look.group_id: look.verdict for look in error.value.looks}
    assert verdicts == {group_id: Verdict.FAILED, good.group_id: Verdict.PROCESSED}
    messages = rows(
        tmp_path / "ispyb.sqlite",
        "SELECT processingMessage FROM AutoProcProgram WHERE processingStatus = 'FAILED'",
    )
    assert len(messages) == 1
    assert "has no unit cell in ISPyB" in messages[0]["processingMessage"]


def test_a_group_whose_frames_are_not_all_there_is_waited_for(
    group_id: int, ispyb: Engine, site: SiteSettings
):
    change(ispyb, "UPDATE DataCollection SET numberOfImages = 81, endTime = '2999-01-01'")
    assert look(site) == [
        GroupLook(group_id, Verdict.WAITING, "data collection 1: 80 of 81 frames are there"),
    ]


def test_a_group_whose_frames_never_come_fails_after_a_while(
    group_id: int, ispyb: Engine, site: SiteSettings
):
    change(ispyb, "UPDATE DataCollection SET numberOfImages = 81")
    (seen,) = look(site)
    assert seen.verdict is Verdict.FAILED
    assert seen.detail == (
        "files are not complete 1:00:00 after the collection: data collection 1: 80 of 81 frames are there"
    )


def test_files_that_still_change_are_waited_for_unless_the_record_says_that_it_ended(
    own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings
):
    enter_chip(ispyb, own_chip, CHIP)
    own_chip.data_files[0].touch()
    change(ispyb, "UPDATE DataCollection SET endTime = NULL, runStatus = NULL, startTime = '2999-01-01'")
    (running,) = look(site)
    assert (running.verdict, "changed within" in running.detail) == (Verdict.WAITING, True)
    change(ispyb, "UPDATE DataCollection SET runStatus = 'DataCollection Successful'")
    assert [seen.verdict for seen in look(site)] == [Verdict.READY]


def test_other_experiments_are_left_alone(group_id: int, ispyb: Engine, site: SiteSettings):
    change(ispyb, "UPDATE DataCollectionGroup SET experimentType = 'OSC'")
    assert run_watch(site) == []
