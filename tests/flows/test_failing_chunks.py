"""Chunks that fail: tried again where that may help, set aside where they kill workers, redone on request."""

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId, TaskRunFilter, TaskRunFilterName

from flows import tasks
from flows.chunk_work import may_pass
from flows.databases import open_databases
from flows.job import ProcessRequest
from flows.looks import UnfinishedGroupsError
from flows.outcome import PartialResultError
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import Chunk, WorkStatus
from ssx_processing.errors import DxtbxProcessError, ImageReadError
from tests.command_line import ssx
from tests.flows.poison import die_of_one
from tests.flows.seen import only_processing

SET_ASIDE = "set aside: the worker process died"


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third chunk kills its worker."""
    monkeypatch.setattr(tasks, "work_on_chunk", die_of_one)


def chunks_of(site: SiteSettings) -> list[Chunk]:
    with open_databases(site) as databases:
        return databases.ledger.chunks(only_processing(site).key)


def test_a_chunk_that_kills_its_worker_is_set_aside_until_a_person_wants_it(
    group_id: int, site: SiteSettings, tmp_path: Path, poison: None, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UnfinishedGroupsError, match=rf"7 of 8 chunks.*chunk 3 \(images 21-30\): {SET_ASIDE}"):
        run_watch(site)
    third = chunks_of(site)[2]
    assert (third.status, third.attempts) == (WorkStatus.FAILED, 2)
    assert third.message.startswith(SET_ASIDE)
    monkeypatch.setattr(tasks, "work_on_chunk", None)  # a chunk that is tried would fail of it
    with pytest.raises(UnfinishedGroupsError, match=SET_ASIDE):
        run_watch(site)
    with pytest.raises(PartialResultError, match="object is not callable"):
        run_process(ProcessRequest(group_id=group_id), site)
    folder = next(tmp_path.glob("processing/group-*"))
    environment = {name: value for name, value in os.environ.items() if name.startswith("SSX_")}
    healed = ssx("retry", folder, cwd=tmp_path, **environment)
    assert healed.returncode == 0, healed.stderr
    assert "again: chunk 3 (images 21-30): " in healed.stdout
    assert "7 of 8 chunks were there already" in healed.stdout
    assert all(chunk.status is WorkStatus.SUCCESS for chunk in chunks_of(site))
    nothing = ssx("retry", str(group_id), cwd=tmp_path, **environment)
    assert nothing.returncode == 0
    assert "no chunk has failed" in nothing.stdout


def test_what_may_pass_is_tried_again_and_wrong_input_is_not():
    of_disk = ImageReadError("file.h5: cannot be read")
    of_disk.__cause__ = OSError(errno.EIO, "Input/output error")
    assert may_pass(of_disk)
    assert may_pass(DxtbxProcessError("it died"))
    assert not may_pass(ImageReadError("frame 3: is damaged"))
    assert not may_pass(ValueError("wrong"))


def test_a_task_is_named_by_its_chunk_and_has_the_lines_of_the_steps(group_id: int, site: SiteSettings):
    began = datetime.now(UTC)
    run_process(ProcessRequest(group_id=group_id), site)
    named = TaskRunFilter(name=TaskRunFilterName(any_=["chunk 003 frames 20-29"]))
    lines: list[str] = []
    with get_client(sync_client=True) as client:
        for _ in range(100):  # Prefect records both a little later
            ids = [
                run.id
                for run in client.read_task_runs(task_run_filter=named)
                if run.expected_start_time is not None and run.expected_start_time > began
            ]
            logs = (
                client.read_logs(log_filter=LogFilter(task_run_id=LogFilterTaskRunId(any_=ids)))
                if ids
                else []
            )
            lines = [log.name for log in logs if "frame_hits" in log.message]
            if lines:
                break
            time.sleep(0.1)
    assert lines == ["ssx_processing.pipeline.process_chunk"]
