"""Detectors of many modules (Jungfrau), images of several energies (FileWriter 2), their masks and limits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.nxmx_frames import NxmxReader

Write = Callable[..., Path]
Frames = NDArray[Any]

MODULES, SLOW, FAST = 4, 20, 28
STACKED = tuple((number, 0, 0, 1, SLOW, FAST) for number in range(MODULES))
"""data_origin and data_size of modules in a stack."""
BELOW = tuple((number * SLOW, 0, SLOW, FAST) for number in range(MODULES))
"""The same of modules below each other in an image."""


@pytest.fixture
def modules(rng: np.random.Generator) -> Frames:
    """Five frames of four modules in photons, as Jungfrau software writes them: signed, gaps marked."""
    frames = rng.poisson(2, (5, MODULES, SLOW, FAST)).astype(np.int32)
    frames[:, :, 10] = -1
    return frames


@pytest.fixture
def write(write_nxmx: Write) -> Callable[..., NxmxReader]:
    def reader(frames: Frames, chunks: tuple[int, ...] | None = None, **metadata: Any) -> NxmxReader:
        options = {"chunks": chunks, **(hdf5plugin.Bitshuffle() if chunks else {})}
        return NxmxReader(
            write_nxmx(lambda data: data.create_dataset("data", data=frames, **options), **metadata)
        )

    return reader


def rotated(number: int) -> dict[str, Any]:
    """Where module ``number`` is: offset in mm, angle in degrees about z, McStas's frame."""
    return {"offset": (3.0 - 2.1 * number, 1.0 + 0.3 * number, 0.05 * number), "angle": 0.5 * number}


@pytest.mark.parametrize(
    "chunks",
    [
        (1, MODULES, SLOW, FAST),
        (1, 1, SLOW, FAST),
        (2, MODULES, SLOW, FAST),
        (1, 2, SLOW, FAST),
        (2, 1, SLOW, FAST),
        (1, 1, 7, FAST),
        None,
    ],
)
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", ">i4"])
def test_modules_of_a_stack_are_put_below_each_other(
    write: Callable[..., NxmxReader], modules: Frames, chunks: tuple[int, ...] | None, dtype: str
):
    reader = write(modules.astype(dtype), chunks, modules=STACKED)
    assert reader.geometry.image_shape == (MODULES * SLOW, FAST)
    for index in (3, 0, 1, 4, 2):
        np.testing.assert_array_equal(reader.read(index), modules[index].reshape(-1, FAST))
    assert reader.frames_available() == 5
    reader.close()


def test_modules_in_files_of_their_own_are_put_together(
    write_nxmx: Write, write_frames: Write, modules: Frames
):
    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(modules.shape, "i4")
        for number in range(MODULES):
            layout[:, number] = h5py.VirtualSource(f"m{number}.h5", "entry/data/data", (5, SLOW, FAST))
        data.create_virtual_dataset("data", layout)

    for number in range(MODULES - 1):
        write_frames(f"m{number}.h5", modules[:, number])
    write_frames("m3.h5", modules[:3, 3])
    reader = NxmxReader(write_nxmx(add, modules=STACKED))
    assert reader.frames_available() == 3
    assert "m3.h5" in reader.missing()
    for index in range(3):
        np.testing.assert_array_equal(reader.read(index), modules[index].reshape(-1, FAST))
    reader.close()


def test_panels_of_a_stack_are_where_those_of_one_image_are(
    write: Callable[..., NxmxReader], modules: Frames
):
    places = [rotated(number) for number in range(MODULES)]
    stacked = write(modules, modules=STACKED, places=places)
    stacked.close()
    image = write(modules.reshape(5, -1, FAST), modules=BELOW, places=places)
    assert stacked.geometry.panels == image.geometry.panels
    starts = [
        (panel.slow_start, panel.fast_start, panel.n_slow, panel.n_fast) for panel in stacked.geometry.panels
    ]
    assert starts == list(BELOW)
    image.close()


def test_modules_anywhere_and_turned_keep_offset_and_angle(write: Callable[..., NxmxReader], modules: Frames):
    places = [rotated(number) for number in range(MODULES)]
    reader = write(modules, modules=STACKED, places=places)
    for panel, place in zip(reader.geometry.panels, places, strict=True):
        x, y, z = place["offset"]
        np.testing.assert_allclose(panel.origin_mm, (-x, y, -z - 200), atol=1e-12)
        angle = np.deg2rad(place["angle"])  # about McStas's z, along the beam: clockwise towards the source
        np.testing.assert_allclose(panel.fast_axis, (np.cos(angle), -np.sin(angle), 0), atol=1e-12)
        np.testing.assert_allclose(panel.slow_axis, (-np.sin(angle), -np.cos(angle), 0), atol=1e-12)
    reader.close()


