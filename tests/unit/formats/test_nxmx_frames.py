"""NXmx files and FileWriter masters give the pixels that plain h5py gives, or one clear error."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.decompression import Codec
from ssx_processing.formats.frames import open_reader
from ssx_processing.formats.nxmx_frames import NxmxReader, UnknownLayoutError
from ssx_processing.formats.stored_frames import StoredFrames
from ssx_processing.models import Geometry, Panel

Write = Callable[..., Path]
Frames = NDArray[Any]


def read_all(reader: NxmxReader) -> Frames:
    return np.stack([reader.read(index).copy() for index in range(reader.n_frames)])


def codecs(reader: NxmxReader) -> list[Codec | None]:
    """Codec with which each stored dataset is read; None where HDF5 reads."""
    return [stored.codec for stored in reader._table.stored if isinstance(stored, StoredFrames)]


def plain(path: Path, name: str = "entry/data/data") -> Frames:
    with h5py.File(path) as file:
        dataset = file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[()]


def virtual(
    sources: list[tuple[str, int]], shape: tuple[int, ...], dtype: str
) -> Callable[[h5py.Group], Any]:
    """Add a virtual dataset that puts files of so many frames behind each other."""

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(shape, dtype)
        start = 0
        for name, n_frames in sources:
            source = h5py.VirtualSource(name, "entry/data/data", (n_frames, *shape[1:]))
            layout[start : start + n_frames] = source
            start += n_frames
        data.create_virtual_dataset("data", layout)

    return add


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "f4"])
def test_virtual_dataset_over_two_files_reads_as_h5py_reads_it(
    write_nxmx: Write, write_frames: Write, stack: Frames, dtype: str
):
    frames = stack.astype(dtype)
    write_frames("a.h5", frames[:3])
    write_frames("b.h5", frames[3:])
    master = write_nxmx(virtual([("a.h5", 3), ("b.h5", 4)], frames.shape, dtype))
    expected = plain(master)
    reader = NxmxReader(master)
    np.testing.assert_array_equal(read_all(reader), expected)
    assert reader.pixel_type == np.dtype(dtype)
    assert codecs(reader) == [Codec.BITSHUFFLE_LZ4] * 2
    assert {path.name for path in reader.files()} == {"master.nxs", "a.h5", "b.h5"}
    reader.close()


STORAGE: dict[str, tuple[dict[str, Any], Codec | None]] = {
    "bitshuffle/lz4": ({"chunks": (1, 40, 56), **hdf5plugin.Bitshuffle()}, Codec.BITSHUFFLE_LZ4),
    "lz4": ({"chunks": (1, 40, 56), **hdf5plugin.LZ4()}, Codec.LZ4),
    "uncompressed chunks": ({"chunks": (1, 40, 56)}, Codec.NONE),
    "contiguous": ({"chunks": None}, None),
    "gzip": ({"chunks": (1, 40, 56), "compression": "gzip"}, Codec.GZIP),
    "shuffle and gzip": ({"chunks": (1, 40, 56), "compression": "gzip", "shuffle": True}, Codec.SHUFFLE_GZIP),
    "gzip with checksum": ({"chunks": (1, 40, 56), "compression": "gzip", "fletcher32": True}, None),
    "blosc": ({"chunks": (1, 40, 56), **hdf5plugin.Blosc()}, None),
    "bitshuffle alone": ({"chunks": (1, 40, 56), **hdf5plugin.Bitshuffle(cname="none")}, None),
    "bitshuffle/zstd": (
        {"chunks": (1, 40, 56), **hdf5plugin.Bitshuffle(cname="zstd")},
        Codec.BITSHUFFLE_ZSTD,
    ),
    "zstd": ({"chunks": (1, 40, 56), **hdf5plugin.Zstd()}, Codec.ZSTD),
    "shuffle before lz4": ({"chunks": (1, 40, 56), "shuffle": True, **hdf5plugin.LZ4()}, None),
    "several frames in a chunk": ({"chunks": (2, 40, 56), **hdf5plugin.Bitshuffle()}, Codec.BITSHUFFLE_LZ4),
    "several frames in a chunk, gzip": ({"chunks": (3, 40, 56), "compression": "gzip"}, Codec.GZIP),
    "bands of frames in a chunk": ({"chunks": (1, 20, 56), **hdf5plugin.Bitshuffle()}, Codec.BITSHUFFLE_LZ4),
    "uneven bands of frames in a chunk": ({"chunks": (1, 30, 56), **hdf5plugin.Bitshuffle()}, None),
    "tiles in a chunk": ({"chunks": (2, 16, 16), "compression": "gzip"}, None),
}


@pytest.mark.parametrize("storage", STORAGE)
def test_every_storage_reads_as_h5py_reads_it(write_nxmx: Write, stack: Frames, storage: str):
    options, codec = STORAGE[storage]
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack, **options))
    reader = NxmxReader(master)
    assert codecs(reader) == [codec]
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


def test_pixels_in_a_raw_file_beside_are_read(write_nxmx: Write, stack: Frames, tmp_path: Path):
    raw = [(str(tmp_path / "pixels.raw"), 0, stack.nbytes)]
    reader = NxmxReader(write_nxmx(lambda data: data.create_dataset("data", data=stack, external=raw)))
    assert reader.frames_available() == 7
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


@pytest.mark.parametrize(("stored", "read"), [(">u2", "u2"), ("f8", "f4"), ("i8", "i4")])
def test_other_number_types_are_converted(write_nxmx: Write, stack: Frames, stored: str, read: str):
    frames = stack.astype(stored)
    master = write_nxmx(lambda data: data.create_dataset("data", data=frames, chunks=(1, 40, 56)))
    reader = NxmxReader(master)
    assert reader.read(2).dtype == np.dtype(read)
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


def test_interleaved_blocks_of_writers_are_put_in_order(
    write_nxmx: Write, write_frames: Write, stack: Frames
):
    frames = np.concatenate([stack, stack + 1])[:12]
    turns = np.arange(12).reshape(3, 2, 2)  # two writers take two frames in turn
    for number, name in enumerate(("a.h5", "b.h5")):
        write_frames(name, frames[turns[:, number].ravel()])

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout(frames.shape, frames.dtype)
        for number, name in enumerate(("a.h5", "b.h5")):
            source = h5py.VirtualSource(name, "entry/data/data", (6, 40, 56))
            for turn in range(3):
                start = 4 * turn + 2 * number
                layout[start : start + 2] = source[2 * turn : 2 * turn + 2]
        data.create_virtual_dataset("data", layout)

    reader = NxmxReader(write_nxmx(add))
    np.testing.assert_array_equal(read_all(reader), frames)
    assert len(reader._table.stored) == 2
    reader.close()


def test_strided_selection_is_resolved(write_nxmx: Write, write_frames: Write, stack: Frames):
    for number, name in enumerate(("a.h5", "b.h5")):
        write_frames(name, stack[number:6:2])

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout((6, 40, 56), stack.dtype)
        for number, name in enumerate(("a.h5", "b.h5")):
            layout[number:6:2] = h5py.VirtualSource(name, "entry/data/data", (3, 40, 56))
        data.create_virtual_dataset("data", layout)

    reader = NxmxReader(write_nxmx(add))
    np.testing.assert_array_equal(read_all(reader), stack[:6])
    assert codecs(reader) == [Codec.BITSHUFFLE_LZ4] * 2
    reader.close()


def halves(data: h5py.Group) -> None:
    """Add a virtual dataset of which the frames' upper and lower halves are in two files."""
    layout = h5py.VirtualLayout((7, 40, 56), "u2")
    layout[:, :20] = h5py.VirtualSource("a.h5", "entry/data/data", (7, 20, 56))
    layout[:, 20:] = h5py.VirtualSource("b.h5", "entry/data/data", (7, 20, 56))
    data.create_virtual_dataset("data", layout)


