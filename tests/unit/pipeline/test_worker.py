"""A worker in a process of its own, as flows start it: its memory, and how long its first chunk takes."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import CalibrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import SimulatedChip
from tests.conftest import ROOT

WORKER = """
import json, sys, time
from pathlib import Path

started = time.process_time()
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import ChunkJob, process_chunk
from ssx_processing.settings import ProcessingSettings

def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6

master, settings, calibration, folder = sys.argv[1:]
settings = ProcessingSettings.model_validate_json(settings)
plan = make_plan([Path(master)], settings)
imported = time.process_time()
for frames in plan.ranges:
    job = ChunkJob(plan.paths, plan.identity, frames, settings, Path(calibration), Path(folder))
    cpu = time.process_time()
    summary = process_chunk(job)
    print(json.dumps({"mb": resident_mb(), "cpu_s": time.process_time() - cpu,
                      "import_s": imported - started, "frames": summary.counts.frames_total}), flush=True)
"""


def repeated(master: Path, times: int) -> Path:
    """A master whose virtual dataset shows the same stored frames several times over."""
    other = master.with_name(f"repeated_{times}_master.h5")
    other.write_bytes(master.read_bytes())
    with h5py.File(other, "r+") as file:
        group = file["/entry/data"]
        assert isinstance(group, h5py.Group)
        data = group["data"]
        assert isinstance(data, h5py.Dataset)
        layout = h5py.VirtualLayout((data.shape[0] * times, *data.shape[1:]), data.dtype)
        start = 0
        for source in data.virtual_sources() * times:
            shape = (source.vspace.get_select_npoints() // (data.shape[1] * data.shape[2]), *data.shape[1:])
            layout[start : start + shape[0]] = h5py.VirtualSource(source.file_name, source.dset_name, shape)
            start += shape[0]
        del group["data"]
        group.create_virtual_dataset("data", layout)
    return other


def run_worker(master: Path, settings: ProcessingSettings, folder: Path) -> list[dict[str, float]]:
    """What a fresh process says after each chunk."""
    calibration = calibrate(make_plan([master], settings), settings, folder)
    command = [sys.executable, "-c", WORKER, master, settings.model_dump_json(), calibration.folder, folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_worker_that_has_seen_5000_frames_holds_no_more_than_after_some(
    simulated_chip: SimulatedChip, tmp_path: Path
):
    settings = ProcessingSettings(
        sample=simulated_chip.sample, calibration=CalibrationSettings(n_frames=80), frames_per_chunk=250
    )
    after = run_worker(repeated(simulated_chip.master, 32), settings, tmp_path)
    assert sum(chunk["frames"] for chunk in after) >= 5000
    memory = [chunk["mb"] for chunk in after]
    assert max(memory) < 600
    assert max(memory[-5:]) < max(memory[2:7]) + 25


@pytest.mark.slow
def test_kernels_compiled_once_serve_every_later_worker(simulated_chip: SimulatedChip, tmp_path: Path):
    settings = ProcessingSettings(
        sample=simulated_chip.sample, calibration=CalibrationSettings(n_frames=80), frames_per_chunk=40
    )
    run_worker(simulated_chip.master, settings, tmp_path / "compiles")
    first, *others = run_worker(simulated_chip.master, settings, tmp_path / "does not")
    # compiling takes half a minute; what a first chunk costs beyond another is in benchmarks/start_up.py
    assert first["cpu_s"] - min(chunk["cpu_s"] for chunk in others) < 10
