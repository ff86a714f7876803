"""One open image file, of whatever format."""

import os
import stat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.formats.geometry_model import GeometryFile, replaced_panels
from ssx_processing.formats.nxmx_frames import NxmxReader, UnknownLayoutError, is_hdf5
from ssx_processing.formats.plain_hdf5_frames import PlainHdf5Reader, is_plain
from ssx_processing.models import Geometry


class FrameReader(Protocol):
    """One open image file, or master file with all the files it refers to.

    Made with a path, and a ``Geometry`` that stands in for the file's own, or None.
    """

    path: Path
    n_frames: int
    """Frames there are to be once the file is complete."""
    geometry: Geometry
    bad_pixels: NDArray[np.bool_]
    """Shape (slow, fast); true: never to be used."""
    saturation: float
    """A pixel with this value or more is saturated, or marked as no pixel; inf if unknown."""
    underload: float
    """A pixel with a value below this is no count; -inf if unknown."""
    pixel_type: np.dtype
    """uint8, uint16, uint32, int16, int32 or float32."""

    def read(self, index: int) -> NDArray[Any]:
        """Raw pixels, shape (slow, fast), contiguous; overwritten by the next read of this reader."""
        ...

    def frames_available(self) -> int:
        """Frames, from the first on, that can be read now; looks at the files again."""
        ...

    def missing(self) -> str:
        """What the frames that are not available wait for, for people; empty if nothing is missing."""
        ...

    def files(self) -> list[Path]:
        """Every file on which the pixels depend."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_reader(path: Path, geometry_file: Path | None = None) -> FrameReader:
    """Open an image file: NXmx and DECTRIS masters here, everything else with dxtbx.

    An NXmx file whose geometry cannot be used is refused, not left to dxtbx, which may make
    something of it: the geometry would be another than the file's.

    Parameters
    ----------
    geometry_file
        A .geom or .expt file that stands in for the file's own geometry and adds bad pixels. If it
        says where the pixels are, HDF5 files of any layout can be read.

    Raises
    ------
    ImageReadError
        The file is missing, truncated, of no known format, or refers to a missing file.
    GeometryError
        The file is known but says too little about beam or detector.
    """
    if not file_status(path).st_size:
        raise ImageReadError(f"{path}: is empty")
    if geometry_file is None:
        return _opened(path)
    given = read_geometry(geometry_file, path)
    if not given.layout and len(given.geometry.panels) > 1 and is_hdf5(path):
        given = _placed_as_in(path, given)
    reader = _opened_with(path, given)
    here, there = reader.bad_pixels.shape, given.geometry.image_shape
    if here != there:
        reader.close()
        raise GeometryError(
            f"{path}: its images have {here[0]} x {here[1]} pixels, those of {geometry_file} "
            f"{there[0]} x {there[1]}, with panels below each other; is it for another detector?"
        )
    if given.bad_pixels is not None:
        reader.bad_pixels = reader.bad_pixels | given.bad_pixels
    reader.saturation = min(reader.saturation, given.saturation)
    reader.underload = max(reader.underload, given.underload)
    return reader


def _opened(path: Path) -> FrameReader:
    """Reader of a file with its own geometry."""
    if not is_hdf5(path):
        return DxtbxReader(path)
    try:
        return NxmxReader(path)
    except UnknownLayoutError as error:
        try:
            return DxtbxReader(path)
        except ImageReadError as other:
            raise type(error)(f"{error}; {_without_path(other, path)}") from error


def _opened_with(path: Path, given: GeometryFile) -> FrameReader:
    """Reader of a file with the geometry of a geometry file."""
    if not is_hdf5(path):
        return DxtbxReader(path, given.geometry)
    if given.layout and is_plain(path, given.layout):
        return PlainHdf5Reader(path, given)
    try:
        return NxmxReader(path, given.geometry)
    except UnknownLayoutError as error:
        if given.layout:
            return PlainHdf5Reader(path, given)
        try:
            return DxtbxReader(path, given.geometry)
        except ImageReadError as other:
            raise type(error)(f"{error}; {_without_path(other, path)}") from error


def _placed_as_in(path: Path, given: GeometryFile) -> GeometryFile:
    """Put the panels of an experiment list where an NXmx file has them: dxtbx gives modules one by one."""
    try:
        reader = NxmxReader(path)
    except (UnknownLayoutError, GeometryError):
        return given
    reader.close()
    own = reader.geometry.panels
    if [(p.n_fast, p.n_slow) for p in own] != [(p.n_fast, p.n_slow) for p in given.geometry.panels]:
        return given
    return replaced_panels(given, own, reader.geometry.image_shape)


def file_status(path: Path) -> os.stat_result:
    """Size and times of a file.

    Raises
    ------
    ImageReadError
        It is no file, or not there.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ImageReadError(f"{path}: no such file") from error
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageReadError(f"{path}: is a folder; name the image files in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageReadError(f"{path}: is a pipe or a device, expected a file of images")
    return status


def _without_path(error: ImageReadError, path: Path) -> str:
    """Message of ``error`` without the path at its start."""
    return str(error).removeprefix(f"{path.absolute()}: ").removeprefix(f"{path}: ")
