"""Peaks of 70 real XFEL frames (CSPAD, 64 panels) are indexed as CrystFEL did, and some more."""

import json
from dataclasses import replace
from pathlib import Path

import gemmi
import h5py
import numpy as np
import pytest

from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.frame_reader import open_reader
from ssx_processing.kernels.geometry import incident_wave_vector, panel_axes, panel_rectangles, pixel_to_q
from ssx_processing.kernels.indexing import IndexedLattice, Indexer
from ssx_processing.kernels.unit_cell import b_matrix, cell_of, misorientation_deg, search_lattice
from ssx_processing.models import Geometry

CELL = (61.5, 122.7, 168.8, 90.0, 90.0, 90.0)
ENCODER = "LCLS/detector0-EncoderValue"
SPOT_ERROR = 0.8 * 0.11 / 152
"""Radians."""


def geometry_of(frame: dict, geom: Path, folder: Path) -> Geometry:
    """The frame's file is made again with what the geometry file reads there."""
    with h5py.File(folder / "frame.h5", "w") as file:
        file[ENCODER] = float(frame[f"hdf5/{ENCODER}"])
        file["LCLS/photon_energy_eV"] = float(frame["photon_energy_eV"])
        file.create_dataset("data/data", shape=(1480, 1552), dtype="i2")
    reader = open_reader(folder / "frame.h5", geom)
    reader.close()
    return reader.geometry


@pytest.fixture(scope="module")
def indexed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[IndexedLattice]]:
    """Lattices of each frame."""
    data, folder = real_data / "5ht2b_lcls_crystfel_stream", tmp_path_factory.mktemp("frames")
    geom = folder / "cspad.geom"  # the mask it names is on another computer
    lines = (data / "geometry.geom").read_text().splitlines()
    geom.write_text("\n".join(line for line in lines if not line.startswith("mask")))
    peaks = dict(np.load(data / "peaks.npz"))
    indexer = Indexer(search_lattice(CELL, gemmi.SpaceGroup("C 2 2 21")), np.zeros(3), 1.0)
    found = []
    for number, frame in enumerate(json.loads((data / "frames.json").read_text())):
        geometry = geometry_of(frame, geom, folder)
        mine = peaks["frame"] == number
        names = {panel.name: i for i, panel in enumerate(geometry.panels)}
        panel = np.array([names[name] for name in peaks["panel"][mine]], np.int32)
        s0 = incident_wave_vector(geometry)
        q = pixel_to_q(
            peaks["fs"][mine], peaks["ss"][mine], panel, panel_rectangles(geometry), panel_axes(geometry),
            s0, 0.0, 0.0,
        )  # fmt: skip
        of_frame = replace(indexer, s0=s0, sigma_q=SPOT_ERROR / geometry.wavelength)
        found.append(of_frame.index(q, np.maximum(peaks["I"][mine], 1.0))[0])
    return found


def test_half_of_the_frames_have_the_known_cell(indexed: list[list[IndexedLattice]]):
    to_conventional = search_lattice(CELL, gemmi.SpaceGroup("C 2 2 21")).to_conventional
    cells = [[cell_of(one.a_primitive @ to_conventional) for one in frame] for frame in indexed]
    near = [any(np.allclose(cell[:3], CELL[:3], rtol=0.03) for cell in frame) for frame in cells]
    assert len(near) == 70
    assert sum(near) >= 34


def test_orientations_are_those_of_crystfel(indexed: list[list[IndexedLattice]], real_data: Path):
    lattice = search_lattice(CELL, gemmi.SpaceGroup("C 2 2 21"))
    crystals = json.loads((real_data / "5ht2b_lcls_crystfel_stream" / "crystals.json").read_text())
    both = 0
    for crystal in crystals:
        axes = np.array([crystal[f"{name}star_nm-1"] for name in "abc"]) / 10
        theirs, ours = crystfel_to_laboratory(axes).T, indexed[crystal["frame"]]
        if ours:
            both += 1
            angles = [
                misorientation_deg(
                    one.a_primitive @ lattice.to_conventional, theirs, b_matrix(CELL), lattice.rotations
                )
                for one in ours
            ]
            assert min(angles) < 1.0
    assert len(crystals) == 32
    assert both >= 28
