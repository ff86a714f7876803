"""A flow that is killed leaves nothing running, and goes on where it stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.job import ProcessRequest
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from tests.flows.conftest import CHIP, FRAMES_PER_CHUNK, ProcessedSite
from tests.flows.rows import rows

INTERRUPTED = "ssx: interrupted; what is finished is kept, run the same command to go on"
N_CHUNKS = CHIP.n_frames // FRAMES_PER_CHUNK


@pytest.mark.slow
def test_a_killed_flow_goes_on_without_computing_finished_chunks_again(
    group_id: int, site: SiteSettings, tmp_path: Path
):
    killed_after, _, _ = end_when_chunks_are_there(tmp_path, group_id, signal.SIGKILL)
    assert 2 <= len(killed_after) < N_CHUNKS
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert processing["status"] == "running"

    half_written = next(iter(killed_after)).parent.with_name(".half-1-written")
    half_written.mkdir()

    outcome = run_process(ProcessRequest(group_id=group_id), site)
    assert outcome.status is WorkStatus.SUCCESS
    assert not half_written.exists()
    assert outcome.chunks_done == N_CHUNKS
    assert 2 <= outcome.chunks_reused < N_CHUNKS
    now = finished_chunks(tmp_path)
    assert {path: now[path] for path in killed_after} == killed_after
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert (processing["status"], processing["attempts"]) == ("success", 2)
    programs = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert [program["processingStatus"] for program in programs] == ["SUCCESS", "SUCCESS"]


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_so_and_ends_at_once(
    ended_by: signal.Signals, group_id: int, site: SiteSettings, tmp_path: Path
):
    there, status, printed = end_when_chunks_are_there(tmp_path, group_id, ended_by)
    assert there
    assert status == 128 + ended_by
    assert printed.rstrip().endswith(INTERRUPTED)


@pytest.mark.slow
def test_an_interrupted_merge_says_no_more_than_that(processed: ProcessedSite):
    for after_s in (0.2, 0.5, 1.0, 1.5):  # while it starts, while its worker does, while they work
        with started("merge", str(processed.group_id), "--set", f"merging.d_min={2 + after_s}") as merge:
            time.sleep(after_s)
            status = end(merge, signal.SIGINT)
            printed = merge.communicate()[1]
        assert (status, printed) == (130, f"\n{INTERRUPTED}\n"), after_s


def end_when_chunks_are_there(
    folder: Path, group_id: int, ended_by: signal.Signals, at_least: int = 2
) -> tuple[dict[Path, int], int, str]:
    """Start the command and end it between chunks as a terminal does, all that it started included.

    Returns the chunks there then, the exit status and what was printed on stderr.
    """
    with started("process", "--group", str(group_id), "--workers", "1") as flow:
        stop = time.monotonic() + 200
        while len(finished_chunks(folder)) < at_least and flow.poll() is None and time.monotonic() < stop:
            time.sleep(0.01)
        status = end(flow, ended_by)
        there = finished_chunks(folder)
        workers_gone = no_process_uses(folder, seconds=15)
        printed = flow.stderr.read() if flow.stderr else ""
    assert workers_gone
    return there, status, printed


def started(*arguments: str) -> subprocess.Popen[str]:
    """The command in a session of its own, as a shell starts it."""
    command = [sys.executable, "-m", "flows", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        command,
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(command: subprocess.Popen[str], ended_by: signal.Signals) -> int:
    """End it; returns its exit status."""
    if ended_by is signal.SIGINT:
        os.killpg(command.pid, ended_by)  # as Ctrl-C does
    else:
        command.send_signal(ended_by)
    return command.wait(timeout=10)


def finished_chunks(folder: Path) -> dict[Path, int]:
    """Summaries of chunks and when they were written."""
    found = folder.glob("processing/*/*/chunks/[!.]*/summary.json")
    return {path: path.stat().st_mtime_ns for path in found}


def no_process_uses(folder: Path, seconds: float) -> bool:
    """Whether, within a time, no process has a file of the images' or the results' folder open."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if not any(str(folder) in target for target in open_files()):
            return True
        time.sleep(0.1)
    return False


def open_files() -> list[str]:
    targets = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            targets.append(str(link.readlink()))
        except OSError:
            continue
    return targets
