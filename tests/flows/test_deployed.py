"""Watcher and processing as deployments on a Prefect server, with a worker, each a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from deployments.stack.programs import Program, free_port, is_healthy
from flows.cancellation import RunCancelledError
from flows.job import ProcessRequest
from flows.looks import Verdict
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.simulation.chip import SimulatedChip
from tests.flows.conftest import CHIP, FRAMES_PER_CHUNK, ProcessedSite
from tests.flows.seen import look
from tests.flows.test_killed import finished_chunks, no_process_uses

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
PATIENCE_S = 180


@dataclass(frozen=True)
class Server:
    """A Prefect server, and the environment of its clients."""

    api: str
    environment: dict[str, str]

    def prefect(self, *words: str) -> str:
        """Run a command of Prefect's."""
        done = subprocess.run(
            [*PREFECT, *words], env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def runs(self, *, sort: str = "START_TIME_ASC") -> list[dict]:
        """The flow runs there are."""
        answer = httpx.post(f"{self.api}/flow_runs/filter", json={"sort": sort, "limit": 200}, timeout=30)
        return answer.raise_for_status().json()

    def wait_for(self, what: Callable[[list[dict]], bool]) -> list[dict]:
        """Wait until the runs are as wanted."""
        stop, runs = time.monotonic() + PATIENCE_S, []
        while time.monotonic() < stop:
            runs = self.runs()
            if what(runs):
                return runs
            time.sleep(1)
        raise AssertionError([(run["name"], run["state_name"], run["state"]["message"]) for run in runs])


@pytest.fixture
def server(site: SiteSettings, tmp_path: Path) -> Iterator[Server]:
    """A server with our deployments, the schedule of the watcher switched off."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ours |= {
        "PREFECT_HOME": str(tmp_path / "prefect-server"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
        "SSX_LAUNCH": "deployment",
    }
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1"]
    program = Program("Prefect server", command, ours, tmp_path / "server.log", lambda: is_healthy(api))
    try:
        program.start()
        made = Server(api, ours | {"PREFECT_API_URL": api})
        subprocess.run(
            [sys.executable, ROOT / "deployments" / "register.py"],
            env=made.environment,
            check=True,
            capture_output=True,
            timeout=120,
        )
        made.prefect("deployment", "schedule", "clear", "watch/watch", "--accept-yes")
        yield made
    finally:
        program.stop()


@pytest.fixture
def start_worker(server: Server) -> Iterator[Callable[[], None]]:
    """Start a worker that runs one flow at a time."""
    workers: list[subprocess.Popen] = []

    def start() -> None:
        words = ["worker", "start", "--pool", "ssx", "--limit", "1", "--name", "one"]
        environment = server.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        workers.append(
            subprocess.Popen(
                [*PREFECT, *words],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    yield start
    for worker in workers:
        worker.terminate()
        worker.wait(60)


def test_a_cancelled_run_ends_at_once_and_goes_on_when_somebody_wants_it(
    server: Server,
    start_worker: Callable[[], None],
    group_id: int,
    chip: SimulatedChip,
    site: SiteSettings,
    tmp_path: Path,
):
    server.environment["SSX_N_WORKERS"] = "1"
    server.prefect("deployment", "run", "process/process-group", "-p", f'request={{"group_id": {group_id}}}')
    start_worker()
    stop = time.monotonic() + PATIENCE_S
    while len(finished_chunks(tmp_path)) < 2 and time.monotonic() < stop:
        time.sleep(0.05)
    (run,) = server.runs()
    cancelling = {"state": {"type": "CANCELLING"}}
    httpx.post(
        f"{server.api}/flow_runs/{run['id']}/set_state", json=cancelling, timeout=30
    ).raise_for_status()
    server.wait_for(lambda runs: runs[0]["state_type"] == "CANCELLED")
    assert no_process_uses(chip.master.parent, seconds=15)
    (seen,) = look(site)
    assert (seen.verdict, seen.detail) == (Verdict.FAILED, str(RunCancelledError()))
    n_done = len(finished_chunks(tmp_path))
    assert 2 <= n_done < CHIP.n_frames // FRAMES_PER_CHUNK

    outcome = run_process(ProcessRequest(group_id=group_id), site)
    assert (outcome.status, outcome.chunks_reused) == (WorkStatus.SUCCESS, n_done)


def test_live_work_goes_before_offline_work(
    server: Server,
    start_worker: Callable[[], None],
    ispyb: Engine,
    processed: ProcessedSite,
):
    group = processed.group_id
    for d_min in (3.0, 3.2):
        form = f'form={{"group": "{group}", "asked_by": "Ada", "settings": {{"d_min": {d_min}}}}}'
        server.prefect("deployment", "run", "merge-group/merge-group", "-p", form)
    server.prefect("deployment", "run", "process/process-group", "-p", f'request={{"group_id": {group}}}')
    start_worker()
    runs = server.wait_for(lambda found: len(found) == 3 and all(run["start_time"] for run in found))
    assert [run["work_queue_name"] for run in runs] == ["live", "offline", "offline"]


def test_a_run_of_wrong_parameters_is_refused_before_it_begins(server: Server):
    asked = {"group": "1", "asked_by": "Ada"}
    for deployment, parameters, said in (
        ("process/process-group", {"request": {"group_id": "twelve"}}, "twelve"),
        ("merge-group/merge-group", {"form": {**asked, "settings": {"d_min": -1}}}, "minimum"),
        ("merge-group/merge-group", {"form": {**asked, "setting": {}}}, "setting"),
    ):
        found = httpx.get(f"{server.api}/deployments/name/{deployment}", timeout=30).json()
        create = f"{server.api}/deployments/{found['id']}/create_flow_run"
        answer = httpx.post(create, json={"parameters": parameters}, timeout=30)
        assert answer.status_code in (409, 422)
        assert said in answer.text
    assert server.runs() == []
