"""A Slurm of the tests' own: controller and one node on this machine, on a temporary folder."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
MpiDefault=none
KillWait=2
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=ssx Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def running_slurm() -> Iterator[Path]:
    """Path of slurm.conf of a Slurm that takes jobs, gone at the end."""
    munged, controller, node = (_program(name) for name in ("munged", "slurmctld", "slurmd"))
    folder = Path(tempfile.mkdtemp(prefix="ssx-slurm-"))
    folder.chmod(0o755)
    configuration = _write_files(folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "pid", "log", "seed")]
        _daemon(stack, folder, [munged, "-F", "--force", f"--socket={folder}/munge.socket", *files])
        _wait_for(folder / "munge.socket")
        for program in (controller, node):
            _daemon(stack, folder, [program, "-D", "-f", str(configuration)])
        _wait_until_idle(configuration, folder)
        yield configuration


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: slurm-wlm, munge)")
    return found


def _write_files(folder: Path) -> Path:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    controller_port, node_port = _free_ports()
    text = CONFIGURATION.format(
        host=socket.gethostname(),
        user=os.environ.get("USER") or "root",
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
        cores=os.cpu_count(),
    )
    path = folder / "slurm.conf"
    path.write_text(text)
    return path


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _daemon(stack: ExitStack, folder: Path, command: list[str]) -> None:
    with (folder / "daemons.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    stack.callback(process.wait, timeout=30)
    stack.callback(process.terminate)


def _wait_for(path: Path) -> None:
    stop = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > stop:
            pytest.fail(f"no {path.name} after 30 s: {(path.parent / 'daemons.log').read_text()[-2000:]}")
        time.sleep(0.05)


def _wait_until_idle(configuration: Path, folder: Path) -> None:
    stop = time.monotonic() + 60
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    while time.monotonic() < stop:
        state = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    pytest.fail(f"Slurm takes no jobs: {(folder / 'daemons.log').read_text()[-2000:]}")
