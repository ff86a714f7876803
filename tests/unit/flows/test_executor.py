import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest

from flows.chunk_limits import ChunkLimits
from flows.executor import ChunkLimitError, IsolatedProcesses, WorkerDiedError


@pytest.fixture
def executor() -> Iterator[Executor]:
    with IsolatedProcesses(2) as processes:
        yield processes


def test_jobs_run_in_other_processes(executor: Executor):
    assert executor.submit(os.getpid).result() != os.getpid()


def test_an_error_of_a_job_arrives(executor: Executor):
    with pytest.raises(ValueError, match="invalid literal"):
        executor.submit(int, "one").result()


def test_a_killed_worker_takes_down_its_own_job_only(executor: Executor):
    slow = executor.submit(time.sleep, 1.0)
    killed = executor.submit(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="killed"):
        killed.result()
    assert slow.result() is None
    assert [executor.submit(abs, -1).result() for _ in range(4)] == [1] * 4


def test_workers_never_import_prefect(executor: Executor):
    assert executor.submit(eval, "'prefect' in __import__('sys').modules").result() is False


def test_libraries_in_workers_use_one_thread(executor: Executor):
    assert executor.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"


PARENT = """
import os, time
from flows.executor import IsolatedProcesses

if __name__ == "__main__":
    executor = IsolatedProcesses(1)
    print(executor.submit(os.getpid).result(), flush=True)
    executor.submit(time.sleep, 60).result()
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    assert _ends_within(worker, seconds=10)


def _ends_within(pid: int, seconds: float) -> bool:
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_job_that_takes_too_long_is_ended_and_the_worker_replaced():
    with IsolatedProcesses(1, limits=ChunkLimits(seconds=1)) as executor:
        with pytest.raises(ChunkLimitError, match=r"took more than 1 s \(SSX_CHUNK_LIMITS, seconds\)"):
            executor.submit(time.sleep, 60).result()
        assert executor.submit(abs, -1).result() == 1


def test_a_job_that_takes_too_much_memory_is_ended():
    grow = "[__import__('time').sleep(60) for held in [b'x' * 600_000_000]]"
    with IsolatedProcesses(1, limits=ChunkLimits(seconds=None, memory_gb=0.5)) as executor:
        with pytest.raises(ChunkLimitError, match=r"took 0\.\d GB of memory, allowed are 0\.5 "):
            executor.submit(eval, grow).result()
        assert executor.submit(abs, -1).result() == 1
