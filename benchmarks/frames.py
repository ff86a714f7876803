"""CPU time of one core per frame or hit, stage by stage, as ratios to bare decompression in the same run.

    python benchmarks/frames.py [uint16|uint32]

Bare decompression is the C function alone (bitshuffle/LZ4) on chunks that are in memory already.
Frames come from the project's simulation, 1 and 4 Mpx, 40 spots and more per hit. All stages of a
frame are timed one after the other, so that a busy machine slows all of them alike; medians of
thread CPU time.
"""

import ctypes
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import h5py
import hdf5plugin
import numpy as np

from ssx_processing.formats.frames import FrameSet
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.calibration import calibrated_processor
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import CalibrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import FOUR_MPX, ChipSettings, SimulatedDetector

N_FRAMES = 80
PASSES = 3


class Times:
    """Milliseconds of thread CPU time by stage."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = defaultdict(list)

    def measure(self, stage: str, work: Callable[[], Any]) -> Any:
        start = time.thread_time_ns()
        result = work()
        self.of[stage].append((time.thread_time_ns() - start) / 1e6)
        return result


def bare_decompressor(data_file: Path) -> Callable[[int], None]:
    """Decompress chunk number n of a file, its bytes being in memory."""
    plugin = next(Path(hdf5plugin.PLUGINS_PATH).glob("libh5bshuf*"))
    function = ctypes.CDLL(str(plugin)).bshuf_decompress_lz4
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t]
    with h5py.File(data_file) as file:
        dataset = file["/entry/data/data"]
        if not isinstance(dataset, h5py.Dataset):
            raise TypeError(f"{data_file}: /entry/data/data is no data set")
        chunks = [dataset.id.read_direct_chunk((i, 0, 0))[1] for i in range(len(dataset))]
        out = np.empty(dataset.shape[1:], dataset.dtype)
    arrays = [np.frombuffer(c, np.uint8) for c in chunks]
    blocks = [int.from_bytes(c[8:12], "big") // out.itemsize for c in chunks]

    def decompress(n: int) -> None:
        if function(arrays[n].ctypes.data + 12, out.ctypes.data, out.size, out.itemsize, blocks[n]) < 0:
            raise RuntimeError(f"chunk {n} is damaged")

    return decompress


def measure(folder: Path, detector: SimulatedDetector) -> tuple[Times, float]:
    chip = simulate_chip(folder, ChipSettings(n_frames=N_FRAMES, n_files=1, detector=detector))
    settings = ProcessingSettings(sample=chip.sample, calibration=CalibrationSettings(n_frames=N_FRAMES))
    plan = make_plan([chip.master], settings)
    calibration = calibrate(plan, settings, folder / "out")
    processor = calibrated_processor(calibration, settings)
    decompress, times, n_spots = bare_decompressor(chip.data_files[0]), Times(), []
    with FrameSet(plan.paths) as frames:
        for _ in range(PASSES):
            for frame in range(frames.n_frames):
                times.measure("decompress", lambda n=frame: decompress(n))
                image = times.measure("read", lambda n=frame: frames.read(n))
                is_hit = _measure_frame(processor, image, times)
                if is_hit:
                    n_spots.append(is_hit)
    return times, float(np.median(n_spots))


def _measure_frame(processor: FrameProcessor, image: np.ndarray, times: Times) -> int:
    """Stages after reading; number of spots of a hit, 0 for a blank."""
    own = Times()
    spots = own.measure("spots", lambda: processor.hits.find(image))
    if not processor.hits.is_hit(spots):
        times.of["spots, blank"] += own.of["spots"]
        return 0
    times.of["spots, hit"] += own.of["spots"]
    lattices = times.measure("index", lambda: processor.index(spots)).lattices
    if not lattices:
        return len(spots)
    q = np.linalg.norm(processor.scattering_vectors(spots), axis=1)
    predictions = times.measure(
        "predict", lambda: tuple(processor.predict(lattice, q) for lattice in lattices)
    )
    times.measure("integrate", lambda: processor.integrate(image, predictions))
    return len(spots)


def report(name: str, times: Times, n_spots: float) -> None:
    medians = {stage: float(np.median(values)) for stage, values in times.of.items()}
    bare = medians["decompress"]
    print(f"\n{name}; median spots per hit {n_spots:.0f}")
    print(f"{'stage':32s} {'ms':>8s} {'ratio to bare decompression':>30s}")
    blank = medians["read"] + medians["spots, blank"]
    hit = medians["read"] + sum(medians[s] for s in ("spots, hit", "index", "predict", "integrate"))
    for stage, ms in [
        *medians.items(),
        ("blank, read to spot list", blank),
        ("hit, read to integrated", hit),
    ]:
        print(f"{stage:32s} {ms:8.2f} {ms / bare:30.2f}")


def main(pixel_type: Literal["uint16", "uint32"]) -> None:
    for name, detector in (("1 Mpx", SimulatedDetector()), ("4 Mpx", FOUR_MPX)):
        with tempfile.TemporaryDirectory() as folder:
            times, n_spots = measure(Path(folder), detector.model_copy(update={"pixel_type": pixel_type}))
        report(f"{name} {pixel_type}", times, n_spots)


if __name__ == "__main__":
    main("uint32" if "uint32" in sys.argv[1:] else "uint16")
