"""Frames by number, whatever stores them, and why some are not there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.decompression import ChunkBuffer

Frames = NDArray[np.int64]


class FrameSource(Protocol):
    """What hands out frames by number: a stored dataset, or one put together from several."""

    file: Path
    name: str
    image_shape: tuple[int, int]
    pixel_type: np.dtype

    def read(self, index: int, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out`` with frame ``index``."""
        ...

    def written(self) -> NDArray[np.bool_]:
        """Which frames are there."""
        ...

    def close(self) -> None:
        """Close files."""
        ...


@dataclass
class FrameTable:
    """Where every frame of a data set is stored."""

    stored: list[FrameSource] = field(default_factory=list)
    source: Frames = field(default_factory=lambda: np.empty(0, np.int64))
    """Frame to element of ``stored``; where no file holds the frame, -1 minus its place in ``reasons``."""
    index: Frames = field(default_factory=lambda: np.empty(0, np.int64))
    """Frame to frame within that element."""
    reasons: list[str] = field(default_factory=list)
    """Why frames are held by no file."""
    files: set[Path] = field(default_factory=set)
    """Files on the way to the pixels."""
    channels: bool = False
    """The second of four axes counts energy thresholds, not modules."""
    announced: tuple[tuple[int, int], np.dtype] | None = None
    """Image shape and pixel type that a virtual dataset announces."""
    opened: list[h5py.File] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.source)

    def read(self, frame: int, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out`` with the pixels of ``frame``.

        Raises
        ------
        ImageReadError
            No file holds the frame, or it is truncated, damaged or was never written.
        """
        if frame >= len(self):
            raise ImageReadError(f"there are only {len(self)} frames of it")
        source = self.source[frame]
        if source < 0:
            raise ImageReadError(self.reasons[-1 - source])
        self.stored[source].read(int(self.index[frame]), out, buffer)

    def readable(self) -> NDArray[np.bool_]:
        """Which frames are there; whether they are damaged shows when they are read."""
        there = self.source >= 0
        for number, stored in enumerate(self.stored):
            written = stored.written()
            if not written.all():
                frames = self.source == number
                there[frames] = written[self.index[frames]]
        return there

    def why_missing(self, frame: int) -> str:
        """Say why ``frame`` cannot be read."""
        source = self.source[frame]
        if source < 0:
            return self.reasons[-1 - source]
        stored = self.stored[source]
        return f"{stored.file}: frame {self.index[frame]} of {stored.name} was never written"

    def lacks(self, reason: str) -> int:
        """Element of ``source`` for frames that no file holds."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return -1 - self.reasons.index(reason)

    def extend(self, source: Frames, index: Frames) -> None:
        """Append frames."""
        self.source = np.concatenate([self.source, source])
        self.index = np.concatenate([self.index, index])

    def pad(self, n_frames: int, reason: str) -> None:
        """Append frames that no file holds until there are ``n_frames``."""
        n = max(n_frames - len(self), 0)
        self.extend(np.full(n, self.lacks(reason), np.int64), np.zeros(n, np.int64))

    def check_alike(self, where: object) -> None:
        """Raise ImageReadError if not all frames have one shape and type."""
        kinds = {(s.image_shape, s.pixel_type): f"{s.name} of {s.file.name}" for s in reversed(self.stored)}
        if len(kinds) > 1:
            names = ", ".join(f"{name} has {shape} {dtype}" for (shape, dtype), name in kinds.items())
            raise ImageReadError(f"{where}: its datasets differ in shape or type: {names}")

    def close(self) -> None:
        """Close all files that were opened for it."""
        for stored in self.stored:
            stored.close()
        for file in self.opened:
            file.close()


class BandedFrames:
    """Frames put together from bands of rows, each band in datasets of its own (one per module, say)."""

    def __init__(
        self, dataset: h5py.Dataset, bands: Sequence[tuple[slice, FrameTable]], shape: tuple[int, int]
    ):
        self.file, self.name = Path(dataset.file.filename), str(dataset.name)
        self.image_shape = shape
        self.pixel_type = next(table.stored[0].pixel_type for _, table in bands if table.stored)
        self._bands = bands
        self._fill = dataset.fillvalue

    def read(self, index: int, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out`` with frame ``index``."""
        if sum(rows.stop - rows.start for rows, _ in self._bands) < self.image_shape[0]:
            out[:] = self._fill
        for rows, table in self._bands:
            table.read(index, out[rows], buffer)

    def written(self) -> NDArray[np.bool_]:
        """Which frames have all their bands."""
        return np.logical_and.reduce([table.readable() for _, table in self._bands])

    def close(self) -> None:
        """Close the files of all bands."""
        for _, table in self._bands:
            table.close()
