"""HDF5 files that say nothing of themselves, read with a geometry file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.frame_reader import FrameReader, open_reader
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.nxmx_frames import NxmxReader
from ssx_processing.formats.plain_hdf5_frames import PlainHdf5Reader
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import ProcessingSettings, SampleSettings
from tests.unit.formats.conftest import bitshuffle_of_frames

Frames = NDArray[np.uint16]
Write = Callable[..., Path]

BEAM = "wavelength = 1.1 A\nclen = 0.12\nres = 10000\n"


def panel(
    name: str, *more: str, fs: tuple[int, int] = (0, 55), ss: tuple[int, int] = (0, 39), corner: float = 0
) -> str:
    """A panel that covers these pixels, beam at pixel (28, 20) of the first."""
    fields = (
        f"min_fs = {fs[0]}", f"max_fs = {fs[1]}", f"min_ss = {ss[0]}", f"max_ss = {ss[1]}",
        "fs = -x", "ss = -y", "corner_x = 28", f"corner_y = {20 - corner}", *more,
    )  # fmt: skip
    return "\n".join(f"{name}/{field}" for field in fields) + "\n"


@pytest.fixture
def geom(tmp_path: Path) -> Write:
    """Write a geometry file with this text."""

    def write(*texts: str) -> Path:
        path = tmp_path / "detector.geom"
        path.write_text("\n".join((BEAM, *texts)))
        return path

    return write


def opened(path: Path, geometry_file: Path) -> FrameReader:
    """Reader of a file that only the geometry file explains."""
    reader = open_reader(path, geometry_file)
    assert isinstance(reader, PlainHdf5Reader)
    return reader


def assert_frames(reader: FrameReader, expected: NDArray[Any]) -> None:
    """Assert that the reader gives these frames, in any order, and close it."""
    assert reader.n_frames == len(expected)
    for index in (len(expected) - 1, 0, 1):
        np.testing.assert_array_equal(reader.read(index), expected[index])
    assert reader.frames_available() == len(expected)
    assert reader.missing() == ""
    assert reader.pixel_type == expected.dtype
    reader.close()


DIMS = "dim0 = %\ndim1 = ss\ndim2 = fs"


def test_frames_of_one_dataset_are_read_directly(geom: Write, write_frames: Write, stack: Frames):
    reader = opened(write_frames("x.h5", stack, "run/pixels"), geom("data = /run/pixels", DIMS, panel("p0")))
    assert reader.geometry.panels[0].origin_mm == pytest.approx((-2.8, 2.0, -120))
    assert reader.saturation == 65535
    assert_frames(reader, stack)


def test_a_file_of_one_frame_needs_no_axes(geom: Write, write_frames: Write, stack: Frames):
    path = write_frames("x.h5", stack[0], "data/data", compression="gzip")
    with FrameSet([path], geom(panel("p0"))) as frames:
        np.testing.assert_array_equal(frames.read(0), stack[0])


def test_parts_of_one_image_are_panels(geom: Write, write_frames: Write, stack: Frames):
    text = panel("a", fs=(0, 27)), panel("b", fs=(28, 55), ss=(3, 39), corner=3)
    reader = opened(write_frames("x.h5", stack, "data/data"), geom(DIMS, *text))
    one, two = reader.geometry.panels
    assert (one.fast_start, one.n_fast, two.fast_start, two.slow_start, two.n_slow) == (0, 28, 28, 3, 37)
    assert np.argwhere(reader.bad_pixels).tolist() == [
        [row, column] for row in range(3) for column in range(28, 56)
    ]
    assert_frames(reader, stack)


@pytest.mark.parametrize("chunks", [(1, 4, 10, 56), (1, 1, 10, 56), (3, 2, 10, 20)])
def test_modules_of_one_dataset_are_stacked(
    geom: Write, write_frames: Write, stack: Frames, chunks: tuple[int, ...]
):
    """Four modules of 10 rows in one block, here in another order than in the geometry file."""
    modules = stack.reshape(7, 4, 10, 56)
    path = write_frames("x.h5", modules, "entry/frames", chunks=chunks, compression="gzip")
    text = "dim0 = %\ndim2 = ss\ndim3 = fs\ndata = /entry/frames"
    panels = [panel(f"m{m}", f"dim1 = {m}", ss=(0, 9), corner=10 * m) for m in (2, 0, 3, 1)]
    reader = opened(path, geom(text, *panels))
    assert [(p.name, p.slow_start) for p in reader.geometry.panels] == [
        ("m2", 20),
        ("m0", 0),
        ("m3", 30),
        ("m1", 10),
    ]
    assert not reader.bad_pixels.any()
    assert_frames(reader, stack)


def test_modules_in_datasets_of_their_own_are_stacked(geom: Write, tmp_path: Path, stack: Frames):
    """As SwissFEL and SACLA do; the second module is narrower."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("one/data", data=stack[:, :30], **bitshuffle_of_frames(stack[:, :30]))
        file.create_dataset("two/data", data=stack[:, 30:, :40], **bitshuffle_of_frames(stack[:, 30:, :40]))
    panels = (
        panel("a", "data = /one/data", ss=(0, 29)),
        panel("b", "data = /two/data", fs=(0, 39), ss=(0, 9), corner=30),
    )
    reader = opened(tmp_path / "x.h5", geom(DIMS, *panels))
    expected = stack.copy()
    expected[:, 30:, 40:] = 0
    np.testing.assert_array_equal(reader.bad_pixels[30:, 40:], True)
    assert_frames(reader, expected)