def columns(data: h5py.Group) -> None:
    """Add a virtual dataset of which the frames' left and right parts are in two files."""
    layout = h5py.VirtualLayout((7, 40, 56), "u2")
    layout[:, :, :30] = h5py.VirtualSource("a.h5", "entry/data/data", (7, 40, 30))
    layout[:, :, 30:] = h5py.VirtualSource("b.h5", "entry/data/data", (7, 40, 26))
    data.create_virtual_dataset("data", layout)


def test_frames_put_together_from_bands_of_rows_are_read_directly(
    write_nxmx: Write, write_frames: Write, stack: Frames
):
    write_frames("a.h5", stack[:, :20])
    write_frames("b.h5", stack[:, 20:])
    reader = NxmxReader(write_nxmx(halves))
    assert codecs(reader) == []
    np.testing.assert_array_equal(read_all(reader), stack)
    assert {path.name for path in reader.files()} == {"master.nxs", "a.h5", "b.h5"}
    reader.close()


def test_rows_that_no_file_gives_have_the_fill_value(write_nxmx: Write, write_frames: Write, stack: Frames):
    write_frames("a.h5", stack[:, :18])

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout((7, 40, 56), "u2")
        layout[:, 22:] = h5py.VirtualSource("a.h5", "entry/data/data", (7, 18, 56))
        data.create_virtual_dataset("data", layout, fillvalue=65535)

    master = write_nxmx(add)
    expected = plain(master)
    reader = NxmxReader(master)
    np.testing.assert_array_equal(read_all(reader), expected)
    np.testing.assert_array_equal(reader.read(3)[22:], stack[3, :18])
    assert (reader.read(3)[:22] == 65535).all()
    reader.close()


