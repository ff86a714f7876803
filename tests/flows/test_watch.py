"""The watcher finds what ISPyB holds, waits for what is not complete, and leaves nobody behind."""

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import pytest
from sqlalchemy import Engine, text

from flows import looks
from flows.databases import open_databases
from flows.folder_lock import exclusive
from flows.job import Job, ProcessRequest
from flows.job_of_request import find_job
from flows.looks import GroupLook, UnfinishedGroupsError, Verdict
from flows.merge import MergeRequest, run_merge
from flows.readiness import Readiness, readiness
from flows.settings import SiteSettings
from flows.watch import process_ready, run_watch
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from tests.flows.conftest import CHIP, ProcessedSite, enter_chip
from tests.flows.rows import row_counts, rows
from tests.flows.seen import look


def change(ispyb: Engine, statement: str, **values: str) -> None:
    with ispyb.begin() as connection:
        connection.execute(text(statement), values)


def test_the_watcher_finds_the_group_and_processes_it_once(group_id: int, site: SiteSettings, tmp_path: Path):
    (first,) = run_watch(site)
    assert (first.group_id, first.verdict) == (group_id, Verdict.PROCESSED)
    before = row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")
    (second,) = run_watch(site)
    assert second.verdict is Verdict.DONE
    assert second.detail == f"success, {first.detail}"
    assert (row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")) == before


def test_a_run_that_ends_while_the_watcher_looks_is_not_begun_again(
    processed: ProcessedSite, monkeypatch: pytest.MonkeyPatch
):
    ledger = processed.folder / "ledger.sqlite"
    before = row_counts(processed.folder / "ispyb.sqlite"), rows(ledger, "SELECT * FROM SsxProcessing")

    def is_said_to_be(status: str) -> None:
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("UPDATE SsxProcessing SET status = ?", [status])

    is_said_to_be("running")
    monkeypatch.setattr(looks, "check_unclaimed", lambda *_: is_said_to_be("success"))
    (seen,) = look(SiteSettings())
    assert seen.verdict is Verdict.DONE

    late = process_ready(GroupLook(processed.group_id, Verdict.READY, "ready"), SiteSettings())
    assert late.verdict is Verdict.PROCESSED
    now = row_counts(processed.folder / "ispyb.sqlite"), rows(ledger, "SELECT * FROM SsxProcessing")
    assert now == before


def test_a_group_without_cell_and_space_group_is_processed_with_those_found_and_says_so(
    group_id: int, ispyb: Engine, site: SiteSettings, tmp_path: Path
):
    change(ispyb, "UPDATE Crystal SET cell_a = NULL, spaceGroup = NULL")
    (look,) = run_watch(site)
    assert look.verdict is Verdict.PROCESSED
    collection, merged = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    for program in (collection, merged):
        assert program["processingStatus"] == "SUCCESS"
        assert "cell not given: taking 79." in program["processingMessage"]
        assert "space group not given: P 4 2 2" in program["processingMessage"]
    (result,) = rows(tmp_path / "ispyb.sqlite", "SELECT spaceGroup, refinedCell_a FROM AutoProc")
    assert result["spaceGroup"] == "P422"
    assert result["refinedCell_a"] == pytest.approx(79.1, rel=0.005)
    assert [seen.verdict for seen in run_watch(site)] == [Verdict.DONE]
    again = run_merge(MergeRequest(group_id=group_id, settings={"merging": {"d_min": "3.0"}}))
    assert again.changes == ("merging.d_min: None -> 3.0",)
    assert again.merge.space_group == "P422"


def test_a_group_without_a_cell_on_which_none_is_found_fails_with_a_message_and_the_others_go_on(
    ispyb: Engine, chip: SimulatedChip, site: SiteSettings, tmp_path: Path
):
    settings = CHIP.model_copy(update={"n_frames": 40, "n_files": 1, "hit_fraction": 0.0, "name": "blank"})
    blank = enter_chip(ispyb, simulate_chip(tmp_path / "blank", settings), settings)
    change(ispyb, "UPDATE Crystal SET cell_a = NULL")
    good = enter_chip(ispyb, chip, CHIP.model_copy(update={"name": "good"}))
    reason = "no unit cell was given, and none can be found: there are only 0 hits"
    with pytest.raises(UnfinishedGroupsError, match=f"group {blank.group_id}: {reason}") as error:
        run_watch(site)
    verdicts = {look.group_id: look.verdict for look in error.value.looks}
    assert verdicts == {blank.group_id: Verdict.FAILED, good.group_id: Verdict.PROCESSED}
    messages = rows(
        tmp_path / "ispyb.sqlite",
        "SELECT processingMessage FROM AutoProcProgram WHERE processingStatus = 'FAILED'",
    )
    assert len(messages) == 1
    assert reason in messages[0]["processingMessage"]


def test_files_that_still_change_are_a_collection_that_goes_on_unless_the_record_says_that_it_ended(
    own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings
):
    enter_chip(ispyb, own_chip, CHIP)
    own_chip.data_files[0].touch()
    change(ispyb, "UPDATE DataCollection SET endTime = NULL, runStatus = NULL, startTime = '2999-01-01'")
    (running,) = look(site)
    assert (running.verdict, running.detail) == (Verdict.READY, "live, 80 of 80 frames are there")
    change(ispyb, "UPDATE DataCollection SET runStatus = 'DataCollection Successful'")
    assert [(seen.verdict, seen.detail) for seen in look(site)] == [(Verdict.READY, "ready")]


def test_other_experiments_are_left_alone(group_id: int, ispyb: Engine, site: SiteSettings):
    change(ispyb, "UPDATE DataCollectionGroup SET experimentType = 'OSC'")
    assert run_watch(site) == []


def test_a_partial_result_is_repaired_as_soon_as_its_files_are(
    own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings
):
    enter_chip(ispyb, own_chip, CHIP)
    whole = own_chip.data_files[0].read_bytes()
    with h5py.File(own_chip.data_files[0], "r+") as file:
        data = file["entry/data/data"]
        assert isinstance(data, h5py.Dataset)
        for frame in range(10):
            data.id.write_direct_chunk((frame, 0, 0), b"\xff" * 100)
    with pytest.raises(UnfinishedGroupsError, match="partial result, 7 of 8 chunks"):
        run_watch(site)
    assert [seen.verdict for seen in look(site)] == [Verdict.READY]
    own_chip.data_files[0].write_bytes(whole)
    assert [seen.verdict for seen in run_watch(site)] == [Verdict.PROCESSED]
    assert [seen.verdict for seen in look(site)] == [Verdict.DONE]


@pytest.mark.parametrize(
    ("status", "message", "detail"),
    [
        (WorkStatus.PARTIAL, "7 of 8 chunks", "partial result after 3 attempts: 7 of 8 chunks"),
        (WorkStatus.FAILED, "disk full", "given up after 3 attempts: disk full"),
        (WorkStatus.RUNNING, "", "given up after 3 attempts: the last was killed"),
    ],
)
def test_a_group_is_tried_three_times_however_it_ends(
    group_id: int, site: SiteSettings, status: WorkStatus, message: str, detail: str
):
    enter_processing(group_id, site, status, message, attempts=2)
    assert [seen.verdict for seen in look(site)] == [Verdict.READY]
    enter_processing(group_id, site, status, message)
    assert [(seen.verdict, seen.detail) for seen in look(site)] == [(Verdict.FAILED, detail)]
    with pytest.raises(UnfinishedGroupsError, match=detail):
        run_watch(site)


def test_a_group_that_somebody_works_on_is_waited_for(group_id: int, site: SiteSettings):
    (ready,) = look(site)
    assert ready.folder is not None
    enter_processing(group_id, site, WorkStatus.RUNNING, attempts=3)
    with exclusive(ready.folder):
        (seen,) = look(site)
        # begun between look and flow
        begun = process_ready(ready, site)
    assert seen.verdict is begun.verdict is Verdict.WAITING
    assert f"is being processed by process {os.getpid()} on " in seen.detail
    assert begun.detail == seen.detail
    assert [seen.verdict for seen in look(site)] == [Verdict.FAILED]


def test_a_blank_chip_is_tried_once(ispyb: Engine, site: SiteSettings, tmp_path: Path):
    settings = CHIP.model_copy(update={"n_frames": 40, "n_files": 1, "hit_fraction": 0.0})
    enter_chip(ispyb, simulate_chip(tmp_path / "blank", settings), settings)
    with pytest.raises(UnfinishedGroupsError, match="no lattice in 4 chunks"):
        run_watch(site)
    (seen,) = look(site)
    assert seen.verdict is Verdict.FAILED
    assert seen.detail.startswith("no lattice in 4 chunks")
    assert seen.detail.endswith("it is not tried again")


def test_a_directory_that_cannot_be_read_is_waited_for_and_the_others_go_on(
    group_id: int, ispyb: Engine, chip: SimulatedChip, site: SiteSettings
):
    too_long = "/" + 300 * "a"  # root, too, gets an error of the system for it
    change(ispyb, "UPDATE DataCollection SET imageDirectory = :path, endTime = '2999-01-01'", path=too_long)
    good = enter_chip(ispyb, chip, CHIP.model_copy(update={"name": "good"}))
    assert [(seen.group_id, seen.verdict) for seen in look(site)] == [
        (group_id, Verdict.WAITING),
        (good.group_id, Verdict.READY),
    ]
    change(ispyb, "UPDATE DataCollection SET endTime = NULL WHERE imageDirectory = :path", path=too_long)
    failed, _ = look(site)
    assert failed.verdict is Verdict.FAILED
    assert re.fullmatch(r"files are not complete .*File name too long.*", failed.detail)


def test_an_error_that_nobody_foresaw_is_one_groups_alone(
    group_id: int, ispyb: Engine, chip: SimulatedChip, site: SiteSettings, monkeypatch: pytest.MonkeyPatch
):
    good = enter_chip(ispyb, chip, CHIP.model_copy(update={"name": "good"}))

    def broken(job: Job, *others: Any) -> Readiness:
        return readiness(job, *others) if job.name == f"group {good.group_id}" else {}["data"]

    monkeypatch.setattr(looks, "readiness", broken)
    failed, ready = look(site)
    assert failed == GroupLook(group_id, Verdict.FAILED, "cannot be looked at: KeyError: 'data'")
    assert (ready.group_id, ready.verdict) == (good.group_id, Verdict.READY)


def test_a_result_stands_in_ispyb_though_its_files_are_gone(
    group_id: int, ispyb: Engine, site: SiteSettings, tmp_path: Path
):
    enter_processing(group_id, site, WorkStatus.SUCCESS, "8 of 8 chunks")
    before = row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")
    change(ispyb, "UPDATE DataCollection SET imageDirectory = '/archived'")
    (seen,) = look(site)
    assert seen.verdict is Verdict.FAILED
    assert "no file /archived/" in seen.detail
    assert (row_counts(tmp_path / "ispyb.sqlite"), row_counts(tmp_path / "ledger.sqlite")) == before


def test_wrong_settings_of_the_site_stop_the_watcher_before_any_group(
    group_id: int, site: SiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_PROCESSING", '{"spots": {"min_snrr": 4}}')
    with pytest.raises(SettingsError, match=r"\(SSX_PROCESSING\).*spots.min_snrr: there is no such setting"):
        run_watch(SiteSettings())
    assert rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram") == []


@pytest.mark.parametrize("folder", ["/results/{group}", "/results/{}", "/results/{group_id"])
def test_a_folder_for_results_with_an_unknown_placeholder_is_refused(site: SiteSettings, folder: str):
    with pytest.raises(SettingsError, match=r"processing_folder '.*it may use \{image_directory\}"):
        SiteSettings(processing_folder=folder)


def enter_processing(
    group_id: int, site: SiteSettings, status: WorkStatus, message: str = "", attempts: int = 1
) -> None:
    """Enter attempts at the group as the flow would, ended or, if running, killed."""
    with open_databases(site) as databases:
        job = find_job(ProcessRequest(group_id=group_id), site, databases)
        for _ in range(attempts):
            databases.ledger.begin(
                job.key,
                folder=job.folder,
                settings={},
                versions={},
                data_collection_group_id=group_id,
                again=True,
            )
            if status is not WorkStatus.RUNNING:
                databases.ledger.finish(job.key, status, message=message)
