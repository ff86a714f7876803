"""Files that a detector still writes: what can be read now, without waiting, crashing or zeros."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Generator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.nxmx_frames import NxmxReader

Write = Callable[..., Path]
Frames = NDArray[Any]
SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 1.0
"""An answer about a file must not take longer, on a busy machine too."""


@pytest.fixture
def quickly() -> Callable[..., Any]:
    """Call something that must not block."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        start = time.monotonic()
        try:
            return function(*args)
        finally:
            assert time.monotonic() - start < PATIENCE_S

    return call


def assert_reads(reader: NxmxReader, frames: Frames) -> None:
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(reader.read(index), frame)


def from_one_file(shape: tuple[int, ...], kind: str) -> Callable[[h5py.Group], None]:
    """Add images that are those of ``a.h5``."""

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(shape, kind)
        layout[:] = h5py.VirtualSource("a.h5", "entry/data/data", shape)
        data.create_virtual_dataset("data", layout)

    return add


def in_a_process(function: Callable[..., Any], *args: Any) -> None:
    """Call ``function`` where HDF5 does not know that the file is open here."""
    process = SPAWN.Process(target=function, args=args, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def grow(path: str, frames: Frames, n_frames: int) -> None:
    """Make a dataset longer and write it again."""
    with h5py.File(path, "r+") as file:
        dataset = file["entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        dataset.resize(n_frames, axis=0)
        dataset[: len(frames)] = frames


def test_data_files_appear_one_by_one_for_the_reader_that_is_open(
    write_filewriter: Write, write_frames: Write, stack: Frames, quickly: Callable[..., Any], tmp_path: Path
):
    names = ("x_data_000001.h5", "x_data_000002.h5", "x_data_000003.h5")
    image = {"y_pixels_in_detector": 40, "x_pixels_in_detector": 56}
    master = write_filewriter(names, nimages=7, specific=image, bit_depth=16)
    reader = NxmxReader(master)
    assert (reader.n_frames, quickly(reader.frames_available)) == (7, 0)
    assert "x_data_000001.h5, which is missing" in reader.missing()
    for name, start, stop in zip(names, (0, 3, 6), (3, 6, 7), strict=True):
        with pytest.raises(ImageReadError, match=f"frame {start} cannot be read; .*{name}, which is missing"):
            quickly(reader.read, start)
        write_frames(name, stack[start:stop])
        assert quickly(reader.frames_available) == stop
        assert_reads(reader, stack[:stop])
    assert reader.missing() == ""
    assert {path.name for path in reader.files()} == {"x_master.h5", *names}
    reader.close()


def test_sources_of_a_virtual_dataset_appear_one_by_one(
    write_nxmx: Write, write_frames: Write, stack: Frames, quickly: Callable[..., Any]
):
    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(stack.shape, "u4")  # the writer does not know the type yet
        layout[:3] = h5py.VirtualSource("a.h5", "entry/data/data", (3, 40, 56))
        layout[3:] = h5py.VirtualSource("b.h5", "entry/data/data", (4, 40, 56))
        data.create_virtual_dataset("data", layout)

    mask = np.zeros((40, 56), np.uint32)
    mask[2] = 1
    reader = NxmxReader(write_nxmx(add, mask=mask))
    assert (reader.n_frames, reader.pixel_type, quickly(reader.frames_available)) == (7, np.uint32, 0)
    write_frames("b.h5", stack[3:])
    assert quickly(reader.frames_available) == 0
    np.testing.assert_array_equal(reader.read(5), stack[5])
    assert (reader.pixel_type, reader.saturation) == (np.uint16, 65535)
    assert reader.bad_pixels[2].all()
    write_frames("a.h5", stack[:3])
    assert quickly(reader.frames_available) == 7
    assert_reads(reader, stack)
    reader.close()


def test_virtual_dataset_of_a_master_that_is_a_symbolic_link_finds_its_sources(
    write_nxmx: Write, write_frames: Write, stack: Frames, tmp_path: Path
):
    add = from_one_file(stack.shape, "u2")

    write_frames("a.h5", stack)
    link = tmp_path / "elsewhere" / "link.nxs"
    link.parent.mkdir()
    link.symlink_to(write_nxmx(add))
    reader = NxmxReader(link)
    assert reader.frames_available() == 7
    assert_reads(reader, stack)
    reader.close()


def test_master_may_have_more_data_files_than_the_limit_of_open_files(
    write_filewriter: Write, write_frames: Write, stack: Frames
):
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    names = tuple(f"x_data_{number:06d}.h5" for number in range(1, 101))
    for name in names:
        write_frames(name, stack[:1])
    master = write_filewriter(names)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 40, most))
        reader = NxmxReader(master)
        assert reader.frames_available() == 100
        reader.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


