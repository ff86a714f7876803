"""Small CrystFEL geometry files, and HDF5 files of images for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

WriteGeom = Callable[..., Path]
WriteImages = Callable[..., Path]

BEAM = "photon_energy = 12.4 keV\nclen = 0.1\nres = 10000\n"
"""Pixels of 0.1 mm at 100 mm."""
PANEL = """
p0/min_fs = 0
p0/max_fs = 39
p0/min_ss = 0
p0/max_ss = 19
p0/fs = -1.0x
p0/ss = -1.0y
p0/corner_x = 12.5
p0/corner_y = 8
"""
NEXT_PANEL = PANEL.replace("p0", "p1").replace("ss = 0", "ss = 20").replace("ss = 19", "ss = 39")
"""Of the same image, below."""


def geom_writer(folder: Path) -> WriteGeom:
    """Return what writes ``detector.geom`` with some texts."""

    def write(*texts: str) -> Path:
        path = folder / "detector.geom"
        path.write_text("\n".join(texts))
        return path

    return write


def images_writer(folder: Path) -> WriteImages:
    """Return what writes ``images.h5`` with /data/data of a shape, and other datasets (__ stands for /)."""

    def write(shape: tuple[int, ...] = (20, 40), **others: Any) -> Path:
        path = folder / "images.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("data/data", shape=shape, dtype="i2")
            for name, value in others.items():
                file[name.replace("__", "/")] = value
        return path

    return write