def test_every_frame_may_have_a_group(geom: Write, tmp_path: Path, stack: Frames):
    """Groups in order of the numbers in their names; others are passed over."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number in (9, 10, 11, 100):
            file[f"tag-{number}/detector/data"] = stack[number % 7]
        file["file_info/version"] = 2
        file["tag-12/other"] = 1
    reader = opened(tmp_path / "x.h5", geom("data = /%/detector/data", panel("p0")))
    assert_frames(reader, stack[[2, 3, 4, 2]])


def test_a_group_may_hold_several_frames(geom: Write, tmp_path: Path, stack: Frames):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["run2/data"], file["run10/data"] = stack[:3], stack[3:]
    assert_frames(opened(tmp_path / "x.h5", geom(DIMS, "data = run%/data", panel("p0"))), stack)


def test_masks_and_limits_of_the_geometry_file_count(geom: Write, write_frames: Write, stack: Frames):
    path = write_frames("x.h5", stack, "data/data")
    with h5py.File(path, "r+") as file:
        file["data/mask"] = np.eye(40, 56, dtype=np.uint8)
    mask = "mask = /data/mask\nmask_bad = 1\nmax_adu = 900\nflag_lessthan = 1"
    region = "bad_a/min_fs = 50\nbad_a/max_fs = 55\nbad_a/min_ss = 0\nbad_a/max_ss = 0\nbad_a/panel = p0"
    with FrameSet([path], geom(DIMS, mask, panel("p0"), region)) as frames:
        expected = np.eye(40, 56, dtype=bool)
        expected[0, 50:] = True
        np.testing.assert_array_equal(frames.bad_pixels, expected)
        assert (frames.saturation, frames.underload) == (900, 1)


def test_the_geometry_file_overrides_that_of_nxmx(geom: Write, write_nxmx: Write, stack: Frames):
    mask = np.zeros((40, 56), np.uint32)
    mask[1, 2] = 1
    master = write_nxmx(
        lambda data: data.create_dataset("data", data=stack, **bitshuffle_of_frames(stack)), mask=mask
    )
    region = "bad_a/min_fs = 5\nbad_a/max_fs = 5\nbad_a/min_ss = 6\nbad_a/max_ss = 6\nbad_a/panel = p0"
    reader = open_reader(master, geom(panel("p0"), region))
    assert isinstance(reader, NxmxReader)
    assert reader.geometry.wavelength == 1.1
    assert reader.geometry.panels[0].origin_mm == pytest.approx((-2.8, 2.0, -120))
    assert np.argwhere(reader.bad_pixels).tolist() == [[1, 2], [6, 5]]
    assert_frames(reader, stack)


@pytest.mark.parametrize(
    ("named", "kind"), [("/entry/data/data", NxmxReader), ("/entry/others", PlainHdf5Reader)]
)
def test_nxmx_is_read_as_such_unless_other_pixels_are_named(
    geom: Write, write_nxmx: Write, stack: Frames, named: str, kind: type
):
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack))
    with h5py.File(master, "r+") as file:
        file["entry/others"] = stack + 1
    reader = open_reader(master, geom(DIMS, f"data = {named}", panel("p0")))
    assert isinstance(reader, kind)
    assert_frames(reader, stack + (kind is PlainHdf5Reader))


def test_frames_that_are_still_to_come_are_waited_for(
    geom: Write, write_frames: Write, stack: Frames, tmp_path: Path
):
    layout = h5py.VirtualLayout(stack.shape, "u2")
    for name, rows in (("a.h5", slice(0, 3)), ("b.h5", slice(3, 7))):
        layout[rows] = h5py.VirtualSource(name, "run/pixels", stack[rows].shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("data/data", layout)
    write_frames("a.h5", stack[:3], "run/pixels")
    reader = opened(tmp_path / "x.h5", geom(DIMS, panel("p0")))
    assert (reader.frames_available(), reader.n_frames) == (3, 7)
    assert "3 of 7 frames are there" in reader.missing()
    assert "b.h5" in reader.missing()
    write_frames("b.h5", stack[3:], "run/pixels")
    assert reader.frames_available() == 7
    assert_frames(reader, stack)


def test_a_geometry_file_of_another_detector_is_refused(geom: Write, write_nxmx: Write, stack: Frames):
    master = write_nxmx(
        lambda data: data.create_dataset("data", data=stack[:, :30]), modules=((0, 0, 30, 56),)
    )
    with pytest.raises(GeometryError, match=r"master\.nxs"):
        open_reader(master, geom(panel("p0")))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "data = /elsewhere",
            ImageReadError,
            r"x\.h5: has no dataset /elsewhere with axes ss, fs, as .*geom says",
        ),
        ("data = /%/elsewhere", ImageReadError, r"x\.h5: has no dataset /%/elsewhere"),
        (
            "",
            GeometryError,
            r"x\.h5: /data/data has shape \(7, 40, 56\), expected /data/data with axes ss, fs",
        ),
        (
            "dim0 = 7\ndim1 = ss\ndim2 = fs",
            GeometryError,
            r"has shape \(7, 40, 56\), expected .* axes 7, ss, fs",
        ),
        ("data = /data/none\n" + DIMS, ImageReadError, r"x\.h5: holds no frames"),
    ],
)
def test_files_that_are_not_as_the_geometry_file_says_are_told(
    geom: Write, write_frames: Write, stack: Frames, text: str, error: type[Exception], message: str
):
    path = write_frames("x.h5", stack, "data/data")
    with h5py.File(path, "r+") as file:
        file.create_dataset("data/none", shape=(0, 40, 56), dtype="u2")
    with pytest.raises(error, match=message):
        open_reader(path, geom(text, panel("p0")))


def test_a_frame_that_lacks_a_module_costs_that_frame_only(geom: Write, tmp_path: Path, stack: Frames):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number in range(3):
            file[f"tag-{number}/a"], file[f"tag-{number}/b"] = stack[number, :20], stack[number, 20:]
        del file["tag-1/b"]
    panels = (panel("a", "data = /%/a", ss=(0, 19)), panel("b", "data = /%/b", ss=(0, 19), corner=20))
    reader = opened(tmp_path / "x.h5", geom(*panels))
    np.testing.assert_array_equal(reader.read(2), stack[2])
    with pytest.raises(ImageReadError, match=r"x\.h5: frame 1 cannot be read; .*tag-1/b does not exist"):
        reader.read(1)
    np.testing.assert_array_equal(reader.read(0), stack[0])
    with pytest.raises(ImageReadError, match="no frame 3, expected 0 to 2"):
        reader.read(3)
    reader.close()


@pytest.mark.parametrize(("energy", "alike"), [(11950.0, True), (12200.0, False)])
def test_single_pulses_may_differ_a_little_in_wavelength(
    geom: Write, write_frames: Write, stack: Frames, energy: float, alike: bool
):
    paths = [write_frames(f"{n}.h5", stack[n], "data/data", compression="gzip") for n in range(2)]
    for path, value in zip(paths, (12000.0, energy), strict=True):
        with h5py.File(path, "r+") as file:
            file["energy"] = value
    text = geom(panel("p0")).read_text().replace("wavelength = 1.1 A", "photon_energy = /energy eV")
    geom(panel("p0")).write_text(text)
    if alike:
        with FrameSet(paths, paths[0].with_name("detector.geom")) as frames:
            np.testing.assert_array_equal(frames.read(1), stack[1])
    else:
        with pytest.raises(GeometryError, match=r"1\.h5: wavelength 1\.016\d+ Å"):
            FrameSet(paths, paths[0].with_name("detector.geom"))


def test_another_geometry_file_is_another_plan(geom: Write, write_frames: Write, stack: Frames):
    path = write_frames("x.h5", stack, "data/data")
    sample = SampleSettings(unit_cell=(79, 79, 38, 90, 90, 90), space_group="P43212")
    settings = ProcessingSettings(sample=sample)
    first = make_plan([path], settings, geom(DIMS, panel("p0")))
    assert make_plan([path], settings, geom(DIMS, panel("p0"))).identity == first.identity
    assert first.geometry_file == geom(DIMS, panel("p0"))
    assert make_plan([path], settings, geom(DIMS, panel("p0", corner=1))).identity != first.identity