@pytest.mark.parametrize("axes", ["modules", "image", "frames and modules"])
def test_mask_of_a_stack_may_have_its_shape(write: Callable[..., NxmxReader], modules: Frames, axes: str):
    mask = np.zeros((MODULES, SLOW, FAST), np.int32)
    mask[2, 3, 4], mask[1, 5, 6], mask[3, 7] = 2, -(2**31), 256
    masks = {
        "modules": mask,
        "image": mask.reshape(-1, FAST),
        "frames and modules": np.stack([np.zeros_like(mask), mask]),
    }
    reader = write(modules, modules=STACKED, mask=masks[axes])
    expected = np.zeros((MODULES, SLOW, FAST), bool)
    expected[2, 3, 4], expected[3, 7] = True, True
    np.testing.assert_array_equal(reader.bad_pixels, expected.reshape(-1, FAST))
    reader.close()


def test_each_module_may_have_its_own_mask(write: Callable[..., NxmxReader], modules: Frames):
    own = np.zeros((SLOW, FAST), np.uint8)
    own[4, 5] = 1
    reader = write(modules, modules=STACKED, detector_fields={"module2/pixel_mask": own})
    np.testing.assert_array_equal(np.argwhere(reader.bad_pixels), [(2 * SLOW + 4, 5)])
    reader.close()


@pytest.mark.parametrize("applied", [0, 1])
def test_mask_is_taken_whether_the_detector_has_applied_it_or_not(
    write: Callable[..., NxmxReader], modules: Frames, applied: int
):
    mask = np.zeros((MODULES * SLOW, FAST), np.uint32)
    mask[7, 8] = 16
    fields = {"pixel_mask_applied": applied}
    reader = write(modules, modules=STACKED, mask=mask, detector_fields=fields)
    np.testing.assert_array_equal(np.argwhere(reader.bad_pixels), [(7, 8)])
    reader.close()


def test_module_of_more_than_one_place_of_the_stack_is_refused(
    write: Callable[..., NxmxReader], modules: Frames
):
    with pytest.raises(GeometryError, match=r"module0 covers pixels from data_origin \[0, 0, 0\]"):
        write(modules, modules=((0, 0, 0, 2, SLOW, FAST),))


@pytest.mark.parametrize(
    ("dtype", "fields", "expected"),
    [
        ("u2", {}, -np.inf),
        ("f4", {}, -np.inf),
        ("i2", {}, -(2**15) + 1),
        ("i4", {}, -(2**31) + 1),
        ("i4", {"underload_value": 0}, 0),
        ("f4", {"underload_value": -10.0}, -10),
        ("i4", {"underload_value": np.array([-1])}, -1),
        ("f4", {"underload_value": np.nan}, -np.inf),
        ("u2", {"threshold_1_channel/underload_value": 1}, 1),
    ],
)
def test_underload_is_the_smallest_value_that_is_a_count(
    write: Callable[..., NxmxReader], modules: Frames, dtype: str, fields: dict[str, Any], expected: float
):
    reader = write(np.abs(modules).astype(dtype), modules=STACKED, detector_fields=fields)
    assert reader.underload == expected
    reader.close()


@pytest.mark.parametrize("chunks", [(1, 1, SLOW, FAST), (1, 3, SLOW, FAST), None])
def test_first_energy_threshold_is_the_image(
    write_nxmx: Write, rng: np.random.Generator, chunks: tuple[int, ...] | None
):
    frames = rng.poisson(2, (5, 3, SLOW, FAST)).astype(np.uint16)
    mask = np.zeros((SLOW, FAST), np.uint32)
    mask[1, 2] = 1
    fields = {"threshold_1_channel/pixel_mask": mask, "threshold_1_channel/saturation_value": 999}

    def add(data: h5py.Group) -> None:
        data.create_dataset("data", data=frames, chunks=chunks)
        data.attrs["axes"] = ["image_id", "channel", ".", "."]

    reader = NxmxReader(write_nxmx(add, modules=((0, 0, SLOW, FAST),), detector_fields=fields))
    assert reader.saturation == 999
    np.testing.assert_array_equal(np.argwhere(reader.bad_pixels), [(1, 2)])
    for index in range(5):
        np.testing.assert_array_equal(reader.read(index), frames[index, 0])
    reader.close()


def test_first_energy_threshold_is_taken_through_a_virtual_dataset(
    write_nxmx: Write, write_frames: Write, rng: np.random.Generator
):
    frames = rng.poisson(2, (5, 2, SLOW, FAST)).astype(np.uint16)
    write_frames("a.h5", frames[:3], chunks=(1, 1, SLOW, FAST), **hdf5plugin.Bitshuffle())
    write_frames("b.h5", frames[3:], chunks=(1, 1, SLOW, FAST), **hdf5plugin.Bitshuffle())

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(frames.shape, "u2")
        layout[:3] = h5py.VirtualSource("a.h5", "entry/data/data", (3, 2, SLOW, FAST))
        layout[3:] = h5py.VirtualSource("b.h5", "entry/data/data", (2, 2, SLOW, FAST))
        data.create_virtual_dataset("data", layout)
        data.attrs["axes"] = ["image_id", "channel", ".", "."]

    reader = NxmxReader(write_nxmx(add, modules=((0, 0, SLOW, FAST),)))
    for index in range(5):
        np.testing.assert_array_equal(reader.read(index), frames[index, 0])
    reader.close()
