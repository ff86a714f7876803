"""A dataset that stores frames itself: reading one with as little work as its layout allows."""

import math
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.decompression import (
    ChunkBuffer,
    Codec,
    codec_of,
    codec_of_chunk,
    decompress,
)

LARGEST_UNPACKED_CHUNK = 128 << 20
"""Bytes: larger chunks of several frames are left to HDF5, so that a worker stays small."""

_STORED_TYPES = ("u1", "u2", "u4", "i2", "i4", "f4")
_CONVERTED_TYPES = {"i1": "i2", "i8": "i4", "u8": "u4", "f2": "f4", "f8": "f4"}


class StoredFrames:
    """A dataset that stores frames, one after the other.

    Its shape is (slow, fast), (frames, slow, fast) or (frames, modules, slow, fast). Modules are
    put below each other: the image then has modules times slow rows.
    """

    def __init__(self, dataset: h5py.Dataset, *, channels: bool = False) -> None:
        """Look at the layout.

        Parameters
        ----------
        channels
            The second of four axes counts energy thresholds, not modules: the first is taken.

        Raises
        ------
        ImageReadError
            The dataset holds no images.
        """
        self._dataset = dataset
        self.file = Path(dataset.file.filename)
        self.name = str(dataset.name)
        self.image_shape, self._part = image_shape(dataset, channels=channels)
        self._channel = (0,) if channels and dataset.ndim == 4 else ()
        self._many = dataset.ndim > 2
        self.n_frames: int = dataset.shape[0] if self._many else 1
        self.pixel_type = pixel_type(dataset)
        self.codec = self._direct_codec()

    def read(self, index: int, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out``, contiguous and of ``pixel_type``, with frame ``index`` of this dataset.

        Raises
        ------
        ImageReadError
            The frame is truncated, damaged or was never written.
        """
        try:
            if self.codec is None:
                self._read_through_hdf5(index, out)
            elif self._frames_in_chunk > 1:
                out[:] = self._read_chunk_of_many(index, buffer).reshape(out.shape)
            else:
                self._read_direct(index, self.codec, out, buffer)
        except (OSError, RuntimeError, ValueError) as error:
            never = any(text in str(error) for text in ("not allocated", "storage is not initialized"))
            what = "was never written" if never else str(error)
            raise ImageReadError(f"{self.file}: frame {index} of {self.name} {what}") from error

    def written(self) -> NDArray[np.bool_]:
        """Which frames have their place in the file; those that the detector has not written have none."""
        dataset, ones = self._dataset, np.ones(self.n_frames, bool)
        if dataset.is_virtual:
            return ones
        if dataset.chunks is None:
            elsewhere = dataset.external or dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
            return ones if elsewhere or dataset.id.get_offset() is not None else ~ones
        grid = [math.ceil(n / chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
        if dataset.id.get_num_chunks() == math.prod(grid):
            return ones
        frames_in_chunk = dataset.chunks[0] if self._many else 1
        counts = np.zeros(grid[0] if self._many else 1, np.int64)

        def count(chunk: h5py.h5d.StoreInfo) -> None:
            counts[chunk.chunk_offset[0] // frames_in_chunk if self._many else 0] += 1

        dataset.id.chunk_iter(count)
        whole = counts == math.prod(grid[1:] if self._many else grid)
        return np.repeat(whole, frames_in_chunk)[: self.n_frames]

    def close(self) -> None:
        """Close the file that holds the dataset."""
        if self._dataset:  # false once its file is closed
            self._dataset.file.close()

    def _direct_codec(self) -> Codec | None:
        """Codec for reading chunks directly; None where HDF5 has to do the reading.

        Directly means: a chunk covers whole rows of whole frames, in native byte order.
        """
        dataset = self._dataset
        if dataset.is_virtual or dataset.chunks is None or dataset.dtype != self.pixel_type:
            return None
        before = len(dataset.shape) - len(self._part)
        chunk = dataset.chunks[before:]
        self._frames_in_chunk = dataset.chunks[0] if self._many else 1
        self._bands = self._part[0] // chunk[0]
        self._band_step = chunk[0]
        if (
            chunk[1:] != self._part[1:]
            or self._part[0] % chunk[0]
            or (self._channel and dataset.chunks[1] > 1)
        ):
            return None
        n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if self._frames_in_chunk > 1 and (self._bands > 1 or n_bytes > LARGEST_UNPACKED_CHUNK):
            return None
        return codec_of(self._filters())

    def _filters(self) -> list[tuple[int, tuple[int, ...]]]:
        """Number and values of each filter of the dataset's pipeline."""
        plist = self._dataset.id.get_create_plist()
        filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        return [(number, values) for number, _, values, _ in filters]

    def _read_direct(self, index: int, codec: Codec, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out`` from the chunks of one frame, one below the other."""
        before = (index, *self._channel) if self._many else ()
        after = (0,) * (len(self._part) - 1)
        if self._bands == 1:
            mask, chunk = buffer.fetch(self._dataset.id, (*before, 0, *after))
            decompress(chunk, codec_of_chunk(codec, mask), out)
            return
        pixels = out.reshape(self._bands, -1)
        for band in range(self._bands):
            mask, chunk = buffer.fetch(self._dataset.id, (*before, band * self._band_step, *after))
            decompress(chunk, codec_of_chunk(codec, mask), pixels[band])

    def _read_chunk_of_many(self, index: int, buffer: ChunkBuffer) -> NDArray[np.generic]:
        """Pixels of one frame out of a chunk of several."""
        number, place = divmod(index, self._frames_in_chunk)
        shape = (self._frames_in_chunk, math.prod(self._part))

        def unpack(pixels: NDArray[np.generic]) -> None:
            offset = (number * self._frames_in_chunk, *(0,) * (self._dataset.ndim - 1))
            mask, chunk = buffer.fetch(self._dataset.id, offset)
            decompress(chunk, codec_of_chunk(self.codec or Codec.NONE, mask), pixels)

        return buffer.unpacked((self, number), shape, self.pixel_type, unpack)[place]

    def _read_through_hdf5(self, index: int, out: NDArray[np.generic]) -> None:
        """Let HDF5 read, which fills frames that were never written with zeros."""
        if not self._all_written and not self.written()[index]:
            raise OSError("was never written")
        lacking = [number for number, _ in self._filters() if not h5py.h5z.filter_avail(number)]
        if lacking:
            raise OSError(f"needs the HDF5 filter {lacking[0]}, which hdf5plugin does not have")
        source = (index, *self._channel) if self._many else ()
        self._dataset.read_direct(out.reshape(self._part), source)

    @cached_property
    def _all_written(self) -> bool:
        """Whether no frame of the dataset lacks its place in the file."""
        return bool(self.written().all())


def image_shape(dataset: h5py.Dataset, *, channels: bool = False) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Shape (slow, fast) of the image that the rest sees, and shape of a frame in the dataset.

    Raises
    ------
    ImageReadError
        The dataset holds no images.
    """
    if dataset.ndim not in (2, 3, 4):
        raise ImageReadError(
            f"{dataset.file.filename}: {dataset.name} has shape {dataset.shape}, "
            "expected (frames, slow, fast) or (frames, modules, slow, fast)"
        )
    part = dataset.shape[-2:] if dataset.ndim == 2 or channels else dataset.shape[1:]
    return (math.prod(part[:-1]), part[-1]), part


def pixel_type(dataset: h5py.Dataset) -> np.dtype:
    """Type in which pixels are handed out, native byte order.

    Raises
    ------
    ImageReadError
        The dataset holds no numbers, or complex ones.
    """
    native = dataset.dtype.newbyteorder("=")
    pixels = np.dtype(_CONVERTED_TYPES.get(native.str[1:], native))
    if pixels.str[1:] not in _STORED_TYPES:
        raise ImageReadError(
            f"{dataset.file.filename}: {dataset.name} holds {dataset.dtype}, which are not pixels"
        )
    return pixels
