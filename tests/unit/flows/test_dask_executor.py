"""Chunks on a real Dask cluster: a scheduler and two worker processes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.dask_executor import DaskWorkers
from flows.executor import WorkerDiedError
from ssx_processing.errors import SettingsError
from tests.dask_cluster import DaskCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.stop()


@pytest.fixture
def executor(cluster: DaskCluster) -> Iterator[DaskWorkers]:
    executor = DaskWorkers(cluster.address)
    yield executor
    executor.shutdown(cancel_futures=True)


def test_jobs_run_in_the_workers(executor: DaskWorkers):
    assert executor.submit(os.getpid).result(timeout=60) != os.getpid()


def test_the_same_job_runs_again(executor: DaskWorkers):
    first = executor.submit(time.time_ns).result(timeout=60)
    assert executor.submit(time.time_ns).result(timeout=60) != first


def test_an_error_of_a_job_arrives(executor: DaskWorkers):
    with pytest.raises(ValueError, match="invalid literal"):
        executor.submit(int, "one").result(timeout=60)


def test_the_job_of_a_killed_worker_is_given_to_another(executor: DaskWorkers, tmp_path: Path):
    jobs = [executor.submit(_die_once, tmp_path / "died"), executor.submit(abs, -1)]
    assert [job.result(timeout=60) for job in jobs] == ["alive", 1]


def test_a_job_that_kills_every_worker_ends(executor: DaskWorkers):
    with pytest.raises(WorkerDiedError, match="one after the other"):
        executor.submit(signal.raise_signal, signal.SIGKILL).result(timeout=120)
    assert executor.submit(abs, -1).result(timeout=60) == 1


def test_a_job_that_takes_too_long_ends_and_says_where_it_hung(cluster: DaskCluster):
    executor = DaskWorkers(cluster.address, seconds=1.0)
    with pytest.raises(WorkerDiedError, match=r"longer than 1 s \(SSX_CHUNK_LIMITS"):
        executor.submit(time.sleep, 60).result(timeout=120)
    assert executor.submit(abs, -1).result(timeout=60) == 1
    executor.shutdown()
    assert "in within" in (cluster.folder / "worker.log").read_text()


def test_a_scheduler_started_anew_costs_what_it_held_and_no_more(executor: DaskWorkers, cluster: DaskCluster):
    held = executor.submit(time.sleep, 30)
    cluster.restart_scheduler()
    with pytest.raises(WorkerDiedError, match="scheduler"):
        held.result(timeout=60)
    assert executor.submit(abs, -1).result(timeout=60) == 1


def test_shutting_down_at_once_ends_what_runs(cluster: DaskCluster, tmp_path: Path):
    executor = DaskWorkers(cluster.address)
    running = executor.submit(_write_pid_and_sleep, tmp_path / "pid")
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    started = time.monotonic()
    executor.shutdown(cancel_futures=True)
    pid = int((tmp_path / "pid").read_text())
    assert time.monotonic() - started < 15
    assert running.done()
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(abs, -1)
    assert not Path(f"/proc/{pid}").exists()


def test_nobody_at_the_address_is_a_clear_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flows.dask_executor.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(SettingsError, match="no Dask scheduler answers at tcp://127\\.0"):
        DaskWorkers("tcp://127.0.0.1:9")


def _die_once(mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def _write_pid_and_sleep(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(60)
