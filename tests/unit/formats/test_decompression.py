"""Chunks are decompressed as HDF5 does it, and damaged ones are refused without a crash."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from ssx_processing.formats.decompression import ChunkBuffer, Codec, codec_of, decompress

FILTERS: dict[str, Any] = {
    "none": {},
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4 in small blocks": dict(hdf5plugin.LZ4(nbytes=1000)),
    "bitshuffle/lz4": dict(hdf5plugin.Bitshuffle()),
    "bitshuffle/lz4 in small blocks": dict(hdf5plugin.Bitshuffle(nelems=64)),
    "bitshuffle/zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "zstd": dict(hdf5plugin.Zstd()),
    "gzip": {"compression": "gzip"},
    "shuffle and gzip": {"compression": "gzip", "shuffle": True},
}
PACKED = [name for name in FILTERS if name != "none"]


def written(path: Path, pixels: np.ndarray, name: str) -> tuple[h5py.Dataset, Codec]:
    """Dataset of one frame in one chunk, and its codec."""
    file = h5py.File(path / "one.h5", "w")
    dataset = file.create_dataset("data", data=pixels[None], chunks=(1, *pixels.shape), **FILTERS[name])
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    codec = codec_of([(number, values) for number, _, values, _ in filters])
    assert codec is not None
    return dataset, codec


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "f4"])
def test_pixels_come_back_as_written(tmp_path: Path, rng: np.random.Generator, name: str, dtype: str):
    pixels = rng.poisson(4, (61, 83)).astype(dtype)
    dataset, codec = written(tmp_path, pixels, name)
    buffer, out = ChunkBuffer(), np.empty_like(pixels)
    mask, chunk = buffer.fetch(dataset.id, (0, 0, 0))
    decompress(chunk, codec, out)
    assert mask == 0
    np.testing.assert_array_equal(out, pixels)


def test_chunk_larger_than_the_buffer_makes_it_grow(tmp_path: Path, rng: np.random.Generator):
    pixels = rng.integers(0, 2**32, (700, 700), np.uint32)
    dataset, codec = written(tmp_path, pixels, "bitshuffle/lz4")
    assert dataset.id.get_storage_size() > 1 << 20
    buffer, out = ChunkBuffer(), np.empty_like(pixels)
    for _ in range(2):
        out[:] = 0
        decompress(buffer.fetch(dataset.id, (0, 0, 0))[1], codec, out)
        np.testing.assert_array_equal(out, pixels)


def test_chunk_of_several_frames_is_unpacked_once_until_another_is_asked_for():
    buffer, unpacked = ChunkBuffer(), []

    def unpack(number: int, pixels: np.ndarray) -> None:
        unpacked.append(number)
        if number < 0:
            raise ValueError("is damaged")
        pixels[:] = number

    def pixels(number: int) -> np.ndarray:
        return buffer.unpacked(number, (3, 8), np.dtype("u2"), lambda out: unpack(number, out))

    for number in (1, 1, 1, 2, 1, 1):
        assert (pixels(number) == number).all()
    with pytest.raises(ValueError, match="damaged"):
        pixels(-1)
    assert (pixels(1) == 1).all()
    assert unpacked == [1, 2, 1, -1, 1]


@pytest.mark.parametrize("name", PACKED)
def test_truncated_chunk_is_refused_wherever_it_is_cut(tmp_path: Path, rng: np.random.Generator, name: str):
    pixels = rng.poisson(4, (61, 83)).astype(np.uint16)
    dataset, codec = written(tmp_path, pixels, name)
    buffer, out = ChunkBuffer(), np.empty_like(pixels)
    _, chunk = buffer.fetch(dataset.id, (0, 0, 0))
    whole = chunk.copy()
    for length in range(0, whole.size, 7):
        chunk[:length] = whole[:length]
        with pytest.raises(ValueError, match=r"truncated|damaged|header"):
            decompress(chunk[:length], codec, out)


@pytest.mark.parametrize("name", PACKED)
def test_damaged_chunk_does_not_crash(tmp_path: Path, rng: np.random.Generator, name: str):
    pixels = rng.poisson(4, (61, 83)).astype(np.uint16)
    dataset, codec = written(tmp_path, pixels, name)
    buffer, out = ChunkBuffer(), np.empty_like(pixels)
    _, chunk = buffer.fetch(dataset.id, (0, 0, 0))
    whole = chunk.copy()
    refused = 0
    for _ in range(300):
        chunk[:] = whole
        chunk[rng.integers(8, whole.size, 40)] = rng.integers(0, 256, 40)
        try:
            decompress(chunk, codec, out)
        except ValueError:
            refused += 1
    assert refused > 150


def test_chunk_of_another_size_is_refused(tmp_path: Path):
    dataset, codec = written(tmp_path, np.zeros((8, 8), np.uint16), "bitshuffle/lz4")
    buffer = ChunkBuffer()
    _, chunk = buffer.fetch(dataset.id, (0, 0, 0))
    with pytest.raises(ValueError, match="announces 128 bytes of pixels, expected 64"):
        decompress(chunk, codec, np.empty((4, 8), np.uint16))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], Codec.NONE),
        ([(32004, (0,))], Codec.LZ4),
        ([(32008, (0, 4, 4, 0, 2))], Codec.BITSHUFFLE_LZ4),
        ([(32008, (0, 4, 4, 0, 3))], Codec.BITSHUFFLE_ZSTD),
        ([(32008, (0, 4, 4, 0))], None),
        ([(1, (4,))], Codec.GZIP),
        ([(2, (2,)), (1, (4,))], Codec.SHUFFLE_GZIP),
        ([(32015, ())], Codec.ZSTD),
        ([(2, (2,)), (32015, ())], None),
        ([(305, ())], None),
        ([(2, ()), (32008, (0, 4, 4, 0, 2))], None),
    ],
)
def test_codec_is_known_from_the_filter_pipeline(filters: list, expected: Codec | None):
    assert codec_of(filters) == expected


@pytest.mark.parametrize("codec", Codec)
def test_damaged_chunks_touch_no_memory_but_their_own(codec: Codec):
    script = Path(__file__).with_name("damage_chunks.py")
    run = subprocess.run([sys.executable, script, codec, "3000"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert 1500 < int(run.stdout) <= 3000
