"""A Dask cluster of the tests' own: a scheduler and two workers, as a person would start them."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


class DaskCluster:
    """Processes of ``dask scheduler`` and ``dask worker``."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.scheduler = self._start_scheduler()
        self.workers = [
            self._start("worker", f"127.0.0.1:{self.port}", "--nthreads", "1", "--no-dashboard")
            for _ in range(2)
        ]

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def restart_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = self._start_scheduler()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            os.killpg(process.pid, signal.SIGKILL)  # a worker's nanny has a child
            process.wait(timeout=30)

    def _start_scheduler(self) -> "subprocess.Popen[bytes]":
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def _start(self, what: str, *options: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "distributed.cli.dask_" + what, *options]
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
