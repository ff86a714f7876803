"""A group processed on a Dask cluster, whose workers die as they like."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from flows.job import ProcessRequest
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from tests.dask_cluster import DaskCluster
from tests.flows.conftest import CHIP, FRAMES_PER_CHUNK
from tests.flows.rows import rows

N_CHUNKS = CHIP.n_frames // FRAMES_PER_CHUNK


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    cluster = DaskCluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_a_group_is_processed_on_a_cluster_though_a_worker_is_killed_in_mid_chunk(
    group_id: int, site: SiteSettings, cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_EXECUTOR", "dask")
    monkeypatch.setenv("SSX_DASK_SCHEDULER", cluster.address)
    killed: list[int] = []
    arguments = (cluster.address, tmp_path, killed)
    threading.Thread(target=kill_a_busy_worker, args=arguments, daemon=True).start()
    outcome = run_process(ProcessRequest(group_id=group_id), SiteSettings())
    assert len(killed) == 1
    assert (outcome.status, outcome.chunks_done) == (WorkStatus.SUCCESS, N_CHUNKS)
    chunks = rows(tmp_path / "ledger.sqlite", "SELECT status FROM SsxChunk")
    assert [chunk["status"] for chunk in chunks] == ["success"] * N_CHUNKS
    assert len(list(tmp_path.glob("processing/*/*/chunks/[!.]*"))) == N_CHUNKS


def kill_a_busy_worker(address: str, folder: Path, killed: list[int]) -> None:
    """Wait until the first chunk is there and a worker computes another; kill that worker."""
    with Client(address, set_as_default=False) as client:
        while not killed:
            time.sleep(0.01)
            if not list(folder.glob("processing/*/*/chunks/[!.]*")):
                continue
            processing: Any = client.processing()
            busy = [worker for worker, keys in processing.items() if keys]
            if busy:
                pids: Any = client.run(os.getpid, workers=busy[:1])
                os.kill(pids[busy[0]], signal.SIGKILL)
                killed.append(pids[busy[0]])
