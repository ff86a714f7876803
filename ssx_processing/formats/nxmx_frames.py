"""Frames of NXmx files and DECTRIS FileWriter masters (HDF5)."""

import re
from pathlib import Path

import h5py
import numpy as np
import nxmx
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.decompression import ChunkBuffer
from ssx_processing.formats.hdf5_frames import FrameTable, dataset_at, frame_table, group_at, open_hdf5
from ssx_processing.formats.nxmx_geometry import (
    bad_pixels,
    filewriter_geometry,
    nxmx_geometry,
    pixel_masks,
    saturation,
)
from ssx_processing.models import Geometry

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class UnknownLayoutError(ImageReadError):
    """An HDF5 file that is neither NXmx nor a FileWriter master."""


def is_hdf5(path: Path) -> bool:
    """Whether the file begins like HDF5, after a user block of up to 2048 bytes.

    A truncated file does too, so that its error can say so.
    """
    with path.open("rb") as file:
        start = file.read(2048 + len(HDF5_SIGNATURE))
    return any(start[offset:].startswith(HDF5_SIGNATURE) for offset in (0, 512, 1024, 2048))


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
        try:
            self._open(geometry)
        except BaseException:
            self._file.close()
            raise

    def _open(self, geometry: Geometry | None) -> None:
        """Read everything but pixels."""
        entry, is_nxmx = _entry(self._file, geometry is not None)
        self._table = _frames(entry)
        if not len(self._table):
            raise ImageReadError(f"{self.path}: holds no frames (its image data have length 0)")
        first = self._table.stored[0]
        self.n_frames = len(self._table)
        self.pixel_type = first.pixel_type
        self.geometry = geometry or self._header_geometry(entry, is_nxmx, first.image_shape)
        if self.geometry.image_shape != first.image_shape:
            raise GeometryError(
                f"{self.path}: holds images of shape {first.image_shape} (slow, fast), the geometry given "
                f"is for {self.geometry.image_shape}"
            )
        detector = _detector(entry)
        self.bad_pixels: NDArray[np.bool_] = bad_pixels(detector, self.geometry.panels, first.image_shape)
        self.saturation = saturation(detector, first.pixel_type)
        self.underload = -np.inf
        self._mask_files = {Path(mask.file.filename) for mask in pixel_masks(detector)}
        self._pixels = np.empty(first.image_shape, first.pixel_type)
        self._buffer = ChunkBuffer()

    def _header_geometry(self, entry: h5py.Group, is_nxmx: bool, image_shape: tuple[int, int]) -> Geometry:
        """Geometry that the file itself gives."""
        try:
            if is_nxmx:
                return nxmx_geometry(nxmx.NXentry(entry), image_shape)
            return filewriter_geometry(entry, image_shape)
        except GeometryError as error:
            raise GeometryError(f"{self.path}: {error}") from error

    def read(self, index: int) -> NDArray[np.generic]:
        """Raw pixels of one frame, shape (slow, fast); the next read overwrites them.

        Raises
        ------
        ImageReadError
            There is no such frame, or it is truncated, damaged or was never written.
        """
        if not 0 <= index < self.n_frames:
            raise ImageReadError(f"{self.path}: no frame {index}, expected 0 to {self.n_frames - 1}")
        source = self._table.source[index]
        if source < 0:
            raise ImageReadError(f"{self.path}: frame {index} is announced but no file holds it")
        try:
            self._table.stored[source].read(int(self._table.index[index]), self._pixels, self._buffer)
        except ImageReadError as error:
            raise ImageReadError(f"{self.path}: frame {index} cannot be read; {error}") from error
        return self._pixels

    def frames_available(self) -> int:
        """Frames, from the first on, that a file holds."""
        return int(np.append(self._table.source < 0, True).argmax())

    def missing(self) -> str:
        """What the frames that are not available wait for; empty if nothing is missing."""
        n = self.frames_available()
        return "" if n == self.n_frames else f"{self.path}: no file holds frame {n}, which is announced"

    def files(self) -> list[Path]:
        """Every file on which pixels or mask depend, the master first."""
        others = self._table.files | {stored.file for stored in self._table.stored} | self._mask_files
        return [self.path, *sorted(others - {self.path})]

    def close(self) -> None:
        """Close the master and what it refers to."""
        for stored in self._table.stored:
            stored.close()
        self._file.close()


def _entry(file: h5py.File, any_with_data: bool) -> tuple[h5py.Group, bool]:
    """Entry with the images, and whether it is NXmx (else a FileWriter master).

    With ``any_with_data`` an entry that holds image data will do.
    """
    entries = nxmx.find_class(file, "NXentry")
    for group in entries:
        definition = group.get("definition")
        if isinstance(definition, h5py.Dataset) and nxmx.h5str(nxmx.h5scalar(definition).item()) == "NXmx":
            return group, True
    for group in entries:
        if "instrument/detector/x_pixel_size" in group and "instrument/beam" in group and "data" in group:
            return group, False
    if any_with_data:
        for group in [*entries, file.get("entry")]:
            if isinstance(group, h5py.Group) and isinstance(group.get("data"), h5py.Group):
                return group, False
    raise UnknownLayoutError(f"{file.filename}: HDF5, but neither NXmx nor a DECTRIS FileWriter master")


def _detector(entry: h5py.Group) -> h5py.Group | None:
    """Group of the first detector of the first instrument; None if there is none."""
    for instrument in nxmx.find_class(entry, "NXinstrument"):
        for detector in nxmx.find_class(instrument, "NXdetector"):
            return detector
    return None


def _frames(entry: h5py.Group) -> FrameTable:
    """Where the frames of an entry are: one dataset, or ``data_000001`` and so on."""
    groups = nxmx.find_class(entry, "NXdata")
    group = groups[0] if groups else group_at(entry, "data")
    signal = nxmx.h5str(group.attrs.get("signal")) or "data"
    if group.get(signal, getlink=True) is not None:
        return frame_table([dataset_at(group, signal)])
    names = sorted(name for name in list[str](group) if re.fullmatch(r"data_\d+", name))
    if not names:
        raise ImageReadError(f"{entry.file.filename}: {group.name} has neither {signal} nor data_000001")
    announced = _announced_frames(entry)
    datasets: list[h5py.Dataset] = []
    for name in names:
        if announced and sum(len(dataset) for dataset in datasets) >= announced:
            break  # some masters link to more files than the detector wrote
        datasets.append(dataset_at(group, name))
    return frame_table(datasets)


def _announced_frames(entry: h5py.Group) -> int:
    """Number of frames that the detector was asked for; 0 if the master does not say."""
    counts = []
    for name in ("nimages", "ntrigger"):
        dataset = entry.get(f"instrument/detector/detectorSpecific/{name}")
        if not isinstance(dataset, h5py.Dataset):
            return 0
        counts.append(int(nxmx.h5scalar(dataset)))
    return counts[0] * counts[1]
