"""Bytes of an HDF5 chunk to pixels, by the C code inside hdf5plugin and without the HDF5 lock.

h5py holds one lock for the whole process while HDF5 decompresses. Reading the compressed bytes
takes microseconds, so they are fetched with the lock and decompressed here without it (ctypes
releases the GIL as well).

Layouts, all integers big-endian:

* bitshuffle (filter 32008): 8 bytes uncompressed size, 4 bytes block size; then for each block
  4 bytes compressed size and the block; the last 0 to 7 elements uncompressed.
* gzip (filter 1): one zlib stream, after HDF5's shuffle (filter 2) or without it.
* zstd (filter 32015): one zstd frame.
* LZ4 (filter 32004): 8 bytes uncompressed size, 4 bytes block size; then for each block 4 bytes
  compressed size and the block, which is stored as it is if its size did not shrink.
"""

import ctypes
import zlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np
from numba import njit
from numpy.typing import NDArray

HEADER_BYTES = 12
GZIP_FILTER = 1
SHUFFLE_FILTER = 2
LZ4_FILTER = 32004
BITSHUFFLE_FILTER = 32008
ZSTD_FILTER = 32015
_BITSHUFFLE_COMPRESSORS = {2: "lz4", 3: "zstd"}


class Codec(StrEnum):
    """How a chunk is packed."""

    NONE = "none"
    LZ4 = "lz4"
    BITSHUFFLE_LZ4 = "bitshuffle/lz4"
    BITSHUFFLE_ZSTD = "bitshuffle/zstd"
    ZSTD = "zstd"
    GZIP = "gzip"
    SHUFFLE_GZIP = "shuffle/gzip"


_ONE_FILTER = {GZIP_FILTER: Codec.GZIP, LZ4_FILTER: Codec.LZ4, ZSTD_FILTER: Codec.ZSTD}


def codec_of(filters: Sequence[tuple[int, tuple[int, ...]]]) -> Codec | None:
    """Codec of an HDF5 filter pipeline; None if HDF5 itself has to decompress.

    Parameters
    ----------
    filters
        Filter number and its client values, in the order of the pipeline.

    >>> codec_of([(32008, (0, 4, 2, 0, 2))])
    <Codec.BITSHUFFLE_LZ4: 'bitshuffle/lz4'>
    >>> codec_of([(305, ())]) is None
    True
    """
    if not filters:
        return Codec.NONE
    numbers = [number for number, _ in filters]
    if numbers == [SHUFFLE_FILTER, GZIP_FILTER]:
        return Codec.SHUFFLE_GZIP
    if len(filters) > 1:
        return None
    number, values = filters[0]
    if number == BITSHUFFLE_FILTER and len(values) > 4:
        compressor = _BITSHUFFLE_COMPRESSORS.get(values[4])
        return Codec(f"bitshuffle/{compressor}") if compressor else None
    return _ONE_FILTER.get(number)


def codec_of_chunk(codec: Codec, mask: int) -> Codec:
    """Codec of a chunk that was stored with a filter mask (bit i set: filter i was not applied).

    Raises
    ------
    ValueError
        The mask asks for half of a codec.
    """
    if not mask:
        return codec
    if codec is Codec.SHUFFLE_GZIP and mask & 3 != 3:
        if mask & 3 == 1:
            return Codec.GZIP
        raise ValueError(f"has filter mask {mask}: shuffled but not compressed, which is not supported")
    return Codec.NONE