def test_limits_of_a_geometry_file_outlast_the_first_data(
    write_nxmx: Write, write_frames: Write, stack: Frames, tmp_path: Path
):
    add = from_one_file(stack.shape, "u4")

    (tmp_path / "a.geom").write_text(
        "wavelength = 1 A\nclen = 0.2\nres = 10000\nmax_adu = 900\nflag_lessthan = 1\n"
        "p0/min_fs = 0\np0/max_fs = 55\np0/min_ss = 0\np0/max_ss = 39\n"
        "p0/fs = x\np0/ss = y\np0/corner_x = -28\np0/corner_y = -20\ndata = /entry/data/data\n"
        "dim0 = %\ndim1 = ss\ndim2 = fs\n"
    )
    with FrameSet([write_nxmx(add)], tmp_path / "a.geom") as frames:
        assert (frames.frames_available(), frames.saturation, frames.underload) == (0, 900, 1)
        assert "a.h5" not in [Path(file["path"]).name for file in frames.identity()["files"]]
        write_frames("a.h5", stack)
        assert (frames.frames_available(), frames.saturation, frames.underload) == (7, 900, 1)
        reader = frames._reader(0)
        assert (reader.saturation, reader.underload, reader.pixel_type) == (900, 1, np.uint16)
        assert "a.h5" in [Path(file["path"]).name for file in frames.identity()["files"]]


def test_frame_set_takes_the_limits_of_the_first_data(write_nxmx: Write, write_frames: Write, stack: Frames):
    add = from_one_file(stack.shape, "u4")

    mask = np.zeros((40, 56), np.uint32)
    mask[2] = 1
    with FrameSet([write_nxmx(add, mask=mask)]) as frames:
        assert frames.saturation == 2**32 - 1
        write_frames("a.h5", stack)
        assert (frames.frames_available(), frames.saturation) == (7, 65535)
        assert frames.bad_pixels[2].all()


def test_file_replaced_by_one_of_another_type_is_refused_while_it_is_open(
    write_nxmx: Write, write_frames: Write, stack: Frames, tmp_path: Path
):
    add = from_one_file(stack.shape, "u2")

    write_frames("a.h5", stack[:3])
    reader = NxmxReader(write_nxmx(add))
    assert reader.frames_available() == 3
    write_frames("b.h5", stack.astype("i2")).replace(tmp_path / "a.h5")
    with pytest.raises(ImageReadError, match=r"now has images of \(40, 56\) int16, had \(40, 56\) uint16"):
        reader.frames_available()
    reader.close()