def test_frames_put_together_from_columns_are_left_to_hdf5(
    write_nxmx: Write, write_frames: Write, stack: Frames
):
    write_frames("a.h5", stack[:, :, :30])
    write_frames("b.h5", stack[:, :, 30:])
    reader = NxmxReader(write_nxmx(columns))
    assert codecs(reader) == [None]
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


def test_part_of_the_images_of_a_file_is_left_to_hdf5(write_nxmx: Write, write_frames: Write, stack: Frames):
    write_frames("a.h5", np.pad(stack, ((0, 0), (5, 3), (2, 1))))

    def add(data: h5py.Group) -> None:
        layout = h5py.VirtualLayout((7, 40, 56), "u2")
        layout[:] = h5py.VirtualSource("a.h5", "entry/data/data", (7, 48, 59))[:, 5:45, 2:58]
        data.create_virtual_dataset("data", layout)

    reader = NxmxReader(write_nxmx(add))
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


@pytest.mark.parametrize("layout", [halves, columns])
def test_missing_part_of_a_virtual_dataset_is_an_error_not_zeros(
    write_nxmx: Write, write_frames: Write, stack: Frames, layout: Callable[[h5py.Group], None]
):
    width = 56 if layout is halves else 30
    write_frames("a.h5", stack[:, :20] if layout is halves else stack[:, :, :width])
    reader = NxmxReader(write_nxmx(layout))
    assert reader.frames_available() == 0
    assert "needs b.h5, which is missing" in reader.missing()
    with pytest.raises(ImageReadError, match=r"needs b\.h5, which is missing"):
        reader.read(0)
    reader.close()


def test_missing_source_of_a_virtual_dataset_costs_only_its_frames(
    write_nxmx: Write, write_frames: Write, stack: Frames
):
    write_frames("a.h5", stack[:3])
    reader = NxmxReader(write_nxmx(virtual([("a.h5", 3), ("b.h5", 4)], stack.shape, "u2")))
    assert (reader.n_frames, reader.frames_available()) == (7, 3)
    np.testing.assert_array_equal(reader.read(2), stack[2])
    with pytest.raises(ImageReadError, match=r"master\.nxs: frame 3 .*needs b\.h5, which is missing"):
        reader.read(3)
    reader.close()


def test_source_shorter_than_announced_fails_only_for_its_frames(
    write_nxmx: Write, write_frames: Write, stack: Frames
):
    write_frames("a.h5", stack[:3])
    write_frames("b.h5", stack[3:5])
    reader = NxmxReader(write_nxmx(virtual([("a.h5", 3), ("b.h5", 4)], stack.shape, "u2")))
    np.testing.assert_array_equal(reader.read(4), stack[4])
    with pytest.raises(ImageReadError, match=r"b\.h5: /entry/data/data holds 2 frames, more are announced"):
        reader.read(5)
    reader.close()


