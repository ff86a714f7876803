"""Many lattices merged from chunk folders: wall and CPU time by step, memory, and the same bytes however cut.

python benchmarks/merge_scale.py [n_lattices] [--observations N] [--folder F] [--no-second-cut]

The chunks are generated: lattices drawn from a thousand simulated ones, each with a scale and counting
noise of its own, so that what is merged has a known answer. The merge runs in a process of its own.
"""

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.pipeline.chunk_tables import A_COLUMNS, CELL_COLUMNS, COLUMN_TYPES
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings
from ssx_processing.simulation.still_observations import (
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)

SIMULATED = 1000
"""Lattices that are simulated; the others are drawn from them."""
BLOCK = 250
"""Lattices generated at a time, each block from a seed of its own, so that chunks can be cut anywhere."""
FRAMES_PER_LATTICE = 3
BLOCKS_PER_DATA_SET = 200
UNIT_CELL, SPACE_GROUP = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2"
STEPS = (
    "read_merge_input", "select_lattices", "highest_resolution", "_observations", "choose_model",
    "scale_lattices", "repeat_scatter", "merge_sums", "summarise", "tables_of", "write_merge",
)  # fmt: skip
"""Functions whose wall time is shown; none calls another of them."""


@cache
def simulated(n_observations: int) -> StillObservations:
    """The lattices that others are drawn from, with about ``n_observations`` each."""
    mosaicity = max(0.05 + (n_observations - 288) / 4460, 0.01)
    experiment = StillExperiment(SIMULATED, model="sphere", mosaicity_deg=mosaicity, unit_cell=UNIT_CELL)
    return simulate_still_observations(replace(experiment, space_group=SPACE_GROUP, d_min=1.8))


