"""CPU time of one core from file to spot list, as ratios to bare decompression of the same frames.

    python benchmarks/hit_finding.py

Blank frames, and hits of a large cell with some 200 spots, at 1 and 4 Mpx, as uint16 and uint32.
Bare decompression is the C function alone on chunks that are in memory already. The three are timed
in turn on each frame, so that a busy machine slows all alike; medians of thread CPU time.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from frames import Times, bare_decompressor

from ssx_processing.formats.frames import FrameSet
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.settings import SpotSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import (
    FOUR_MPX,
    ChipSettings,
    SimulatedCrystals,
    SimulatedDetector,
)

N_FRAMES = 60
PASSES = 5
SIZES = (("1 Mpx", SimulatedDetector(), 95.0), ("4 Mpx", FOUR_MPX, 170.0))
"""Name, detector, and how bright the crystals are: for some 200 spots."""


def measure(folder: Path, detector: SimulatedDetector, photons: float) -> tuple[Times, int]:
    """Times of the stages and median number of spots of a hit."""
    crystals = SimulatedCrystals(
        unit_cell=(117.0, 117.0, 60.0, 90.0, 90.0, 90.0), photons_at_4a=photons, scale_variation=0.2
    )
    settings = ChipSettings(
        n_frames=N_FRAMES, n_files=1, hit_fraction=0.5, two_crystal_fraction=0, detector=detector,
        crystals=crystals,
    )  # fmt: skip
    chip = simulate_chip(folder, settings)
    decompress, times, n_spots = bare_decompressor(chip.data_files[0]), Times(), []
    with FrameSet([chip.master]) as frames:
        finder = HitFinder(frames.geometry, frames.bad_pixels, SpotSettings())
        for _, frame in itertools.product(range(PASSES), range(N_FRAMES)):
            times.measure("decompress", lambda n=frame: decompress(n))
            image = times.measure("read", lambda n=frame: frames.read(n))
            own = Times()
            spots = own.measure("", lambda image=image: finder.find(image))
            is_hit = finder.is_hit(spots)
            times.of["spots, hit" if is_hit else "spots, blank"] += own.of[""]
            n_spots += [len(spots)] * is_hit
    return times, int(np.median(n_spots))


def main() -> None:
    """Print a line for each size and type."""
    print(f"{'frames':14s} {'bare ms':>8s} {'read':>6s} {'blank':>6s} {'hit':>6s}   read to spot list: "
          f"{'blank':>6s} {'hit':>6s} {'spots':>6s}")  # fmt: skip
    types: tuple[Literal["uint16", "uint32"], ...] = ("uint16", "uint32")
    for (name, size, photons), pixel_type in itertools.product(SIZES, types):
        with tempfile.TemporaryDirectory() as folder:
            detector = size.model_copy(update={"pixel_type": pixel_type})
            times, n_spots = measure(Path(folder), detector, photons)
        ms = {stage: float(np.median(values)) for stage, values in times.of.items()}
        bare = ms["decompress"]
        read, blank, hit = (ms[stage] / bare for stage in ("read", "spots, blank", "spots, hit"))
        print(f"{name + ' ' + pixel_type:14s} {bare:8.3f} {read:6.2f} {blank:6.2f} {hit:6.2f} {'':20s}"
              f"{read + blank:6.2f} {read + hit:6.2f} {n_spots:6d}")  # fmt: skip


if __name__ == "__main__":
    main()
