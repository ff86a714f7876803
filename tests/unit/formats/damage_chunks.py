"""Decompress damaged chunks that lie against memory which must not be touched.

    python damage_chunks.py CODEC N

Run by test_decompression.py as a process of its own: whoever reads or writes beyond the chunk or the
pixels is killed. Prints how many of the N chunks were refused.
"""

import ctypes
import mmap
import sys
import tempfile
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.decompression import Codec, decompress

OPTIONS = {
    Codec.LZ4: dict(hdf5plugin.LZ4(nbytes=1000)),
    Codec.BITSHUFFLE_LZ4: dict(hdf5plugin.Bitshuffle(nelems=256)),
    Codec.BITSHUFFLE_ZSTD: dict(hdf5plugin.Bitshuffle(nelems=256, cname="zstd")),
    Codec.ZSTD: dict(hdf5plugin.Zstd()),
    Codec.GZIP: {"compression": "gzip"},
    Codec.SHUFFLE_GZIP: {"compression": "gzip", "shuffle": True},
    Codec.NONE: {},
}
NASTY = (b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\0\0\xff\xff")


def guarded(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of which the bytes before and behind must not be touched (to a page before)."""
    page = mmap.PAGESIZE
    n_pages = -(-n_bytes // page)
    memory = mmap.mmap(-1, (n_pages + 2) * page)
    whole = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for number in (0, n_pages + 1):
        if protect(whole.ctypes.data + number * page, page, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return whole[page : (n_pages + 1) * page][-n_bytes:]


def packed(pixels: NDArray[np.uint16], codec: Codec) -> bytes:
    """Chunk as HDF5 stores it."""
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "one.h5", "w") as file:
        dataset = file.create_dataset("data", data=pixels, chunks=pixels.shape, **OPTIONS[codec])
        return dataset.id.read_direct_chunk((0, 0))[1]


def damaged(chunk: bytes, rng: np.random.Generator) -> bytes:
    """Change some bytes, put in lengths that cannot be, repeat, drop or cut a part."""
    changed = bytearray(chunk)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(changed)))
        kind = rng.integers(5)
        if kind == 0:
            changed[at] = rng.integers(256)
        elif kind == 1:
            at = min(at, 40) if rng.random() < 0.5 else at
            changed[at : at + 4] = NASTY[rng.integers(len(NASTY))]
        elif kind == 2:
            changed[at:at] = changed[: int(rng.integers(1, 200))]
        elif kind == 3:
            del changed[at : at + int(rng.integers(1, 50))]
        else:
            del changed[at:]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def main(codec: Codec, n: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.poisson(4, (61, 83)).astype(np.uint16)
    pixels[20:30] = rng.integers(0, 60000, (10, 83))
    chunk = packed(pixels, codec)
    room = guarded(4 * len(chunk) + 4096)
    out = guarded(pixels.nbytes).view(np.uint16).reshape(pixels.shape)
    refused = 0
    for _ in range(n):
        changed = damaged(chunk, rng)[: room.size]
        place = room[room.size - len(changed) :]
        place[:] = np.frombuffer(changed, np.uint8)
        try:
            decompress(place, codec, out)
        except ValueError:
            refused += 1
    sys.stdout.write(f"{refused}\n")


if __name__ == "__main__":
    main(Codec(sys.argv[1]), int(sys.argv[2]))
