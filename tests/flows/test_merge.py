"""Merging again reads chunks only, keeps other settings and says what differs."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.folder_lock import LOCK
from flows.group_file import GROUP_FILE
from flows.job import ProcessRequest
from flows.merge import MergeRequest, run_merge
from flows.merge_flow import merge_group
from flows.merge_form import MergeForm
from flows.process import result_of, run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError
from tests.command_line import ssx
from tests.flows.conftest import ProcessedSite
from tests.flows.rows import row_counts, rows


def test_a_group_is_merged_again_without_its_images(processed: ProcessedSite):
    shutil.rmtree(processed.folder / "raw")
    first = processed.outcome
    again = run_merge(MergeRequest(group_id=processed.group_id, settings={"merging": {"d_min": "3.0"}}))
    assert again.status is WorkStatus.SUCCESS
    assert again.chunks_reused == first.chunks_done
    assert again.changes == ("merging.d_min: None -> 3.0",)
    assert again.merge.overall.d_min == pytest.approx(3.0)
    assert again.merge.key != first.merge.key
    programs = rows(processed.folder / "ispyb.sqlite", "SELECT processingEnvironment FROM AutoProcProgram")
    is_later = [again.merge.key in program["processingEnvironment"] for program in programs]
    assert is_later == [False, False, True]

    with pytest.raises(SettingsError, match=r"merging\.\* only, not spots"):
        run_merge(MergeRequest(group_id=processed.group_id, settings={"spots": {"min_snr": "4"}}))


def test_a_merge_asked_for_in_prefects_form_is_of_who_asked(processed: ProcessedSite):
    group = str(processed.group_id)
    form = MergeForm.model_validate({"group": group, "asked_by": "Ada", "settings": {"d_min": 3.0}})
    outcome = result_of(merge_group(form, return_state=True))
    assert outcome.changes == ("merging.d_min: None -> 3.0",)
    of_merge = rows(processed.folder / "ledger.sqlite", "SELECT startedBy FROM SsxProcessing")[-1]
    assert of_merge["startedBy"] == "Ada"


def test_the_command_without_a_prefect_server_leaves_what_the_flow_leaves(processed: ProcessedSite):
    databases = [processed.folder / "ispyb.sqlite", processed.folder / "ledger.sqlite"]
    results = processed.outcome.folder
    run_merge(MergeRequest(group_id=processed.group_id, settings={"merging": {"d_min": 3.0}}))
    of_flow = contents(results), [timeless_rows(database) for database in databases]

    processed.restore()
    settings = {name: value for name, value in os.environ.items() if name.startswith("SSX_")}
    words = ("merge", str(processed.group_id), "--set", "merging.d_min=3.0")
    done = ssx(*words, cwd=processed.folder, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("CC1/2") < done.stdout.index("changed: merging.d_min: None -> 3.0")
    assert (contents(results), [timeless_rows(database) for database in databases]) == of_flow
    assert not list((processed.folder / "prefect").glob("*.db*"))


def contents(folder: Path) -> dict[str, bytes]:
    """Path and content of each file; page and group file have the time in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {
        str(path.relative_to(folder)): b""
        if path.suffix == ".html" or path.name == GROUP_FILE
        else path.read_bytes()
        for path in files
    }


def timeless_rows(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table without the times at which they were written."""
    return {
        table: [
            {
                name: value
                for name, value in row.items()
                if not re.search("time|started|ended|At$|^(token|pid|processStart|beat)$", name, re.I)
            }
            for row in rows(database, f'SELECT * FROM "{table}"')  # noqa: S608
        ]
        for table in row_counts(database)
    }


def test_what_was_never_processed_cannot_be_merged(group_id: int, site: SiteSettings):
    with pytest.raises(SettingsError, match=f"group {group_id} has no result"):
        run_merge(MergeRequest(group_id=group_id))


def test_a_result_stands_when_merging_or_processing_it_again_fails(processed: ProcessedSite):
    group_id, folder = processed.group_id, processed.folder
    (report,) = processed.outcome.reports
    (before,) = rows(folder / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    report.unlink()
    report.mkdir()  # where none can be written
    with pytest.raises(IsADirectoryError):
        run_merge(MergeRequest(group_id=group_id))
    assert_stands(before, 2, folder)
    with pytest.raises(IsADirectoryError):
        run_process(ProcessRequest(group_id=group_id), SiteSettings())
    assert_stands(before, 3, folder)

    report.rmdir()
    assert run_merge(MergeRequest(group_id=group_id)).status is WorkStatus.SUCCESS
    (after,) = rows(folder / "ledger.sqlite", "SELECT status, message FROM SsxProcessing")
    assert after == {"status": "success", "message": before["message"]}


def assert_stands(before: dict[str, Any], attempts: int, site_folder: Path) -> None:
    """The ledger has the result as it was, and says why the last attempt failed."""
    (now,) = rows(site_folder / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert now["message"].startswith(f"{before['message']} | later attempt failed: [Errno 21] Is a directory")
    assert now["attempts"] == attempts
    of_attempt = ("message", "started", "attempts")
    assert [now[name] for name in before if name not in of_attempt] == [
        before[name] for name in before if name not in of_attempt
    ]
