"""What it costs to process a chip again with another cell, from the spots of the first time.

    python benchmarks/reindexing.py [FRAMES [REPEATS]]

Simulates a chip of 1000 frames of 1 Mpx for each hit rate, processes it with its cell, and then with cells of
other lengths: with and without the spots that were found. Prints the median CPU time of a chunk per frame,
the ratio of the two and how many frames were read. Calibration, which reads its frames in any case, is apart.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import ChunkSummary
from ssx_processing.pipeline import process_chunk as of_chunk
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings

HIT_FRACTIONS = (0.1, 0.4)


def main() -> None:
    """Measure and print."""
    n_frames = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print("hits   frames read   fresh, ms per frame   from spots   ratio   calibration, s")
    for hit_fraction in HIT_FRACTIONS:
        with tempfile.TemporaryDirectory() as name:
            print(line(Path(name), n_frames, repeats, hit_fraction))


def line(folder: Path, n_frames: int, repeats: int, hit_fraction: float) -> str:
    """Of the table."""
    chip = simulate_chip(
        folder / "raw", ChipSettings(n_frames=n_frames, n_files=1, hit_fraction=hit_fraction)
    )
    cell = np.array(chip.sample.unit_cell)
    fresh, reused, calibrations, n_read, n_reused = [], [], [], 0, 0
    process(folder, chip.master, ProcessingSettings(sample=chip.sample, frames_per_chunk=n_frames))
    for n in range(repeats):
        a, b, c = cell[:3] * (1 + 0.002 * (n + 1))
        sample = chip.sample.model_copy(update={"unit_cell": (a, b, c, *cell[3:])})
        settings = ProcessingSettings(sample=sample, frames_per_chunk=n_frames)
        from_spots, seconds = process(folder, chip.master, settings)
        n_reused += from_spots.spots_reused
        n_read = from_spots.counts.frames_indexed if from_spots.spots_reused else n_frames
        reused.append(from_spots.cpu_seconds)
        calibrations.append(seconds)
        shutil.rmtree(from_spots.folder)
        shutil.rmtree(RunFolder(folder / "out").spots)
        fresh.append(process(folder, chip.master, settings)[0].cpu_seconds)
    ms = [1000 * float(np.median(seconds)) / n_frames for seconds in (fresh, reused)]
    words = f"{hit_fraction:4.0%} {n_read:8d} of {n_frames} {ms[0]:13.2f} {ms[1]:18.2f} {ms[1] / ms[0]:10.2f}"
    return f"{words} {np.median(calibrations):14.2f}   spots found in {n_reused} of {repeats} cells"


def process(folder: Path, master: Path, settings: ProcessingSettings) -> tuple[ChunkSummary, float]:
    """Calibrate and process the only chunk; CPU seconds of the calibration beside."""
    out = folder / "out"
    plan = make_plan([master], settings)
    started = time.process_time()
    calibration = calibrate(plan, settings, out)
    seconds = time.process_time() - started
    job = ChunkJob(plan.paths, plan.identity, plan.ranges[0], settings, calibration.folder, out)
    of_chunk._processor.cache_clear()  # noqa: SLF001  # a worker would make its own
    return of_chunk.process_chunk(job), seconds


if __name__ == "__main__":
    main()
