"""Wall time of `ssx merge` on a result of many lattices: to the table on the terminal, in all, of its parts.

python benchmarks/remerge.py [n_lattices [folder]]; the result stays in the folder for a second time.

A small simulated chip is processed; then its plan is rewritten to many more frames, and chunks with the
observations of generated crystals are put in the place of its own. Each merge has another d_min, so that
nothing is found there already. Median of three; one merge before them compiles what there is to compile.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from flows.data_set_run import jobs_of_plan
from ssx_processing.formats.chunk_folder import SUMMARY, read_summary, read_table, write_chunk, write_json
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import FrameCounts, FrameRange, Plan
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS
from ssx_processing.settings import ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.still_observations import (
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)

FRAMES_PER_CHUNK = 250
HIT_FRACTION = 0.4
TABLES = ("frames", "lattices", "observations", "spots")
SSX = "import sys; from flows.cli import main; sys.argv[0] = 'ssx'; main()"
PARTS = """
import json, sys, time
from pathlib import Path
import ssx_processing.pipeline.merge as merge
import ssx_processing.pipeline.report as report
from flows.merge import MergeRequest, run_merge
seconds = {}
def timed(module, name):
    work = getattr(module, name)
    def wrapped(*args, **more):
        start = time.perf_counter()
        try:
            return work(*args, **more)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
    setattr(module, name, wrapped)
for name in ("read_merge_input", "_merge_in_one_setting", "summarise", "tables_of", "write_merge"):
    timed(merge, name)
timed(report, "write_report")
run_merge(MergeRequest(folder=Path(sys.argv[1]), settings={"merging": {"d_min": float(sys.argv[2])}}))
print(json.dumps(seconds))
"""


def make_result(folder: Path, n_lattices: int) -> Path:
    """A result as `ssx process` leaves it, of so many lattices."""
    chip = simulate_chip(folder / "raw", ChipSettings(n_frames=40, n_files=1, hit_fraction=0.6))
    cell = ",".join(f"{value:g}" for value in chip.sample.unit_cell)
    out = folder / "out"
    ssx(
        "process", chip.master, "--cell", cell, "--space-group", chip.sample.space_group,
        "--out", out, "--set", "frames_per_chunk=10",
    )  # fmt: skip
    experiment = StillExperiment(
        n_lattices=n_lattices, model="sphere", mosaicity_deg=0.1, d_min=2.0,
        unit_cell=chip.sample.unit_cell, space_group=chip.sample.space_group,
    )  # fmt: skip
    enlarge(out, simulate_still_observations(experiment))
    return out


def enlarge(out: Path, stills: StillObservations) -> None:
    """Chunks of these observations, with the columns and kinds of rows of those that are there."""
    run, content = RunFolder(out), json.loads(RunFolder(out).plan.read_text())
    settings = ProcessingSettings.model_validate(content["settings"])
    donors = [folder for folder in run.chunks.iterdir() if (folder / SUMMARY).is_file()]
    donor = {name: pd.concat([read_table(folder, name) for folder in donors]) for name in TABLES}
    tables = enlarged_tables(donor, stills)
    n_frames = len(tables["frames"])
    starts = range(0, n_frames, FRAMES_PER_CHUNK)
    ranges = tuple(FrameRange(start, min(start + FRAMES_PER_CHUNK, n_frames)) for start in starts)
    plan = Plan(
        tuple(Path(path) for path in content["plan"]["paths"]),
        n_frames, ranges, content["plan"]["identity"], content["plan"]["wavelength"], None,
    )  # fmt: skip
    jobs = jobs_of_plan(plan, settings, run.calibrations / content["calibration"], out)
    summary = read_summary(donors[0])
    for job in jobs:
        part = {name: of_frames(table, job.frames) for name, table in tables.items()}
        hits = int((part["frames"]["status"] == "integrated").sum())
        counts = FrameCounts(
            frames_total=len(part["frames"]), frame_hits=hits, crystal_hits=hits, frames_indexed=hits,
            lattices_indexed=len(part["lattices"]), spots_on_hits=len(part["spots"]),
            spots_on_indexed=len(part["spots"]), spots_explained=len(part["spots"]),
        )  # fmt: skip
        write_chunk(
            job.folder,
            part,
            summary | {"key": job.key, "frames": asdict(job.frames), "counts": asdict(counts)},
        )
    write_json(run.plan, content | {"plan": asdict(plan), "chunks": [job.key for job in jobs]})


def enlarged_tables(donor: dict[str, pd.DataFrame], stills: StillObservations) -> dict[str, pd.DataFrame]:
    """Tables of all frames: what the simulation does not know is repeated from the donor's rows."""
    n_lattices = len(stills.log_g)
    n_frames = int(n_lattices / HIT_FRACTION)
    rng = np.random.default_rng(0)
    frame_of = np.sort(rng.choice(n_frames, n_lattices, replace=False))
    is_hit = np.isin(np.arange(n_frames), frame_of)
    integrated = (donor["frames"]["status"] == "integrated").to_numpy()
    row_of = np.empty(n_frames, np.int64)
    row_of[is_hit] = np.resize(np.flatnonzero(integrated), n_lattices)
    row_of[~is_hit] = np.resize(np.flatnonzero(~integrated), n_frames - n_lattices)
    frames = donor["frames"].iloc[row_of].reset_index(drop=True)
    frames["frame"] = frames["file_index"] = np.arange(n_frames)
    frames["n_lattices"] = is_hit.astype(np.int32)
    lattices = repeated(donor["lattices"], n_lattices)
    lattices["frame"], lattices["lattice"] = frame_of, np.int16(0)
    lattices[list(A_COLUMNS)] = stills.a_matrices.reshape(-1, 9)
    lattices[CELL_COLUMNS] = [cell_of(a) for a in stills.a_matrices]
    lattices["resolution_limit"] = np.float32(stills.unit.d_min)
    observations = repeated(donor["observations"], len(stills.lattice))
    observations["frame"], observations["lattice"] = frame_of[stills.lattice], np.int16(0)
    observations[["h", "k", "l"]] = stills.hkl.astype(np.int16)
    for name in ("intensity", "sigma", "excitation_error", "excitation_sigma", "noise_variance"):
        observations[name] = getattr(stills, name).astype(np.float32)
    observations["flags"] = np.uint8(0)
    spots = [donor["spots"][donor["spots"]["frame"] == frame] for frame in donor["spots"]["frame"].unique()]
    chosen = [spots[i % len(spots)] for i in range(n_lattices)]
    all_spots = pd.concat(chosen, ignore_index=True)
    all_spots["frame"] = np.repeat(frame_of, [len(table) for table in chosen])
    return {"frames": frames, "lattices": lattices, "observations": observations, "spots": all_spots}


