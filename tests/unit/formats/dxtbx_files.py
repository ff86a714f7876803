"""Small HDF5 files that format classes of dxtbx know, and a Python whose dxtbx dies or hangs on demand."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.dxtbx_connection import shared_connection
from ssx_processing.formats.dxtbx_process import DxtbxProcess


def write_sacla_rayonix(path: Path, frames: NDArray[np.uint16]) -> Path:
    """Write a file as SACLA's Cheetah pipeline does for the MX300-HS, of 192 x 192 big pixels."""
    with h5py.File(path, "w") as file:
        file["metadata/detector"] = b"Rayonix MX300HS"
        file["metadata/pixelsize_in_um"] = 39.1 * 40
        for number, frame in enumerate(frames):
            file[f"tag-{5000 + number}/data"] = frame
            file[f"tag-{5000 + number}/photon_energy_ev"] = 10_000.0
    return path


def rayonix_frames(n_frames: int) -> NDArray[np.uint16]:
    """Frames that fit ``write_sacla_rayonix``, each another."""
    return np.random.default_rng(1).poisson(5, (n_frames, 192, 192)).astype(np.uint16)


def side_process() -> DxtbxProcess:
    """The side process that readers share."""
    connection = shared_connection()
    assert isinstance(connection, DxtbxProcess)
    return connection


@dataclass
class FatalPython:
    """A Python that signals itself when dxtbx is asked for what is named; real dxtbx, real signals."""

    path: Path
    orders: Path

    def dies(self, when: str, *, by: signal.Signals = signal.SIGKILL, times: int = 1_000) -> None:
        """Send itself a signal at ``start``, ``open`` or ``read N``, that many times."""
        self.orders.write_text(json.dumps({"when": when, "signal": int(by), "times": times}))


def write_fatal_python(folder: Path, python: str) -> FatalPython:
    """Write the Python; it runs the server script as its parent asks, after wrapping a class of dxtbx."""
    fatal = FatalPython(folder / "fatal_python", folder / "orders.json")
    fatal.path.write_text(_FATAL.format(python=python, orders=str(fatal.orders)))
    fatal.path.chmod(0o755)
    fatal.dies("never")
    return fatal


_FATAL = """#!{python}
import json, os, runpy, sys
from pathlib import Path

orders = Path({orders!r})


def may_die(event):
    order = json.loads(orders.read_text())
    if order["when"] == event and order["times"] > 0:
        order["times"] -= 1
        orders.write_text(json.dumps(order))
        os.kill(os.getpid(), order["signal"])


may_die("start")
from dxtbx.format.FormatHDF5SaclaRayonix import FormatHDF5SaclaRayonix as FormatClass


class Fatal:
    count, read = FormatClass.get_num_images, FormatClass.get_raw_data

    def get_num_images(self):
        may_die("open")
        return Fatal.count(self)

    def get_raw_data(self, index=None):
        may_die("read %s" % index)
        return Fatal.read(self, index)


FormatClass.get_num_images, FormatClass.get_raw_data = Fatal.get_num_images, Fatal.get_raw_data
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
