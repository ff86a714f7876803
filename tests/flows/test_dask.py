"""A group processed on a Dask cluster, whose workers die as they like."""

import os
import signal
import threading
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
    ended = threading.Event()
    with Client(cluster.address, timeout=120, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)  # else the run may be over before the killer is connected
        killer = threading.Thread(target=kill_a_busy_worker, args=(client, tmp_path, killed, ended))
        killer.start()
        try:
            outcome = run_process(ProcessRequest(group_id=group_id), SiteSettings())
        finally:
            ended.set()
            killer.join()
    assert len(killed) == 1
    assert (outcome.status, outcome.chunks_done) == (WorkStatus.SUCCESS, N_CHUNKS)
    chunks = rows(tmp_path / "ledger.sqlite", "SELECT status FROM SsxChunk")
    assert [chunk["status"] for chunk in chunks] == ["success"] * N_CHUNKS
    assert len(list(tmp_path.glob("processing/*/*/chunks/[!.]*"))) == N_CHUNKS


def kill_a_busy_worker(client: Client, folder: Path, killed: list[int], ended: threading.Event) -> None:
    """Wait until the first chunk is there and a worker computes another; kill that worker."""
    pids: Any = client.run(os.getpid)
    while not killed and not ended.wait(0.01):
        if not list(folder.glob("processing/*/*/chunks/[!.]*")):
            continue
        processing: Any = client.processing()
        for worker in [worker for worker, keys in processing.items() if keys and worker in pids][:1]:
            os.kill(pids[worker], signal.SIGKILL)
            killed.append(pids[worker])
