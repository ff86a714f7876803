"""A real geometry file, held against what CrystFEL itself computed with it (64 panels of a CSPAD)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.frame_reader import open_reader
from ssx_processing.kernels.geometry import (
    incident_wave_vector,
    moved,
    panel_axes,
    panel_rectangles,
    pixel_to_q,
    ray_to_pixel,
)
from ssx_processing.models import Geometry

ENCODER = "LCLS/detector0-EncoderValue"
FOLDER = "5ht2b_lcls_crystfel_stream"


@dataclass(frozen=True)
class Stream:
    """What CrystFEL found on the frames."""

    frames: list[dict[str, Any]]
    crystals: list[dict[str, Any]]
    """Those found at the first try: with more, shifts of earlier tries count too, which are not printed."""
    peaks: dict[str, NDArray[Any]]
    reflections: dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def stream(real_data: Path) -> Stream:
    folder = real_data / FOLDER
    crystals = json.loads((folder / "crystals.json").read_text())
    frames = json.loads((folder / "frames.json").read_text())
    return Stream(
        frames,
        [crystal for crystal in crystals if frames[crystal["frame"]]["n_indexing_tries"] == "1"],
        dict(np.load(folder / "peaks.npz")),
        dict(np.load(folder / "reference_reflections.npz")),
    )


@pytest.fixture(scope="module")
def geometries(real_data: Path, stream: Stream, tmp_path_factory: pytest.TempPathFactory) -> list[Geometry]:
    """Geometry of each frame: its file is made again with what the geometry file reads there."""
    folder = tmp_path_factory.mktemp("frames")
    lines = (real_data / FOLDER / "geometry.geom").read_text().splitlines()
    geom = folder / "cspad.geom"  # the mask it names is on another computer
    geom.write_text("\n".join(line for line in lines if not line.startswith("mask")))
    found: list[Geometry] = []
    for frame in stream.frames:
        with h5py.File(folder / "frame.h5", "w") as file:
            file[ENCODER] = float(frame[f"hdf5/{ENCODER}"])
            file["LCLS/photon_energy_eV"] = float(frame["photon_energy_eV"])
            file.create_dataset("data/data", shape=(1480, 1552), dtype="i2")
        reader = open_reader(folder / "frame.h5", geom)
        reader.close()
        found.append(reader.geometry)
    return found


def shifted(geometry: Geometry, crystal: dict[str, Any]) -> Geometry:
    """Geometry with the shift that CrystFEL refined for one crystal, mm in its frame."""
    x, y = re.findall(r"-?\d+\.\d+", crystal["predict_refine/det_shift x"])
    return moved(geometry, crystfel_to_laboratory([float(x), float(y), 0.0]))


def peak_errors(stream: Stream, frame: int, geometry: Geometry) -> NDArray[np.float64]:
    """|q| of a frame's peaks, less what CrystFEL printed, 1/nm."""
    of_frame = stream.peaks["frame"] == frame
    fs, ss, names, printed = (stream.peaks[name][of_frame] for name in ("fs", "ss", "panel", "inv_d_nm"))
    numbers = {panel.name: number for number, panel in enumerate(geometry.panels)}
    panels = np.array([numbers[name] for name in names], np.int32)
    s0 = incident_wave_vector(geometry)
    q = pixel_to_q(fs, ss, panels, panel_rectangles(geometry), panel_axes(geometry), s0, 0.0, 0.0)
    return 10 * np.linalg.norm(q, axis=1) - printed


def test_peaks_have_the_resolution_that_crystfel_printed(stream: Stream, geometries: list[Geometry]):
    """To half of the last digit, 0.01 1/nm, where the refined shift of the detector is known."""
    known = [peak_errors(stream, c["frame"], shifted(geometries[c["frame"]], c)) for c in stream.crystals]
    assert sum(map(len, known)) > 500
    assert np.abs(np.concatenate(known)).max() < 0.00505
    plain = [peak_errors(stream, frame, geometry) for frame, geometry in enumerate(geometries)]
    assert sum(map(len, plain)) == 2172
    assert np.abs(np.concatenate(plain)).max() < 0.009  # without the shifts, of up to 0.1 mm


def test_reflections_are_where_crystfel_predicted_them(stream: Stream, geometries: list[Geometry]):
    """To half of the last digit, 0.1 pixel; the matrices keep their hand when they are turned."""
    errors = []
    for crystal in stream.crystals:
        geometry = shifted(geometries[crystal["frame"]], crystal)
        axes = np.array([crystal[f"{name}star_nm-1"] for name in "abc"]) / 10
        a_matrix = crystfel_to_laboratory(axes).T
        assert np.linalg.det(a_matrix) > 0
        of_crystal = stream.reflections["crystal"] == crystal["crystal"]
        hkl, fs, ss = (stream.reflections[name][of_crystal] for name in ("hkl", "fs", "ss"))
        rays = incident_wave_vector(geometry) + hkl @ a_matrix.T
        rays /= np.linalg.norm(rays, axis=1)[:, None]
        rectangles, panels = panel_rectangles(geometry), panel_axes(geometry)
        for (x, y, z), here in zip(rays, np.column_stack([fs, ss]), strict=True):
            found = ray_to_pixel((x, y, z), rectangles, panels, 0.0, 0.0)
            assert found[2] >= 0
            errors.append(np.array(found[:2]) - here)
    assert len(stream.crystals) == 28
    assert len(errors) > 5000
    assert np.abs(errors).max() < 0.08


def test_the_mask_of_another_computer_is_asked_for(real_data: Path, tmp_path: Path):
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        file[ENCODER], file["LCLS/photon_energy_eV"] = -430.0, 9500.0
        file.create_dataset("data/data", shape=(1480, 1552), dtype="i2")
    with pytest.raises(GeometryError, match=r"line 10: .*badpixelmap\.h5 is no HDF5 file that could hold"):
        open_reader(tmp_path / "frame.h5", real_data / FOLDER / "geometry.geom")