def damaged(master: Path, n_bytes: int | None, mask: int = 0) -> None:
    """Put frame 3 back, cut to ``n_bytes``, with a filter mask."""
    with h5py.File(master, "r+") as file:
        dataset = file["entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        _, chunk = dataset.id.read_direct_chunk((3, 0, 0))
        dataset.id.write_direct_chunk((3, 0, 0), chunk[:n_bytes], mask)


def test_truncated_chunk_fails_only_for_its_frame(write_nxmx: Write, stack: Frames):
    options, _ = STORAGE["bitshuffle/lz4"]
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack, **options))
    damaged(master, 900)
    reader = NxmxReader(master)
    with pytest.raises(ImageReadError, match=r"master\.nxs: frame 3 cannot be read; .*truncated"):
        reader.read(3)
    np.testing.assert_array_equal(reader.read(2), stack[2])
    np.testing.assert_array_equal(reader.read(4), stack[4])
    reader.close()


def test_chunk_stored_without_its_filter_is_read_as_it_is(write_nxmx: Write, stack: Frames):
    options, _ = STORAGE["bitshuffle/lz4"]
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack, **options))
    with h5py.File(master, "r+") as file:
        dataset = file["entry/data/data"]
        assert isinstance(dataset, h5py.Dataset)
        dataset.id.write_direct_chunk((3, 0, 0), stack[5].tobytes(), 1)
    reader = NxmxReader(master)
    np.testing.assert_array_equal(reader.read(3), stack[5])
    reader.close()


@pytest.mark.parametrize("storage", ["bitshuffle/lz4", "blosc", "tiles in a chunk"])
def test_frame_that_was_never_written_is_an_error(write_nxmx: Write, stack: Frames, storage: str):
    def add(data: h5py.Group) -> None:
        dataset = data.create_dataset("data", (7, 40, 56), "u2", **STORAGE[storage][0])
        dataset[:4] = stack[:4]

    reader = NxmxReader(write_nxmx(add))
    np.testing.assert_array_equal(reader.read(3), stack[3])
    with pytest.raises(ImageReadError, match="frame 4 of /entry/data/data was never written"):
        reader.read(4)
    assert reader.frames_available() == 4
    reader.close()


@pytest.mark.parametrize("index", [-1, 7])
def test_index_outside_the_file_is_an_error(write_nxmx: Write, stack: Frames, index: int):
    reader = NxmxReader(write_nxmx(lambda data: data.create_dataset("data", data=stack)))
    with pytest.raises(ImageReadError, match=f"no frame {index}, expected 0 to 6"):
        reader.read(index)
    reader.close()


def test_file_without_frames_is_an_error(write_nxmx: Write):
    with pytest.raises(ImageReadError, match="holds no frames"):
        open_reader(write_nxmx(lambda data: data.create_dataset("data", (0, 40, 56), "u2")))


def test_truncated_file_is_an_error(write_nxmx: Write, stack: Frames):
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack))
    master.write_bytes(master.read_bytes()[:20_000])
    with pytest.raises(ImageReadError, match=r"truncated, 20000 of \d+ bytes"):
        open_reader(master)


def test_truncated_file_of_the_newest_format_is_an_error_at_once(tmp_path: Path):
    # opened for SWMR, HDF5 would wait for the missing metadata for ever
    path = tmp_path / "new.nxs"
    with h5py.File(path, "w", libver="latest") as file:
        for name in "abcdefgh":
            file.create_group(name).create_dataset("values", data=np.arange(1000))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ImageReadError, match=r"truncated, 1000 of \d+ bytes"):
        open_reader(path)


def test_truncated_data_file_is_named(write_nxmx: Write, write_frames: Write, stack: Frames):
    data_file = write_frames("a.h5", stack)
    data_file.write_bytes(data_file.read_bytes()[:8_000])
    reader = NxmxReader(write_nxmx(virtual([("a.h5", 7)], stack.shape, "u2")))
    assert reader.frames_available() == 0
    assert re.search(r"a\.h5: truncated, 8000 of \d+ bytes", reader.missing())
    reader.close()


