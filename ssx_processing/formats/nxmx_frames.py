"""Frames of NXmx files and DECTRIS FileWriter masters (HDF5)."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.decompression import ChunkBuffer
from ssx_processing.formats.frame_table import FrameTable
from ssx_processing.formats.hdf5_files import DAMAGE, SIGNATURE, open_hdf5
from ssx_processing.formats.nxmx_entry import (
    UnknownLayoutError,
    announced_image,
    entry_frames,
    find_detector,
    find_entry,
)
from ssx_processing.formats.nxmx_geometry import filewriter_geometry, nxmx_geometry
from ssx_processing.formats.nxmx_pixels import bad_pixels, pixel_masks, saturation, underload
from ssx_processing.models import Geometry

__all__ = ["NxmxReader", "UnknownLayoutError", "is_hdf5"]


def is_hdf5(path: Path) -> bool:
    """Whether the file begins like HDF5, after a user block of up to 2048 bytes.

    A truncated file does too, so that its error can say so.

    Raises
    ------
    ImageReadError
        It cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2048 + len(SIGNATURE))
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror or error}") from error
    return any(start[offset:].startswith(SIGNATURE) for offset in (0, 512, 1024, 2048))


class NxmxReader:
    """Frames of one master file; the attributes are those of ``FrameReader``."""

    def __init__(self, path: Path, geometry: Geometry | None = None) -> None:
        """Open the file and resolve where every frame is stored.

        Parameters
        ----------
        path
            Master file.
        geometry
            Stands in for beam and detector of the file, which may then be absent or wrong.

        Raises
        ------
        UnknownLayoutError
            The file has another layout.
        GeometryError
            The layout is known but the geometry cannot be used, or the geometry given has another
            image shape.
        ImageReadError
            The file or one that it refers to is missing or truncated, or there are no frames.
        """
        self.path = path
        self._file = open_hdf5(path)
        self._table = FrameTable()
        try:
            with _damage_named(path):
                self._open(geometry)
        except BaseException:
            self.close()
            raise

    def _open(self, geometry: Geometry | None) -> None:
        """Read everything but pixels."""
        entry, is_nxmx = find_entry(self._file, any_with_data=geometry is not None)
        self._table = entry_frames(entry)
        self.n_frames = len(self._table)
        if not self.n_frames:
            raise ImageReadError(f"{self.path}: holds no frames (its image data have length 0)")
        image_shape, self.pixel_type = self._image(entry)
        self.geometry = geometry or self._header_geometry(entry, is_nxmx, image_shape)
        if self.geometry.image_shape != image_shape:
            raise GeometryError(
                f"{self.path}: holds images of shape {image_shape} (slow, fast), the geometry given "
                f"is for {self.geometry.image_shape}"
            )
        self._take_limits(entry)
        self._pixels = np.empty(image_shape, self.pixel_type)
        self._buffer = ChunkBuffer()
        self._stored_any = bool(self._table.stored)
        self._available: int | None = None
        self._missing = ""

    def _take_limits(self, entry: h5py.Group) -> None:
        """Read which pixels and values count; from a file without any pixels yet, as far as it is there."""
        detector = find_detector(entry) if self._table.stored else None
        try:
            self.bad_pixels: NDArray[np.bool_] = bad_pixels(
                detector, self.geometry.panels, self.geometry.image_shape
            )
            self.saturation = saturation(detector, self.pixel_type)
            self.underload = underload(detector, self.pixel_type)
            self._own_limits = self.saturation, self.underload
            self._mask_files = {Path(mask.file.filename) for mask in pixel_masks(detector)}
        except GeometryError as error:
            raise GeometryError(f"{self.path}: {error}") from error
        except ImageReadError as error:
            raise ImageReadError(f"{self.path}: {self._here(error)}") from error

    def _here(self, reason: object) -> str:
        """Say ``reason`` without the path of this file at its start."""
        return str(reason).removeprefix(f"{self.path}: ")

    def _image(self, entry: h5py.Group) -> tuple[tuple[int, int], np.dtype]:
        """Image shape and pixel type, from what is stored or else from what is announced."""
        if self._table.stored:
            return self._table.stored[0].image_shape, self._table.stored[0].pixel_type
        announced = self._table.announced or announced_image(entry)
        if announced is None:
            raise ImageReadError(f"{self.path}: {self._here(self._table.why_missing(0))}")
        return announced

    def _header_geometry(self, entry: h5py.Group, is_nxmx: bool, image_shape: tuple[int, int]) -> Geometry:
        """Geometry that the file itself gives."""
        try:
            if is_nxmx:
                return nxmx_geometry(entry, image_shape)
            return filewriter_geometry(entry, image_shape)
        except GeometryError as error:
            raise GeometryError(f"{self.path}: {error}; or give a geometry with --geometry FILE") from error

    def read(self, index: int) -> NDArray[np.generic]:
        """Raw pixels of one frame, shape (slow, fast); the next read overwrites them.

        A frame that was missing when ``frames_available`` was last asked, or on opening, still is.

        Raises
        ------
        ImageReadError
            There is no such frame, or it is missing, truncated, damaged or was never written.
        """
        if not 0 <= index < self.n_frames:
            raise ImageReadError(f"{self.path}: no frame {index}, expected 0 to {self.n_frames - 1}")
        if index >= len(self._table):
            raise ImageReadError(f"{self.path}: frame {index} cannot be read; it is no longer there")
        try:
            self._table.read(index, self._pixels, self._buffer)
        except ImageReadError as error:
            raise ImageReadError(f"{self.path}: frame {index} cannot be read; {self._here(error)}") from error
        return self._pixels

    def frames_available(self) -> int:
        """Frames, from the first on, that can be read now; looks at the files again.

        Raises
        ------
        ImageReadError
            A file that could be opened before no longer can.
        """
        try:
            self._available = self._readable()
        except DAMAGE:
            self._available = 0  # changed while it was open
        if self._available < self.n_frames:
            with _damage_named(self.path):
                self._open_again()
                self._available = self._readable()
        self._missing = ""
        if self._available < self.n_frames:
            there = self._available < len(self._table)
            why = self._table.why_missing(self._available) if there else "the others are no longer there"
            self._missing = (
                f"{self.path}: {self._available} of {self.n_frames} frames are there; {self._here(why)}"
            )
        return self._available

    def _readable(self) -> int:
        """Frames, from the first on, that can be read as the files were when they were opened."""
        return int(np.append(self._table.readable()[: self.n_frames], False).argmin())

    def missing(self) -> str:
        """What the frames that are not available wait for; empty if nothing is missing.

        As of the last ``frames_available``.
        """
        if self._available is None:
            self.frames_available()
        return self._missing

    def _open_again(self) -> None:
        """Take the files as they are now; HDF5 itself would go on with what it knows of them."""
        self.close()
        self._table = FrameTable()
        self._buffer = ChunkBuffer()  # the last chunk may have got more frames
        self._file = open_hdf5(self.path)
        entry, _ = find_entry(self._file, any_with_data=True)
        self._table = entry_frames(entry)
        image_shape, pixel_type = self._image(entry)
        is_first = bool(self._table.stored) and not self._stored_any
        expected = self.geometry.image_shape, pixel_type if is_first else self.pixel_type
        if self._table.stored and (image_shape, pixel_type) != expected:
            raise ImageReadError(
                f"{self.path}: now has images of {image_shape} {pixel_type}, had {expected[0]} {expected[1]}"
            )
        if is_first:
            self.pixel_type = pixel_type
            self._pixels = np.empty(image_shape, pixel_type)
            self._take_limits_again(entry)
            self._stored_any = True

    def _take_limits_again(self, entry: h5py.Group) -> None:
        """Read which pixels and values count, and keep what a geometry file has added meanwhile."""
        bad, saturation, underload = self.bad_pixels, self.saturation, self.underload
        own_saturation, own_underload = self._own_limits
        self._take_limits(entry)
        self.bad_pixels |= bad
        if saturation != own_saturation:
            self.saturation = min(saturation, self.saturation)
        if underload != own_underload:
            self.underload = max(underload, self.underload)

    def files(self) -> list[Path]:
        """Every file on which pixels or mask depend, the master first."""
        others = self._table.files | self._mask_files
        return [self.path, *sorted(others - {self.path})]

    def close(self) -> None:
        """Close the master and what it refers to."""
        self._table.close()
        self._file.close()


@contextmanager
def _damage_named(path: Path) -> Generator[None]:
    """Turn what h5py raises on damaged metadata into one error that names the file."""
    try:
        yield
    except SsxError:
        raise
    except DAMAGE as error:
        raise ImageReadError(f"{path}: is damaged ({error}); copy or collect it again") from error