def test_virtual_dataset_without_an_end_grows_with_its_source(
    write_nxmx: Write, tmp_path: Path, stack: Frames, quickly: Callable[..., Any]
):
    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout((3, 40, 56), "u2", maxshape=(None, 40, 56))
        source = h5py.VirtualSource("a.h5", "entry/data/data", (3, 40, 56), maxshape=(None, 40, 56))
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        data.create_virtual_dataset("data", layout)

    specific = {"detectorSpecific/nimages": 7}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": (1, 40, 56), "maxshape": (None, 40, 56), **hdf5plugin.Bitshuffle()}
        file.create_dataset("entry/data/data", data=stack[:3], **options)
    reader = NxmxReader(write_nxmx(add, detector_fields=specific))
    assert (reader.n_frames, quickly(reader.frames_available)) == (7, 3)
    with pytest.raises(ImageReadError, match="has grown to 3 frames"):
        reader.read(3)
    in_a_process(grow, str(tmp_path / "a.h5"), stack[:6], 7)
    assert quickly(reader.frames_available) == 6
    assert "frame 6 of /entry/data/data was never written" in reader.missing()
    assert_reads(reader, stack[:6])
    reader.close()


def test_numbered_sources_are_found_as_they_appear(write_nxmx: Write, write_frames: Write, stack: Frames):
    def add(data: h5py.Group) -> None:
        unlimited = h5py.h5s.UNLIMITED  # h5py itself has no notation for blocks without an end
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        here = h5py.h5s.create_simple((2, 40, 56), (unlimited, 40, 56))
        here.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (2, 1, 1), (2, 40, 56))
        plist.set_virtual(here, b"part%b.h5", b"entry/data/data", h5py.h5s.create_simple((2, 40, 56)))
        h5py.h5d.create(data.id, b"data", h5py.h5t.NATIVE_UINT16, here, plist)

    for number in range(2):
        write_frames(f"part{number}.h5", stack[2 * number : 2 * number + 2])
    reader = NxmxReader(write_nxmx(add, detector_fields={"detectorSpecific/nimages": 6}))
    assert (reader.n_frames, reader.frames_available()) == (6, 4)
    write_frames("part2.h5", stack[4:6])
    assert reader.frames_available() == 6
    assert_reads(reader, stack[:6])
    reader.close()


def test_one_chunk_of_several_frames_is_read_again_when_it_has_got_more(
    write_nxmx: Write, tmp_path: Path, stack: Frames
):
    options = {"chunks": (4, 40, 56), "maxshape": (None, 40, 56), **hdf5plugin.Bitshuffle()}

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout((4, 40, 56), "u2")
        layout[:] = h5py.VirtualSource("a.h5", "entry/data/data", (4, 40, 56))
        data.create_virtual_dataset("data", layout)

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("entry/data/data", data=stack[:2], **options)
    reader = NxmxReader(write_nxmx(add))
    assert reader.frames_available() == 2
    assert_reads(reader, stack[:2])
    in_a_process(grow, str(tmp_path / "a.h5"), stack[:4], 4)
    assert reader.frames_available() == 4
    assert_reads(reader, stack[:4])
    reader.close()


def write_swmr(path: str, frames: Frames, go_on: Event, done: Event) -> None:
    """Write a file for concurrent readers, two frames at each signal."""
    with h5py.File(path, "w", libver="latest") as file:
        shape = (0, *frames.shape[1:])
        options = {"chunks": (1, *shape[1:]), "maxshape": (None, *shape[1:]), **hdf5plugin.Bitshuffle()}
        dataset = file.create_dataset("entry/data/data", shape, frames.dtype, **options)
        file.swmr_mode = True
        for start in range(0, len(frames), 2):
            done.set()
            go_on.wait()
            go_on.clear()
            part = frames[start : start + 2]
            dataset.resize(start + len(part), axis=0)
            dataset[start : start + len(part)] = part
            dataset.flush()
        done.set()
        go_on.wait()
    done.set()


class Writer:
    """A process that writes ``a.h5`` two frames at a time."""

    def __init__(self, path: Path, frames: Frames) -> None:
        self._go_on, self._done = SPAWN.Event(), SPAWN.Event()
        args = (str(path), frames, self._go_on, self._done)
        self.process = SPAWN.Process(target=write_swmr, args=args, daemon=True)
        self.process.start()
        assert self._done.wait(60)

    def step(self) -> None:
        """Let it write two frames more, or close the file."""
        self._done.clear()
        self._go_on.set()
        assert self._done.wait(60)