def test_filewriter_master_reads_its_data_files_in_order(
    write_filewriter: Write, write_frames: Write, stack: Frames
):
    write_frames("x_data_000001.h5", stack[:4])
    write_frames("x_data_000002.h5", stack[4:])
    reader = NxmxReader(write_filewriter(("x_data_000001.h5", "x_data_000002.h5")))
    np.testing.assert_array_equal(read_all(reader), stack)
    assert reader.saturation == 5000
    np.testing.assert_array_equal(np.unique(np.nonzero(reader.bad_pixels)[0]), [20, 21])
    panel = reader.geometry.panels[0]
    np.testing.assert_allclose(panel.origin_mm, (-30 * 0.075, 10 * 0.075, -150.0))
    assert reader.geometry.wavelength == pytest.approx(0.98)
    reader.close()


def test_links_beyond_the_frames_asked_for_may_lead_nowhere(
    write_filewriter: Write, write_frames: Write, stack: Frames
):
    write_frames("x_data_000001.h5", stack)
    reader = NxmxReader(write_filewriter(("x_data_000001.h5", "x_data_000002.h5"), nimages=7))
    assert reader.n_frames == 7
    reader.close()


def test_missing_external_file_is_named(write_filewriter: Write, write_frames: Write, stack: Frames):
    write_frames("x_data_000001.h5", stack)
    with pytest.raises(ImageReadError, match=r"data_000002 links to entry/data/data in x_data_000002\.h5"):
        open_reader(write_filewriter(("x_data_000001.h5", "x_data_000002.h5")))


def test_mask_behind_a_dead_link_is_an_error(write_nxmx: Write, stack: Frames):
    fields = {"pixel_mask": h5py.ExternalLink("meta.h5", "/mask")}
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack), detector_fields=fields)
    with pytest.raises(ImageReadError, match=r"pixel_mask links to /mask in meta\.h5"):
        open_reader(master)


def test_hdf5_without_images_is_of_unknown_layout(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = [1, 2, 3]
    with pytest.raises(UnknownLayoutError, match="neither NXmx nor a DECTRIS FileWriter master"):
        NxmxReader(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("dectris_eiger_master.h5", "dectris_eiger_data_000001.h5"),
        ("FJ_P5P1_1_master.h5", "FJ_P5P1_1_000001.h5"),
        ("ins_8_5.nxs", "ins_8_5_000001.h5"),
    ],
)
def test_real_masters_without_their_data_name_the_missing_file(real_data: Path, name: str, missing: str):
    reader = NxmxReader(real_data / "format_samples" / "raw" / name)
    assert reader.frames_available() == 0
    assert re.search(f"{name}: 0 of \\d+ frames are there; .*{missing}, which is missing", reader.missing())
    assert "\n" not in reader.missing()
    reader.close()


GEOMETRY = Geometry(
    panels=(Panel((-1.0, 1.0, -100.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.1, 0.1), 0, 0, 56, 30),),
    image_shape=(40, 56),
    wavelength=1.3,
)


def test_geometry_given_replaces_that_of_the_header(write_nxmx: Write, stack: Frames):
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack), distance=float("nan"))
    reader = NxmxReader(master, GEOMETRY)
    assert reader.geometry is GEOMETRY
    np.testing.assert_array_equal(reader.bad_pixels.all(axis=1), np.arange(40) >= 30)
    np.testing.assert_array_equal(read_all(reader), stack)
    reader.close()


def test_geometry_given_of_another_shape_is_refused(write_nxmx: Write, stack: Frames):
    master = write_nxmx(lambda data: data.create_dataset("data", data=stack))
    other = replace(GEOMETRY, image_shape=(40, 60))
    with pytest.raises(GeometryError, match=r"master\.nxs: .*shape \(40, 56\) .* for \(40, 60\)"):
        NxmxReader(master, other)


def test_images_without_any_metadata_open_with_a_geometry(write_frames: Write, stack: Frames):
    path = write_frames("bare.h5", stack)
    with pytest.raises(UnknownLayoutError):
        NxmxReader(path)
    reader = NxmxReader(path, GEOMETRY)
    np.testing.assert_array_equal(read_all(reader), stack)
    assert reader.saturation == 65535
    reader.close()
