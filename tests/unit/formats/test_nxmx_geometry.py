"""Geometry, mask and saturation from HDF5 metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.frames import open_reader
from ssx_processing.formats.hdf5_files import group_at
from ssx_processing.formats.nxmx_frames import NxmxReader
from ssx_processing.formats.nxmx_geometry import (
    filewriter_geometry,
    mcstas_to_laboratory,
    nxmx_geometry,
)
from ssx_processing.formats.nxmx_pixels import saturation
from ssx_processing.models import Geometry

Write = Callable[..., Path]


@pytest.fixture
def write(write_nxmx: Write) -> Callable[..., NxmxReader]:
    """Reader of a file with one frame of zeros and the metadata given."""

    def reader(dtype: str = "u2", **metadata: Any) -> NxmxReader:
        frames = np.zeros((1, 40, 56), dtype)
        return NxmxReader(write_nxmx(lambda data: data.create_dataset("data", data=frames), **metadata))

    return reader


def beam_centre(geometry: Geometry) -> NDArray[np.float64]:
    """Where the beam meets the first panel, pixels (fast, slow), by solving the three equations."""
    panel = geometry.panels[0]
    columns = np.column_stack([panel.fast_axis, panel.slow_axis, -np.array(geometry.beam_direction)])
    fast, slow, _ = np.linalg.solve(columns, -np.array(panel.origin_mm))
    return np.array([fast, slow]) / panel.pixel_size_mm


def test_conversion_keeps_handedness_and_turns_the_beam():
    x, y, z = mcstas_to_laboratory(np.eye(3))
    np.testing.assert_array_equal(np.cross(x, y), z)
    np.testing.assert_array_equal(z, Geometry((), (1, 1), 1.0).beam_direction)


def test_plain_detector_has_the_laboratory_axes(write: Callable[..., NxmxReader]):
    geometry = write().geometry
    panel = geometry.panels[0]
    assert panel.fast_axis == (1.0, 0.0, 0.0)
    assert panel.slow_axis == (0.0, -1.0, 0.0)
    np.testing.assert_allclose(panel.origin_mm, (-2.8, 2.0, -200.0))
    np.testing.assert_allclose(panel.pixel_size_mm, (0.1, 0.1))
    np.testing.assert_allclose(beam_centre(geometry), (28, 20))
    assert geometry.wavelength == pytest.approx(1.0)
    assert geometry.sensor_thickness_mm == pytest.approx(0.45)
    assert geometry.sensor_absorption_per_mm == pytest.approx(4.0, abs=0.2)


def test_modules_become_panels_on_one_plane_and_gaps_are_bad(write: Callable[..., NxmxReader]):
    reader = write(modules=((0, 0, 18, 56), (22, 0, 18, 56)))
    upper, lower = reader.geometry.panels
    assert (lower.slow_start, lower.fast_start, lower.n_slow, lower.n_fast) == (22, 0, 18, 56)
    np.testing.assert_allclose(np.subtract(lower.origin_mm, upper.origin_mm), (0, -2.2, 0), atol=1e-12)
    np.testing.assert_array_equal(np.flatnonzero(reader.bad_pixels.all(axis=1)), [18, 19, 20, 21])
    assert reader.bad_pixels.sum() == 4 * 56


def test_two_theta_arm_turns_axes_and_position(write: Callable[..., NxmxReader]):
    geometry = write(two_theta=30.0).geometry
    panel = geometry.panels[0]
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    distance = np.dot(panel.origin_mm, normal)
    # the beam's point on the unturned detector stays at 200 mm, 30 degrees up from the beam
    np.testing.assert_allclose(abs(distance), 200.0)
    centre = np.array(panel.origin_mm) + 2.8 * np.array(panel.fast_axis) + 2.0 * np.array(panel.slow_axis)
    np.testing.assert_allclose(centre, 200 * np.array((0, 0.5, -np.sqrt(0.75))), atol=1e-9)


def test_detector_upstream_of_the_sample_is_mirrored(write: Callable[..., NxmxReader]):
    assert write(distance=-200.0).geometry.panels[0].origin_mm[2] == pytest.approx(-200.0)


def test_the_lower_two_bytes_of_masks_rule_pixels_out(write: Callable[..., NxmxReader]):
    mask = np.zeros((40, 56), np.uint32)
    mask[0, 0], mask[1, 2], mask[3, 4], mask[7, 7] = 1, 1 << 31, 1 << 8, (1 << 31) + 16
    second = np.zeros((40, 56), np.uint32)
    second[5, 6] = 2
    reader = write(mask=mask, detector_fields={"pixel_mask_1": second})
    np.testing.assert_array_equal(np.argwhere(reader.bad_pixels), [(0, 0), (3, 4), (5, 6), (7, 7)])


def test_mask_of_another_shape_is_an_error(write: Callable[..., NxmxReader]):
    with pytest.raises(GeometryError, match=r"pixel_mask has shape \(40, 55\)"):
        write(mask=np.zeros((40, 55), np.uint32))


@pytest.mark.parametrize(
    ("dtype", "fields", "expected"),
    [
        ("u2", {}, 65535),
        ("u4", {}, 2**32 - 1),
        ("i4", {}, 2**31 - 1),
        ("f4", {}, np.inf),
        ("u2", {"saturation_value": 57618}, 57618),
        ("u2", {"saturation_value": 2_000_000}, 65535),
        ("u4", {"saturation_value": 2_000_000, "bit_depth_image": 16}, 65535),
        ("u2", {"detectorSpecific/countrate_correction_count_cutoff": 12440}, 12440),
    ],
)
def test_saturation_is_the_lowest_limit(
    write: Callable[..., NxmxReader], dtype: str, fields: dict[str, Any], expected: float
):
    assert write(dtype, detector_fields=fields).saturation == expected


def test_module_larger_than_the_image_is_refused(write: Callable[..., NxmxReader]):
    with pytest.raises(GeometryError, match="covers pixels"):
        write(modules=((0, 0, 41, 56),))


def test_file_without_modules_is_refused_with_what_to_do(write_nxmx: Write):
    master = write_nxmx(lambda data: data.create_dataset("data", data=np.zeros((1, 40, 56))), modules=())
    with pytest.raises(GeometryError, match="no NXdetector_module; or give a geometry with --geometry FILE"):
        open_reader(master)


@pytest.mark.parametrize(
    ("name", "centre", "distance"),
    [
        # beam centre and distance as dxtbx 3.12 gives them
        ("FJ_P5P1_1_master.h5", (2120.7197081092213, 2222.148499424295), 168.27756538),
        ("ins_8_5.nxs", (2099.92, 2189.502222), 340.0),
    ],
)
def test_real_nxmx_geometry_is_dxtbx_s(
    real_data: Path, name: str, centre: tuple[float, float], distance: float
):
    with h5py.File(real_data / "format_samples" / "raw" / name) as file:
        geometry = nxmx_geometry(group_at(file, "entry"), (4362, 4148))
    np.testing.assert_allclose(beam_centre(geometry), centre, atol=1e-3)
    assert geometry.panels[0].origin_mm[2] == pytest.approx(-distance)
    assert geometry.sensor_absorption_per_mm == pytest.approx(3.92, rel=0.07)


def test_real_filewriter_geometry_is_the_header_s(real_data: Path):
    with h5py.File(real_data / "format_samples" / "raw" / "dectris_eiger_master.h5") as file:
        entry = group_at(file, "entry")
        geometry = filewriter_geometry(entry, (3269, 3110))
        limit = saturation(group_at(entry, "instrument/detector"), np.dtype("u2"))
    np.testing.assert_allclose(beam_centre(geometry), (1607.415, 1586.4314), atol=0.01)
    assert geometry.panels[0].origin_mm[2] == pytest.approx(-134.255, abs=1e-3)
    assert geometry.panels[0].fast_axis == pytest.approx((1, 0, 0))
    assert geometry.panels[0].slow_axis == pytest.approx((0, -1, 0))
    assert geometry.wavelength == pytest.approx(0.9801122)
    assert limit == 12440