class ChunkBuffer:
    """Memory for one compressed chunk, used again for every chunk and grown when needed.

    It also keeps the pixels of the last chunk that held more than one frame.
    """

    def __init__(self) -> None:
        self._bytes = np.zeros(1 << 20, np.uint8)
        self._unpacked: tuple[Any, NDArray[Any]] | None = None

    def unpacked(
        self, key: Any, shape: tuple[int, ...], dtype: np.dtype, unpack: Callable[[NDArray[Any]], None]
    ) -> NDArray[Any]:
        """Pixels of a chunk of several frames, unpacked unless it is the same chunk as last time.

        Parameters
        ----------
        key
            Tells chunks apart.
        unpack
            Fills an array of ``shape`` and ``dtype``.
        """
        if self._unpacked is None or self._unpacked[0] != key:
            pixels = None if self._unpacked is None else self._unpacked[1]
            self._unpacked = None  # it is not whole if the next step fails
            if pixels is None or pixels.shape != shape or pixels.dtype != dtype:
                pixels = np.empty(shape, dtype)
            unpack(pixels)
            self._unpacked = (key, pixels)
        return self._unpacked[1]

    def fetch(self, dataset: Any, offset: tuple[int, ...]) -> tuple[int, NDArray[np.uint8]]:
        """Filter mask and stored bytes of the chunk that starts at ``offset``.

        Parameters
        ----------
        dataset
            Low-level dataset (``h5py.h5d.DatasetID``).

        Returns
        -------
        Filter mask (bit i set: filter i was not applied), view of the bytes.
        """
        try:
            mask, chunk = dataset.read_direct_chunk(offset, None, self._bytes)
        except ValueError:  # h5py says so when the chunk is larger than the buffer
            mask, chunk = dataset.read_direct_chunk(offset)
            self._bytes = np.empty(len(chunk) * 2, np.uint8)
            self._bytes[: len(chunk)] = np.frombuffer(chunk, np.uint8)
        return mask, self._bytes[: len(chunk)]


def decompress(chunk: NDArray[np.uint8], codec: Codec, out: NDArray[np.generic]) -> None:
    """Fill ``out`` with the pixels packed in ``chunk``.

    Parameters
    ----------
    chunk
        Stored bytes.
    out
        Contiguous, native byte order; its size says how many pixels are expected.

    Raises
    ------
    ValueError
        The chunk is truncated, damaged or holds another number of bytes.
    """
    if codec is Codec.NONE:
        if chunk.size != out.nbytes:
            raise ValueError(f"holds {chunk.size} bytes, expected {out.nbytes}")
        out.reshape(-1).view(np.uint8)[:] = chunk
        return
    if codec in (Codec.GZIP, Codec.SHUFFLE_GZIP):
        _decompress_gzip(chunk, codec is Codec.SHUFFLE_GZIP, out)
        return
    if codec is Codec.ZSTD:
        _decompress_zstd(chunk, out)
        return
    if chunk.size < HEADER_BYTES:
        raise ValueError(f"holds {chunk.size} bytes, less than its header of {HEADER_BYTES}")
    n_bytes = int.from_bytes(chunk[:8].tobytes(), "big")
    if n_bytes != out.nbytes:
        raise ValueError(f"announces {n_bytes} bytes of pixels, expected {out.nbytes}")
    block_bytes = int.from_bytes(chunk[8:12].tobytes(), "big")
    if codec is Codec.LZ4:
        _decompress_lz4(chunk, block_bytes, out)
    else:
        _decompress_bitshuffle(chunk, block_bytes, codec, out)