@pytest.fixture
def writer(tmp_path: Path, stack: Frames) -> Generator[Writer]:
    writing = Writer(tmp_path / "a.h5", stack)
    yield writing
    writing.process.kill()
    writing.process.join()


def test_reader_follows_a_process_that_writes(
    write_filewriter: Write, stack: Frames, writer: Writer, quickly: Callable[..., Any]
):
    reader = NxmxReader(write_filewriter(("a.h5",), nimages=7))
    counts = [quickly(reader.frames_available)]
    for _ in range(4):
        writer.step()
        counts.append(quickly(reader.frames_available))
        assert_reads(reader, stack[: counts[-1]])
        if counts[-1] < 7:
            with pytest.raises(ImageReadError, match=f"grown to {counts[-1]} frames"):
                quickly(reader.read, counts[-1])
    assert counts == [0, 2, 4, 6, 7]
    reader.close()
    writer.step()
    writer.process.join(60)
    assert writer.process.exitcode == 0


def test_file_of_a_writer_that_died_still_gives_its_frames(
    write_filewriter: Write, stack: Frames, writer: Writer, quickly: Callable[..., Any]
):
    writer.step()
    writer.process.kill()
    writer.process.join()
    reader = NxmxReader(write_filewriter(("a.h5",), nimages=7))
    assert (reader.n_frames, quickly(reader.frames_available)) == (7, 2)
    assert_reads(reader, stack[:2])
    reader.close()


def test_file_locked_by_a_writer_is_not_there_yet(
    write_nxmx: Write, write_frames: Write, stack: Frames, quickly: Callable[..., Any], tmp_path: Path
):
    write_frames("a.h5", stack)

    add = from_one_file(stack.shape, "u2")

    master = write_nxmx(add)
    locked, release = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=hold_open, args=(str(tmp_path / "a.h5"), locked, release), daemon=True)
    process.start()
    assert locked.wait(60)
    reader = NxmxReader(master)
    assert quickly(reader.frames_available) == 0
    assert "a.h5: another program is writing it" in reader.missing()
    release.set()
    process.join(60)
    assert quickly(reader.frames_available) == 7
    reader.close()


def hold_open(path: str, locked: Event, release: Event) -> None:
    """Keep a file open for writing."""
    with h5py.File(path, "r+"):
        locked.set()
        release.wait()


def test_reader_does_not_keep_a_writer_from_opening_the_file(
    write_nxmx: Write, stack: Frames, quickly: Callable[..., Any]
):
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack))
    reader = NxmxReader(master)
    locked, release = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=hold_open, args=(str(master), locked, release), daemon=True)
    process.start()
    assert locked.wait(60)
    np.testing.assert_array_equal(quickly(reader.read, 3), stack[3])
    release.set()
    process.join(60)
    assert process.exitcode == 0
    reader.close()


def test_file_that_is_being_copied_is_there_when_the_copy_is_done(
    write_nxmx: Write, write_frames: Write, stack: Frames, quickly: Callable[..., Any]
):
    whole = write_frames("a.h5", stack)
    content = whole.read_bytes()

    add = from_one_file(stack.shape, "u2")

    for n_bytes in (0, 7, 100, 5000, len(content) - 1):
        whole.write_bytes(content[:n_bytes])
        reader = NxmxReader(write_nxmx(add))
        assert quickly(reader.frames_available) == 0
        assert "a.h5" in reader.missing()
        whole.write_bytes(content)
        assert quickly(reader.frames_available) == 7
        assert_reads(reader, stack)
        reader.close()


def test_collection_that_was_stopped_has_the_frames_of_its_files(
    write_filewriter: Write, write_frames: Write, stack: Frames
):
    write_frames("x_data_000001.h5", stack)
    reader = NxmxReader(write_filewriter(("x_data_000001.h5",), nimages=100))
    assert (reader.n_frames, reader.frames_available(), reader.missing()) == (7, 7, "")
    reader.close()
