"""HDF5 files that are not NXmx: what the format classes of dxtbx make of them, and the way without them.

Written as the format classes of dxtbx 3.12 expect them, since nobody may publish real ones.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.frames import FrameSet, open_reader
from tests.unit.formats.dxtbx_files import rayonix_frames, write_sacla_rayonix

TEN_KEV = 12398.4198 / 10_000.0
"""Å."""


@pytest.fixture
def tags(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Two frames of the MPCCD: eight sensors of 1024 x 512 below each other."""
    return rng.poisson(3, (2, 8192, 512)).astype(np.uint16)


def write_mpccd(path: Path, frames: NDArray[np.uint16]) -> h5py.File:
    """Write a file as SACLA's Cheetah pipeline does for the MPCCD; the caller closes it."""
    file = h5py.File(path, "w")
    for number, frame in enumerate(frames):
        file[f"tag-{5000 + number}/data"] = frame
        file[f"tag-{5000 + number}/photon_energy_ev"] = 10_000.0
    return file


def test_mpccd_frames_of_sacla_are_read(dxtbx_python: str, tags: NDArray[np.uint16], tmp_path: Path):
    write_mpccd(tmp_path / "run.h5", tags).close()
    with FrameSet([tmp_path / "run.h5"]) as frames:
        assert frames.n_frames == 2
        assert frames.geometry.wavelength == pytest.approx(TEN_KEV)
        assert [panel.slow_start for panel in frames.geometry.panels] == [1024 * n for n in range(8)]
        assert {panel.origin_mm[2] for panel in frames.geometry.panels} == {-50.0}
        for frame in (1, 0):
            np.testing.assert_array_equal(frames.read(frame), tags[frame])


def test_mpccd_metadata_replace_the_distance_and_mask_pixels(
    dxtbx_python: str, tags: NDArray[np.uint16], tmp_path: Path
):
    mask = np.zeros((8192, 512), np.uint8)
    mask[3000:3010, 50:60] = 1
    with write_mpccd(tmp_path / "run.h5", tags) as file:
        file["metadata/distance_in_mm"] = 51.5
        file["metadata/angle_in_rad"] = np.full(8, -90.0)  # degrees, whatever its name says
        for axis in "xyz":
            file[f"metadata/pos{axis}_in_um"] = np.zeros(8)
        file["metadata/sensor_id"] = np.array([b"MPCCD-8B0-2-006"] * 8)
        file["metadata/pixelmask"] = mask
    reader = open_reader(tmp_path / "run.h5")
    np.testing.assert_array_equal(reader.bad_pixels, mask.astype(bool))
    assert {panel.origin_mm[2] for panel in reader.geometry.panels} == {-51.5}
    assert reader.geometry.sensor_thickness_mm == pytest.approx(0.3)
    assert reader.geometry.panels[0].fast_axis == pytest.approx((0, -1, 0), abs=1e-9)


def test_rayonix_frames_of_sacla_are_read(dxtbx_python: str, tmp_path: Path):
    reader = open_reader(write_sacla_rayonix(tmp_path / "run.h5", rayonix_frames(3)))
    panel = reader.geometry.panels[0]
    assert reader.n_frames == reader.frames_available() == 3
    assert reader.geometry.wavelength == pytest.approx(TEN_KEV)
    assert panel.origin_mm == pytest.approx((-96 * 1.564, 96 * 1.564, -240.0))
    for index in (2, 0, 1):
        np.testing.assert_array_equal(reader.read(index), rayonix_frames(3)[index])


def test_frame_of_another_shape_costs_itself_only(dxtbx_python: str, tmp_path: Path):
    path = write_sacla_rayonix(tmp_path / "run.h5", rayonix_frames(3))
    with h5py.File(path, "r+") as file:
        del file["tag-5001/data"]
        file["tag-5001/data"] = rayonix_frames(3)[1, :100]
    reader = open_reader(path)
    with pytest.raises(
        ImageReadError, match=r"run\.h5: a frame is \(100, 192\) int32, expected \(192, 192\) int32"
    ):
        reader.read(1)
    np.testing.assert_array_equal(reader.read(2), rayonix_frames(3)[2])


def test_frame_without_pixels_costs_itself_only(dxtbx_python: str, tmp_path: Path):
    path = write_sacla_rayonix(tmp_path / "run.h5", rayonix_frames(3))
    with h5py.File(path, "r+") as file:
        del file["tag-5001/data"]
    reader = open_reader(path)
    with pytest.raises(
        ImageReadError, match=r"run\.h5: FormatHDF5SaclaRayonix cannot read frame 1: .*KeyError"
    ):
        reader.read(1)
    np.testing.assert_array_equal(reader.read(2), rayonix_frames(3)[2])


