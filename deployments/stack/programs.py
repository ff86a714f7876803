"""Programs that the stack consists of: each can be killed and started again."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

SYSTEMD = Path(__file__).parents[1] / "systemd"
PROGRAMS = Path(sys.executable).parent
"""Of this environment."""
INSTALLED = Path("/opt/ssx-orchestrator/.venv/bin")
"""Where the units expect us."""
PATIENCE_S = 120.0


class StackError(RuntimeError):
    """A part of the stack is missing, does not start, or does not do what it should."""


class MissingProgramError(StackError):
    """A program is not installed."""


@dataclass
class Program:
    """A long-running program with a log, in a session of its own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    is_up: Callable[[], bool]
    """Whether it answers."""
    user: str | None = None
    """Who runs it, where root may not."""
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        StackError
            It ends, or does not answer in time.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=dict(self.environment), stdout=log, stderr=log, user=self.user,
                start_new_session=True, cwd=self.log.parent,
            )  # fmt: skip
        wait_until(lambda: not self.is_running or self.is_up(), f"{self.name} does not answer", self.log)
        if not self.is_running:
            raise StackError(f"{self.name} ended at once: {last_lines(self.log)}")

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would; what it started lives on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it and all that it started, in good order if it will."""
        if self.process is None:
            return
        try:
            if self.is_running:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


def unit_command(name: str) -> list[str]:
    """Command of one of our systemd units, with the programs of this environment."""
    for line in (SYSTEMD / f"{name}.service").read_text().splitlines():
        if line.startswith("ExecStart="):
            program, *words = shlex.split(line.removeprefix("ExecStart="))
            return [str(PROGRAMS / Path(program).relative_to(INSTALLED)), *words]
    raise StackError(f"{name}.service: no ExecStart")


def unit_environment() -> dict[str, str]:
    """Environment that our systemd units share, as it is shipped."""
    lines = (SYSTEMD / "ssx.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def debian_program(name: str, package: str, *folders: str) -> str:
    """Path of a program of a Debian package.

    Raises
    ------
    MissingProgramError
        It is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *folders])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingProgramError(f"{name} is not installed (Debian: {package}); make debian installs it")
    return found


def wait_until(
    what: Callable[[], object], problem: str, log: Path | None = None, patience_s: float = PATIENCE_S
) -> None:
    """Wait until something is so.

    Raises
    ------
    StackError
        It is not within the time.
    """
    stop = time.monotonic() + patience_s
    while not what():
        if time.monotonic() > stop:
            raise StackError(f"{problem} within {patience_s:g} s{f': {last_lines(log)}' if log else ''}")
        time.sleep(0.1)


def last_lines(log: Path) -> str:
    """End of a log, with its path."""
    return f"{log} ends with: {log.read_text(errors='replace')[-1500:]}"


def children(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    found: list[int] = []
    try:
        of_threads = list(Path(f"/proc/{pid}/task").glob("*/children"))
        own = [int(child) for thread in of_threads for child in thread.read_text().split()]
    except OSError:  # it has just ended
        return found
    for child in own:
        found += [child, *children(child)]
    return found


def command_line(pid: int) -> str:
    """Words that a process was started with; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def is_healthy(api: str) -> bool:
    """Whether the Prefect server with this API answers."""
    try:
        return httpx.get(f"{api}/health", timeout=5).is_success
    except httpx.TransportError:
        return False
