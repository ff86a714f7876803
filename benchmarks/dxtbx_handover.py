"""What it costs that dxtbx runs in another process: MB/s and ms per frame of 1, 4 and 16 Mpx, 32 bit.

    python benchmarks/dxtbx_handover.py

Two tables for each size. The hand-over alone, within one process: by writes to and reads from a file in
memory, or by mapping that file; with the copy into the reader's own array, as we do it, or without. And
requests, with the time that dxtbx itself takes to open and read an SMV file of that size in its own
Python. Ratios are to one memcpy of the frame in the same run. Wall-clock medians; run it on an idle
machine.
"""

import mmap
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.dxtbx_child import DxtbxChild
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.dxtbx_process import SYSTEM_PYTHON
from ssx_processing.formats.dxtbx_server import SharedFile

DXTBX_ALONE = """
import sys, time, statistics
from io import BytesIO
from dxtbx.format.Format import Format
from dxtbx.format.Registry import get_format_class_for_file
times = []
for _ in range(8):
    Format.get_cache_controller().check("", BytesIO)
    start = time.perf_counter()
    images = get_format_class_for_file(sys.argv[1]).get_imageset([sys.argv[1]], as_imageset=True)
    opened = time.perf_counter()
    pixels = images.get_raw_data(0)[0].as_numpy_array()
    times.append((1e3 * (opened - start), 1e3 * (time.perf_counter() - opened)))
print(*(statistics.median(part) for part in zip(*times[1:])))
"""

SIDES = {1: 1024, 4: 2048, 16: 4096}
"""Rows and columns, by Mpx."""
REPEATS = 31


def median_ms(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall-clock time of a call; the first is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return statistics.median(times)


def handovers(frame: NDArray[np.int32]) -> dict[str, float]:
    """Milliseconds of ways to bring a frame from one array to another through a file in memory."""
    own = np.empty_like(frame)
    descriptor = os.memfd_create("benchmark")
    shared = SharedFile(descriptor)
    there = shared.room(frame.shape, frame.dtype.str)
    here = np.frombuffer(mmap.mmap(descriptor, frame.nbytes, prot=mmap.PROT_READ), np.int32)
    here = here.reshape(frame.shape)

    def write_and_read() -> None:
        for call, array in ((os.pwritev, frame), (os.preadv, own)):
            left = memoryview(array.reshape(-1).view(np.uint8).data)
            position = 0
            while position < len(left):
                position += call(descriptor, [left[position:]], position)

    def map_and_copy() -> None:
        np.copyto(there, frame)
        np.copyto(own, here)

    times = {
        "memcpy": median_ms(lambda: np.copyto(own, frame)),
        "write, read": median_ms(write_and_read),
        "mapped, copied out": median_ms(map_and_copy),
        "mapped, used in place": median_ms(lambda: np.copyto(there, frame)),
    }
    os.close(descriptor)
    return times


def write_smv(path: Path, side: int) -> Path:
    """Write an SMV file that dxtbx knows, of the side given."""
    header = (
        "{\nHEADER_BYTES=1024;\nDIM=2;\nBYTE_ORDER=little_endian;\nTYPE=unsigned_short;\n"
        f"SIZE1={side};\nSIZE2={side};\nPIXEL_SIZE=0.1;\nDISTANCE=100;\nWAVELENGTH=1.0;\n"
        "BEAM_CENTER_X=50;\nBEAM_CENTER_Y=50;\nDENZO_X_BEAM=50;\nDENZO_Y_BEAM=50;\nPHI=0;\nOSC_START=0;\n"
        "OSC_RANGE=0;\nTIME=0.1;\nTWOTHETA=0;\nDETECTOR_SN=000;\nBEAMLINE=fake;\n}\f\n"
    )
    pixels = np.random.default_rng(0).poisson(3, (side, side)).astype("<u2")
    path.write_bytes(header.encode().ljust(1024) + pixels.tobytes())
    return path


def requests(path: Path) -> dict[str, float]:
    """Milliseconds of a request for a frame at hand, of its parts, and of dxtbx's own reading."""
    reader = DxtbxReader(path)
    python = os.environ.get("SSX_DXTBX_PYTHON", SYSTEM_PYTHON)
    child = DxtbxChild(python, 120)
    command = [python, "-c", DXTBX_ALONE, str(path)]
    alone = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - as the site says
    opening, reading = map(float, alone.stdout.split())
    times = {
        "a request without pixels": median_ms(lambda: child.ask({"op": "none"}, 10)),
        "a frame at hand, read()": median_ms(lambda: reader.read(0)),
        "a file opened and read": median_ms(lambda: DxtbxReader(path).read(0), 7),
        "dxtbx alone, opening": opening,
        "dxtbx alone, reading": reading,
    }
    child.end()
    return times


def show(title: str, n_bytes: int, times: dict[str, float], memcpy: float) -> None:
    """Print a table."""
    print(f"\n{title}")
    for name, ms in times.items():
        print(f"  {name:28s} {ms:9.3f} ms {n_bytes / ms / 1e3:9.0f} MB/s {ms / memcpy:7.2f} x memcpy")


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        for mpx, side in SIDES.items():
            frame = np.random.default_rng(0).poisson(3, (side, side)).astype(np.int32)
            alone = handovers(frame)
            title = f"{mpx} Mpx, {frame.nbytes / 1e6:.1f} MB: the hand-over alone"
            show(title, frame.nbytes, alone, alone["memcpy"])
            path = write_smv(Path(folder) / f"frame{mpx}_001.img", side)
            show(f"{mpx} Mpx: requests", frame.nbytes, requests(path), alone["memcpy"])


if __name__ == "__main__":
    main()