def repeated(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows again and again, n in all."""
    return table.iloc[np.arange(n) % len(table)].reset_index(drop=True)


def of_frames(table: pd.DataFrame, frames: FrameRange) -> pd.DataFrame:
    """Rows of these frames; the table is sorted by them."""
    first, last = np.searchsorted(table["frame"], [frames.start, frames.stop])
    return table.iloc[first:last]


def environment() -> dict[str, str]:
    """Without a Prefect server or settings of this machine's user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SSX_"))}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])}


def ssx(*arguments: object) -> None:
    """Run the command; its output appears only where it fails."""
    command = [sys.executable, "-c", SSX, *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"ssx {arguments[0]}: {done.stderr}")


def timed_merge(out: Path, d_min: float) -> dict[str, float]:
    """Seconds of one merge: until its table is on the terminal, and until its end."""
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SSX, "merge", str(out), "--set", f"merging.d_min={d_min}"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None  # noqa: S101  for the type checker
        assert process.stderr is not None  # noqa: S101
        table, of_cpu = 0.0, 0.0
        for line in process.stdout:
            if line.startswith("└"):
                table, of_cpu = time.perf_counter() - start, cpu_seconds(process.pid)
        errors = process.stderr.read()
    if process.returncode or not table:
        raise RuntimeError(f"ssx merge: {errors}")
    return {
        "from the command to the table": table,
        "CPU time until then": of_cpu,
        "from the command to its end": time.perf_counter() - start,
    }


def parts_of_merge(out: Path, d_min: float) -> dict[str, float]:
    """Seconds of the parts of a merge that is done in one process."""
    command = [sys.executable, "-c", PARTS, str(out), str(d_min)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)


def cpu_seconds(session: int) -> float:
    """CPU time that a command and its workers have used, which on a busy machine says more than wall time."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def only_imports() -> float:
    """Seconds in which the interpreter starts and the command imports what it needs itself."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import flows.cli, flows.console, flows.merge"], env=environment(), check=True
    )
    return time.perf_counter() - start


def main(n_lattices: int, kept: Path | None) -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = kept or Path(name)
        out = folder / "out"
        if not (out / "enlarged").is_file():
            make_result(folder, n_lattices)
            (out / "enlarged").touch()
        d_min = 2.2 + 1e-4 * len(list((out / "merged").iterdir()))
        timed_merge(out, d_min)
        runs = [
            {
                "interpreter and imports": only_imports(),
                **timed_merge(out, d_min + 1e-4 * i),
                **parts_of_merge(out, d_min + 1e-4 * (i + 3)),
            }
            for i in (1, 2, 3)
        ]
    print(f"{n_lattices} lattices")
    for part in runs[0]:
        print(f"{part:34s}{statistics.median(run[part] for run in runs):8.2f} s")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
        Path(sys.argv[2]).absolute() if len(sys.argv) > 2 else None,
    )
