"""What Prefect, ledger, ISPyB-less recording and progress cost beside the computing itself.

    python benchmarks/orchestration.py [CHUNKS [FRAMES [MEGAPIXELS]]]

Processes 26 chunks of 1000 frames (the same 1000 simulated ones of 1 or 4 Mpx, 26 times; two fifths are hits)
three times: bare, with our pool of workers, merge and report but nothing else; by ``ssx process`` with an
embedded Prefect server started for it; and with a server that runs already, whose time is counted, too.
Prints CPU time of all processes that took part, wall time, the share of what is not computing, and how many
task runs Prefect has, also for a chip of 256,000 frames.
"""

import ctypes
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deployments.stack.programs import (
    Program,
    children,
    free_port,
    is_healthy,
    unit_command,
    unit_environment,
)
from ssx_processing.pipeline.chunk_size import frames_per_chunk
from ssx_processing.simulation.chip_settings import FOUR_MPX, ChipSettings, SimulatedDetector
from ssx_processing.simulation.nxmx_writer import write_master

PR_SET_CHILD_SUBREAPER = 36
DETECTORS = {"1": SimulatedDetector(), "4": FOUR_MPX}
CELL, SPACE_GROUP = "79.1,79.1,37.9,90,90,90", "P43212"
SIMULATE = """
import sys
from pathlib import Path
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
simulate_chip(Path(sys.argv[1]), ChipSettings.model_validate_json(sys.argv[2]))
"""
BARE = """
import json, os, sys
from pathlib import Path
from flows.executor import worker_processes
from flows.steps import merge_step, report_step
from flows.data_set_run import DataSetRun, jobs_of_plan, write_plan
from flows.job import DataSet
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.settings import ProcessingSettings
master, folder = Path(sys.argv[1]), Path(sys.argv[2])
settings = ProcessingSettings.model_validate_json(sys.argv[3])
plan = make_plan([master], settings)
calibration = calibrate(plan, settings, folder)
jobs = jobs_of_plan(plan, settings, calibration.folder, folder)
data_set = DataSet(master.name, plan.paths, folder, None)
write_plan(DataSetRun(data_set, plan, jobs, settings.frames_per_chunk, 0))
with worker_processes(len(os.sched_getaffinity(0))) as pool:
    chunks = [future.result() for future in [pool.submit(process_chunk, job) for job in jobs]]
merge = merge_step(chunks, settings, folder, len(chunks), (), plan.wavelength, folder)
report_step(folder, merge.folder, reused=(), facts={})
"""


def main() -> None:
    """Run both and print."""
    n_chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 26
    n_frames = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    detector = DETECTORS[sys.argv[3]] if len(sys.argv) > 3 else DETECTORS["1"]
    # processes whose parent has ended become ours, so that their time is counted when we wait for them
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        master = many_frames(folder / "raw", n_chunks, n_frames, detector)
        sample = {"unit_cell": [float(x) for x in CELL.split(",")], "space_group": SPACE_GROUP}
        settings = json.dumps({"sample": sample, "frames_per_chunk": n_frames})
        home = folder / "home"
        environment = os.environ | {"SSX_DATA_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
        ssx = [
            sys.executable,
            "-m",
            "flows",
            "process",
            str(master),
            "--cell",
            CELL,
            "--space-group",
            SPACE_GROUP,
        ]
        ssx += ["--set", f"frames_per_chunk={n_frames}", "--out"]
        bare = [sys.executable, "-c", BARE, str(master), str(folder / "bare"), settings]
        measured(["true"], environment)
        bare_cpu, bare_wall = measured(bare, environment)
        cpu, wall = measured([*ssx, str(folder / "ssx")], environment)
        task_runs = n_task_runs(home)
        with prefect_server(folder / "server") as server:
            ours = environment | {"PREFECT_API_URL": server.environment["PREFECT_API_URL"]}
            served_cpu, served_wall = measured([*ssx, str(folder / "served")], ours, server)
    print(f"{n_chunks} chunks of {n_frames} frames".ljust(30) + "   CPU s   wall s")
    print(f"bare                          {bare_cpu:8.1f} {bare_wall:8.1f}")
    for name, of_cpu, of_wall in (
        ("embedded server", cpu, wall),
        ("server that runs", served_cpu, served_wall),
    ):
        print(f"ssx process, {name:17s}{of_cpu:8.1f} {of_wall:8.1f}")
        print(f"  orchestration's share       {1 - bare_cpu / of_cpu:8.1%} {1 - bare_wall / of_wall:8.1%}")
    others = task_runs - n_chunks
    per_frame = bare_cpu / n_chunks / n_frames
    chunks = -(-256_000 // frames_per_chunk(256_000, per_frame))
    print(f"task runs: {task_runs}, of which {others} are no chunks; of 256,000 frames {chunks + others}")


def many_frames(folder: Path, n_files: int, n_frames: int, detector: SimulatedDetector) -> Path:
    """Master of so many data files, which are all the same."""
    settings = ChipSettings(n_frames=n_frames, n_files=1, detector=detector)
    # in a process of its own, lest its workers are waited for as others' are
    simulate = [sys.executable, "-c", SIMULATE, str(folder), settings.model_dump_json()]
    subprocess.run(simulate, check=True)  # noqa: S603
    data_file = next(folder.glob("*_data_*.h5"))
    master = folder / "many_master.h5"
    many = settings.model_copy(update={"n_frames": n_files * n_frames})
    write_master(master, many, [(data_file, n_frames)] * n_files)
    return master


@contextmanager
def prefect_server(folder: Path) -> Iterator[Program]:
    """A Prefect server on SQLite, as our systemd unit starts it, which has done nothing yet."""
    folder.mkdir()
    port = free_port()
    environment = os.environ | unit_environment() | {
        "PREFECT_HOME": str(folder), "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }  # fmt: skip
    for name in (
        "SSX_SETTINGS_FILE",
        "PREFECT_API_DATABASE_CONNECTION_URL",
        "PREFECT_SERVER_API_AUTH_STRING",
    ):
        del environment[name]

    command = unit_command("ssx-prefect-server")
    server = Program(
        "Prefect server",
        command,
        environment,
        folder / "log",
        lambda: is_healthy(environment["PREFECT_API_URL"]),
    )
    server.start()
    try:
        time.sleep(10)  # its services start
        yield server
    finally:
        server.stop()


def measured(
    command: Sequence[str], environment: dict[str, str], beside: Program | None = None
) -> tuple[float, float]:
    """CPU and wall seconds of a command with all its descendants, and of a program beside it meanwhile."""
    others = [beside.process.pid, *children(beside.process.pid)] if beside and beside.process else []
    before, started = _cpu_seconds(others), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    wall = time.perf_counter() - started
    while left := set(children(os.getpid())) - set(others):
        with suppress(ChildProcessError):
            os.waitpid(min(left), os.WNOHANG)
        time.sleep(0.05)
    if beside:
        time.sleep(5)  # it records what it was told
    return _cpu_seconds(others) - before, wall


def _cpu_seconds(others: Sequence[int]) -> float:
    usage, ticks = resource.getrusage(resource.RUSAGE_CHILDREN), os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in others]
    beside = sum(int(fields[11]) + int(fields[12]) for fields in stats) / ticks
    return usage.ru_utime + usage.ru_stime + beside


def n_task_runs(home: Path) -> int:
    """Task runs in the database of Prefect's embedded server."""
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        return database.execute("SELECT count(*) FROM task_run").fetchone()[0]


if __name__ == "__main__":
    main()