def _decompress_bitshuffle(
    chunk: NDArray[np.uint8], block_bytes: int, codec: Codec, out: NDArray[np.generic]
) -> None:
    """Decompress blocks of bits.

    The C function believes the compressed sizes and goes on after an error, so a damaged chunk
    would lead it anywhere in memory. Hence the chain of blocks is followed first.
    """
    item = out.dtype.itemsize
    if block_bytes == 0 or block_bytes % (8 * item):
        raise ValueError(f"is damaged: it announces blocks of {block_bytes} bytes")
    needed = _bitshuffle_end(chunk, out.size, item, block_bytes // item)
    if needed > chunk.size:
        raise ValueError(f"is truncated or damaged: {chunk.size} bytes stored, {needed} needed")
    library = _library()
    zstd = codec is Codec.BITSHUFFLE_ZSTD
    function = library.bshuf_decompress_zstd if zstd else library.bshuf_decompress_lz4
    source, target = chunk.ctypes.data + HEADER_BYTES, out.ctypes.data
    status = function(source, target, out.size, item, block_bytes // item)
    if status < 0:
        raise ValueError(f"is damaged ({codec} error {status})")


@njit(cache=True, nogil=True)
def _bitshuffle_end(chunk: NDArray[np.uint8], n_elements: int, item: int, block: int) -> int:
    """Size in bytes of a whole chunk, from its compressed sizes; larger than the chunk if cut.

    ``block`` is in elements.
    """
    n_blocks = n_elements // block + (1 if n_elements % block >= 8 else 0)
    position = HEADER_BYTES
    for _ in range(n_blocks):
        if position + 4 > chunk.size:
            return position + 4
        stored = 0
        for i in range(4):
            stored = stored * 256 + int(chunk[position + i])
        position += 4 + stored
    return position + (n_elements % 8) * item


def _decompress_lz4(chunk: NDArray[np.uint8], block_bytes: int, out: NDArray[np.generic]) -> None:
    """Decompress blocks of LZ4, each checked against the end of the chunk."""
    library = _library()
    position, done = HEADER_BYTES, 0
    while done < out.nbytes:
        expected = min(block_bytes, out.nbytes - done)
        stored = int.from_bytes(chunk[position : position + 4].tobytes(), "big")
        position += 4
        if expected <= 0 or position + stored > chunk.size:
            raise ValueError(f"is truncated or damaged: {chunk.size} bytes, {position + stored} needed")
        source, target = chunk.ctypes.data + position, out.ctypes.data + done
        if stored == expected:
            ctypes.memmove(target, source, stored)
        elif library.LZ4_decompress_safe(source, target, stored, expected) != expected:
            raise ValueError(f"is damaged at byte {position}")
        position += stored
        done += expected


def _decompress_gzip(chunk: NDArray[np.uint8], shuffled: bool, out: NDArray[np.generic]) -> None:
    """Decompress one zlib stream, and put the bytes of each pixel together again."""
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(chunk, out.nbytes + 1)  # pyright: ignore[reportArgumentType]
    except zlib.error as error:
        raise ValueError(f"is damaged ({error})") from error
    if len(unpacked) != out.nbytes or not stream.eof:
        raise ValueError(
            f"is truncated or damaged: it unpacks to {len(unpacked)} bytes, expected {out.nbytes}"
        )
    stored, pixels = np.frombuffer(unpacked, np.uint8), out.reshape(-1).view(np.uint8)
    planes = out.itemsize if shuffled else 1
    for plane in range(planes):
        pixels[plane::planes] = stored[plane * (stored.size // planes) :][: stored.size // planes]


def _decompress_zstd(chunk: NDArray[np.uint8], out: NDArray[np.generic]) -> None:
    """Decompress one zstd frame."""
    n_bytes = _library().ZSTD_decompress(out.ctypes.data, out.nbytes, chunk.ctypes.data, chunk.size)
    if n_bytes != out.nbytes:  # errors are numbers near 2**64
        raise ValueError(f"is truncated or damaged: it does not unpack to {out.nbytes} bytes")


@cache
def _library() -> ctypes.CDLL:
    """hdf5plugin's bitshuffle library, which carries LZ4 and zstd too."""
    path = next(Path(hdf5plugin.PLUGIN_PATH).glob("libh5bshuf.*"))
    library = ctypes.CDLL(str(path))
    for name in ("bshuf_decompress_lz4", "bshuf_decompress_zstd"):
        function = getattr(library, name)
        function.restype = ctypes.c_int64
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_size_t] * 3
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t] * 2
    library.LZ4_decompress_safe.restype = ctypes.c_int
    library.LZ4_decompress_safe.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    return library