def block_tables(block: int, n_observations: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Frames, lattices and observations of one block."""
    stills, rng = simulated(n_observations), np.random.default_rng([1, block])
    drawn = rng.integers(0, SIMULATED, BLOCK)
    n = np.diff(stills.offsets)[drawn]
    lattice = np.repeat(np.arange(BLOCK), n)
    rows = np.arange(len(lattice)) + np.repeat(stills.offsets[drawn] - np.cumsum(n) + n, n)
    scale = np.exp(rng.normal(0, 0.6, BLOCK))[lattice]
    below = stills.experiment.background
    counted = rng.poisson(scale * stills.partiality[rows] * stills.truth[stills.uid[rows]] + below)
    first = (block % BLOCKS_PER_DATA_SET) * BLOCK * FRAMES_PER_LATTICE
    frame = first + FRAMES_PER_LATTICE * np.arange(BLOCK)
    background = rng.poisson(3 * below, len(rows)) / 3
    jitter = 1 + 1e-3 * rng.normal(size=(2, len(rows)))  # or the files would be smaller than real ones
    values = {
        "frame": frame[lattice], "lattice": 0, **dict(zip("hkl", stills.hkl[rows].T, strict=True)),
        "intensity": counted - background, "sigma": np.sqrt(counted + background / 3),
        "background": background / 30,
        "x_px": rng.uniform(0, 2000, len(rows)), "y_px": rng.uniform(0, 2000, len(rows)),
        "excitation_error": stills.excitation_error[rows] * jitter[0],
        "excitation_sigma": stills.excitation_sigma[rows] * jitter[1], "noise_variance": background * 4 / 3,
        "flags": rng.random(len(rows)) < 0.01,
    }  # fmt: skip
    return _frames(first, block), _lattices(stills, drawn, frame, n), _typed("observations", values)


def _frames(first: int, block: int) -> pd.DataFrame:
    number = np.arange(first, first + BLOCK * FRAMES_PER_LATTICE)
    hit = number % FRAMES_PER_LATTICE == 0
    values = {
        "frame": number, "status": np.where(hit, "integrated", "no_hit"), "misfit": "",
        "n_spots": 40 * hit, "n_lattices": hit, "file": f"/data/run_{block // BLOCKS_PER_DATA_SET:04d}.h5",
        "file_index": number, "total_intensity": 1e4 * hit, "median_background": 3.0,
        "resolution_estimate": 1.8,
    }  # fmt: skip
    return _typed("frames", values)


def _lattices(stills: StillObservations, drawn: np.ndarray, frame: np.ndarray, n: np.ndarray) -> pd.DataFrame:
    matrices = stills.a_matrices[drawn]
    values = {
        "frame": frame, "lattice": 0, **dict(zip(A_COLUMNS, matrices.reshape(-1, 9).T, strict=True)),
        **dict(zip(CELL_COLUMNS, np.array([cell_of(a) for a in matrices]).T, strict=True)),
        "n_indexed": 35, "n_spots": 40, "rmsd_px": 0.3, "log10_e": -30.0, "runner_up_gap": 20.0,
        "split_deg": np.nan, "excitation_width": 1e-3, "resolution_limit": stills.unit.d_min,
        "n_observations": n,
    }  # fmt: skip
    return _typed("lattices", values)


def _typed(table: str, values: dict) -> pd.DataFrame:
    types = COLUMN_TYPES[table]
    return pd.DataFrame(values, columns=list(types)).astype({k: v for k, v in types.items() if v != "str"})


def write_one_chunk(folder: Path, first: int, last: int, n_observations: int) -> None:
    """The blocks from first to last as a chunk folder."""
    parts = [block_tables(block, n_observations) for block in range(first, last)]
    tables = [pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True)]
    data_set = {"input": f"run {first // BLOCKS_PER_DATA_SET}"}
    write_chunk(folder, dict(zip(("frames", "lattices", "observations"), tables, strict=True)), data_set)


def write_chunks(folder: Path, n_blocks: int, per_chunk: int, n_observations: int) -> None:
    """All chunks; none holds frames of two data sets."""
    simulated(n_observations)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = []
        for start in range(0, n_blocks, BLOCKS_PER_DATA_SET):
            stop = min(start + BLOCKS_PER_DATA_SET, n_blocks)
            for first in range(start, stop, per_chunk):
                last, name = min(first + per_chunk, stop), f"{first:06d}"
                jobs.append(pool.submit(write_one_chunk, folder / name, first, last, n_observations))
        for job in jobs:
            job.result()


def merge(chunks: Path, out: Path) -> None:
    """Merge, in this process, and leave what it cost in ``out``/cost.json."""
    sample = SampleSettings(unit_cell=UNIT_CELL, space_group=SPACE_GROUP)
    folders = sorted(chunks.iterdir())
    peak, done = {"RssAnon": 0, "VmRSS": 0}, threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peak, done))
    watcher.start()
    started, profile = time.perf_counter(), cProfile.Profile()
    try:
        summary = profile.runcall(
            merge_chunks, folders, ProcessingSettings(sample=sample, merging=MergingSettings()), out,
            chunks_expected=len(folders), wavelength=1.0, n_threads=os.cpu_count() or 1,
            progress=lambda text: print(f"{time.perf_counter() - started:7.1f} s  {text}", file=sys.stderr),
        )  # fmt: skip
    finally:
        done.set()
        watcher.join()
    cost = {
        "wall": time.perf_counter() - started, "cpu": time.process_time(), "peak": peak,
        "steps": _seconds(profile), "folder": str(summary.folder), "scaling": summary.scaling,
        "lattices": summary.lattices_merged,
    }  # fmt: skip
    profile.dump_stats(out / "profile")
    (out / "cost.json").write_text(json.dumps(cost))


def _watch_memory(peak: dict[str, int], done: threading.Event) -> None:
    """Largest kB of memory of our own (RssAnon), and with pages of mapped files (VmRSS)."""
    while not done.wait(0.1):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]))


def _seconds(profile: cProfile.Profile) -> dict[str, float]:
    """Wall seconds of each step."""
    seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    for (file, _, name), (*_, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name in seconds and "ssx_processing" in file and "merge_setting" not in file:
            seconds[name] += cumulative
    return seconds


def cc_to_truth(folder: Path, n_observations: int) -> float:
    """Correlation of reflections.parquet with the simulated intensities."""
    stills, merged = simulated(n_observations), pd.read_parquet(folder / "reflections.parquet")
    uid, _ = stills.unit.find(*merged[["h", "k", "l"]].to_numpy(np.int64).T)
    known = (uid >= 0) & np.isfinite(merged["intensity"])
    return float(np.corrcoef(merged["intensity"][known], stills.truth[uid[known]])[0, 1])


def run(chunks: Path, out: Path) -> dict:
    """Merge in a process of its own."""
    out.mkdir()
    subprocess.run([sys.executable, __file__, "--merge", chunks, out], check=True)  # noqa: S603
    return json.loads((out / "cost.json").read_text())


def size_of(folder: Path) -> float:
    """GB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def main(arguments: argparse.Namespace) -> None:
    n_blocks = -(-arguments.n_lattices // BLOCK)
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        started = time.perf_counter()
        write_chunks(folder / "cut", n_blocks, 20, arguments.observations)
        n_chunks = len(list((folder / "cut").iterdir()))
        print(
            f"{n_blocks * BLOCK} lattices in {n_chunks} chunks, {size_of(folder):.1f} GB, "
            f"generated in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        cost = run(folder / "cut", folder / "out")
        merged = Path(cost["folder"])
        print(f"{cost['lattices']} merged, {cost['scaling']}")
        print(f"wall {cost['wall']:.1f} s, CPU {cost['cpu']:.1f} s")
        for step, seconds in cost["steps"].items():
            print(f"  {step:20s}{seconds:8.1f} s")
        print(f"  {'all else':20s}{cost['wall'] - sum(cost['steps'].values()):8.1f} s")
        print(f"prepared for the next merge: {size_of(folder / 'out' / 'prepared'):.2f} GB")
        peak = cost["peak"]
        print(f"peak memory {peak['RssAnon'] / 1e6:.2f} GB, with mapped files {peak['VmRSS'] / 1e6:.2f} GB")
        print(f"CC to the truth {cc_to_truth(merged, arguments.observations):.4f}", flush=True)
        if not arguments.no_second_cut:
            shutil.rmtree(folder / "cut")
            write_chunks(folder / "cut", n_blocks, 7, arguments.observations)
            again = Path(run(folder / "cut", folder / "out2")["folder"])
            both = [(f / "reflections.parquet").read_bytes() for f in (merged, again)]
            print(f"the same bytes from {len(list((folder / 'cut').iterdir()))} chunks: {both[0] == both[1]}")
            if both[0] != both[1]:
                sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--merge"]:
        merge(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
        parser.add_argument("n_lattices", type=int, nargs="?", default=5000)
        parser.add_argument("--observations", type=int, default=400)
        parser.add_argument("--folder", type=Path, help="where the chunks go, some 40 kB per lattice")
        parser.add_argument("--no-second-cut", action="store_true")
        main(parser.parse_args())