def write_assembled(path: Path, frames: NDArray[np.uint16]) -> None:
    """Write a file as SACLA's DataConvert3 -reconst does."""
    with h5py.File(path, "w") as file:
        file["file_info/run_number_list"] = np.array([123])
        file["run_123/event_info/tag_number_list"] = np.arange(len(frames))
        file["run_123/run_info/sacla_config/photon_energy_in_eV"] = 10_000.0
        detector = file.create_group("run_123/detector_2d_assembled_1")
        detector["detector_info/pixel_size_in_micro_meter"] = np.array([50.0, 50.0])
        for tag, frame in enumerate(frames):
            detector[f"tag_{tag}/detector_data"] = frame


def write_pal(path: Path, frames: NDArray[np.uint16]) -> None:
    """Write a file as PAL-XFEL does for its Rayonix."""
    with h5py.File(path, "w") as file:
        file["R0001/header/detector_0_distance"] = 100.0
        file["R0001/scan_dat/N"] = np.arange(len(frames))
        file["R0001/scan_dat/raymx_header"] = b"header"
        file["R0001/scan_dat/raymx_data"] = frames
        file["R0001/scan_dat/photon_wavelength"] = np.full(len(frames), TEN_KEV)


def write_cxi(path: Path, frames: NDArray[np.uint16]) -> None:
    """Write a file as CXIDB's standard says, and Cheetah does."""
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file["entry_1/data_1/data"] = frames
        file["entry_1/instrument_1/detector_1/distance"] = 0.1


OTHERS: dict[str, tuple[Callable[[Path, NDArray[np.uint16]], None], str, str, str]] = {
    "SACLA, assembled": (
        write_assembled,
        r"FormatHDF5Sacla cannot read frame 0: 'Dataset' object has no attribute 'value'",
        "/run_123/detector_2d_assembled_1/%/detector_data",
        "dim0 = ss\ndim1 = fs",
    ),
    "PAL-XFEL": (
        write_pal,
        r"FormatHDF5PAL cannot read it: module 'numpy' has no attribute 'float'",
        "/R0001/scan_dat/raymx_data",
        "dim0 = %\ndim1 = ss\ndim2 = fs",
    ),
    "CXI": (
        write_cxi,
        r"no format known to dxtbx \(it only sees that it is HDF5\)",
        "/entry_1/data_1/data",
        "dim0 = %\ndim1 = ss\ndim2 = fs",
    ),
}
"""Writer, why Debian's dxtbx cannot read it, dataset, its axes."""


@pytest.mark.parametrize("kind", OTHERS)
def test_what_dxtbx_cannot_read_says_why_and_is_read_with_a_geometry_file(
    dxtbx_python: str, tmp_path: Path, kind: str
):
    write, reason, dataset, axes = OTHERS[kind]
    path, geometry = tmp_path / "run.h5", tmp_path / "detector.geom"
    write(path, rayonix_frames(3))
    with pytest.raises(ImageReadError, match=rf"^[^\n]*run\.h5: [^\n]*{reason}.*--geometry FILE\.geom"):
        open_reader(path)
    geometry.write_text(
        f"photon_energy = 10000 eV\nclen = 0.1\nres = 10000\ndata = {dataset}\n{axes}\n"
        "p/min_fs = 0\np/max_fs = 191\np/min_ss = 0\np/max_ss = 191\np/corner_x = -96\np/corner_y = 96\n"
        "p/fs = +x\np/ss = -y\n"
    )
    reader = open_reader(path, geometry)
    assert reader.n_frames == 3
    assert reader.geometry.wavelength == pytest.approx(TEN_KEV)
    for index in (2, 0, 1):
        np.testing.assert_array_equal(reader.read(index), rayonix_frames(3)[index])


def test_file_without_a_wavelength_needs_a_geometry(dxtbx_python: str, tmp_path: Path):
    path = write_sacla_rayonix(tmp_path / "run.h5", rayonix_frames(2))
    given = DxtbxReader(path).geometry
    with h5py.File(path, "r+") as file:
        del file["tag-5000/photon_energy_ev"]
        del file["tag-5001/photon_energy_ev"]
    with pytest.raises(
        ImageReadError, match=r"run\.h5: FormatHDF5SaclaRayonix .*photon_energy_ev.*--geometry"
    ):
        DxtbxReader(path)
    reader = DxtbxReader(path, given)
    assert reader.geometry is given
    np.testing.assert_array_equal(reader.read(1), rayonix_frames(2)[1])
