"""Frames of HDF5 files that say nothing of themselves: a geometry file names datasets and their axes.

So are the files of LCLS (CXI), SACLA and SwissFEL. Every panel is in a slab, a two-dimensional
part of a dataset; the slabs below each other are the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.decompression import ChunkBuffer
from ssx_processing.formats.geometry_model import FRAME, GeometryFile, Slab
from ssx_processing.formats.hdf5_files import dataset_at, open_hdf5
from ssx_processing.formats.hdf5_frames import FrameTable, frame_table
from ssx_processing.formats.hdf5_placeholders import FramePlace, frame_places, placeholder_values, substituted
from ssx_processing.formats.nxmx_entry import UnknownLayoutError, entry_frames, find_entry
from ssx_processing.formats.stored_frames import StoredFrames, pixel_type


@dataclass(frozen=True)
class _Band:
    """Slabs of one dataset, which follow each other in the image."""

    slabs: tuple[Slab, ...]
    whole: bool
    """Together they are all that the dataset has of a frame, in its order."""

    @property
    def dataset(self) -> str:
        """Path of the dataset, with placeholders."""
        return self.slabs[0].dataset

    @property
    def rows(self) -> slice:
        """Rows of the image."""
        last = self.slabs[-1]
        return slice(self.slabs[0].slow_start, last.slow_start + last.shape[0])


class PlainHdf5Reader:
    """Frames of one file; the attributes are those of ``FrameReader``."""

    def __init__(self, path: Path, given: GeometryFile) -> None:
        """Open the file and find its frames.

        Parameters
        ----------
        given
            Geometry file, read for this file, whose layout says where the pixels are.

        Raises
        ------
        ImageReadError
            The file has no such datasets, or they hold no frames.
        GeometryError
            The datasets have other axes or another size than the geometry file says.
        """
        self.path = path
        self.geometry = given.geometry
        self._given = given
        self._tables: dict[str, FrameTable] = {}
        self._file = open_hdf5(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Find frames and type of pixels."""
        layout = self._given.layout
        self._places = frame_places(self._file, layout[0])
        datasets = [self._check(slab) for slab in layout]
        self.n_frames = len(self._places)
        if not self.n_frames:
            raise ImageReadError(f"{self.path}: holds no frames ({layout[0].dataset} has length 0)")
        self._bands = _bands(layout, {slab.dataset: d for slab, d in zip(layout, datasets, strict=True)})
        self._open_tables()
        self.pixel_type = np.result_type(*{pixel_type(dataset) for dataset in datasets})
        self.bad_pixels: NDArray[np.bool_] = np.zeros(self.geometry.image_shape, bool)
        self.saturation = float(np.iinfo(self.pixel_type).max) if self.pixel_type.kind in "iu" else np.inf
        self.underload = -np.inf
        self._pixels = np.zeros(self.geometry.image_shape, self.pixel_type)
        self._buffer = ChunkBuffer()
        self._available: int | None = None

    def _open_tables(self) -> None:
        """Find what stores the frames of datasets that hold many."""
        for band in self._bands:
            if band.whole and FRAME not in band.dataset:
                self._tables[band.dataset] = frame_table([dataset_at(self._file, band.dataset)])

    def _check(self, slab: Slab) -> h5py.Dataset:
        """Return the dataset of a slab for the first frame, which must be as the geometry file says."""
        expected = f"{slab.dataset} with axes {', '.join(map(str, slab.axes))}, as {self._given.path} says"
        if not self._places and not placeholder_values(self._file, slab.dataset):
            raise ImageReadError(f"{self.path}: has no dataset {expected}")
        values = self._places[0].values if self._places else ()
        dataset = dataset_at(self._file, substituted(slab.dataset, values))
        shape = dict(zip(slab.axes, dataset.shape, strict=False))
        beyond = [axis for axis in slab.axes if isinstance(axis, int) and axis >= shape.get(axis, 0)]
        if dataset.ndim != len(slab.axes) or beyond:
            raise GeometryError(f"{self.path}: {dataset.name} has shape {dataset.shape}, expected {expected}")
        if (shape["ss"], shape["fs"]) != slab.shape:
            raise GeometryError(
                f"{self.path}: {dataset.name} has images of {shape['ss']} x {shape['fs']} pixels, "
                f"expected {slab.shape[0]} x {slab.shape[1]} as in {self._given.path}"
            )
        return dataset

    def read(self, index: int) -> NDArray[np.generic]:
        """Raw pixels of one frame, shape (slow, fast); the next read overwrites them.

        Raises
        ------
        ImageReadError
            There is no such frame, or it is truncated, damaged or was never written.
        """
        if not 0 <= index < self.n_frames:
            raise ImageReadError(f"{self.path}: no frame {index}, expected 0 to {self.n_frames - 1}")
        place = self._places[index]
        for band in self._bands:
            try:
                if band.whole:
                    self._read_whole(band, place)
                else:
                    self._read_parts(band, place)
            except (OSError, RuntimeError, ValueError) as error:
                raise ImageReadError(f"{self.path}: frame {index} cannot be read; {error}") from error
        return self._pixels

    def _read_whole(self, band: _Band, place: FramePlace) -> None:
        """Fill a band's rows from a dataset of which all is wanted."""
        table = self._tables.get(band.dataset)
        if table is None:
            source = StoredFrames(dataset_at(self._file, substituted(band.dataset, place.values)))
            kind = source.pixel_type
        else:
            source = table
            kind = table.stored[0].pixel_type if table.stored else self.pixel_type
        into = self._pixels[band.rows, : band.slabs[0].shape[1]]
        direct = into.flags.c_contiguous and into.dtype == kind
        pixels = into if direct else np.empty(into.shape, self._fitting(kind))
        source.read(place.index or 0, pixels, self._buffer)
        if not direct:
            into[:] = pixels

    def _read_parts(self, band: _Band, place: FramePlace) -> None:
        """Fill a band's rows from parts of what a dataset has of the frame."""
        dataset = dataset_at(self._file, substituted(band.dataset, place.values))
        chosen = tuple(place.index if axis == FRAME else slice(None) for axis in band.slabs[0].axes)
        frame = dataset.astype(self._fitting(pixel_type(dataset)))[chosen]
        for slab in band.slabs:
            part = tuple(
                axis if isinstance(axis, int) else slice(None) for axis in slab.axes if axis != FRAME
            )
            rows = slice(slab.slow_start, slab.slow_start + slab.shape[0])
            self._pixels[rows, : slab.shape[1]] = frame[part]

    def _fitting(self, kind: np.dtype) -> np.dtype:
        """Return the type of a frame's pixels, if those of the first frame can hold them."""
        if not np.can_cast(kind, self.pixel_type):
            raise ValueError(f"holds {kind}, the first frame {self.pixel_type}")
        return kind

    def frames_available(self) -> int:
        """Frames, from the first on, that can be read now; looks again at files that lacked some."""
        self._available = self._readable()
        if self._available < self.n_frames:
            self.close()
            self._file = open_hdf5(self.path)
            self._open_tables()
            self._available = self._readable()
        return self._available

    def _readable(self) -> int:
        """Frames, from the first on, that can be read as the files were when they were opened."""
        there = [np.append(table.readable(), False)[: self.n_frames + 1] for table in self._tables.values()]
        return min((int(readable.argmin()) for readable in there), default=self.n_frames)

    def missing(self) -> str:
        """What the frames that are not available wait for; empty if nothing is missing."""
        n = self.frames_available() if self._available is None else self._available
        if n == self.n_frames:
            return ""
        whys = [
            t.why_missing(n) if n < len(t) else f"{name} has only {len(t)} frames"
            for name, t in self._tables.items()
            if n >= len(t) or not t.readable()[n]
        ]
        why = whys[0] if whys else "the others are no longer there"
        return f"{self.path}: {n} of {self.n_frames} frames are there; {why}"

    def files(self) -> list[Path]:
        """Every file on which the pixels depend, the one that was named first."""
        others = {file for table in self._tables.values() for file in table.files}
        return [self.path, *sorted(others - {self.path})]

    def close(self) -> None:
        """Close the file and what it refers to."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()
        self._file.close()


def _bands(layout: Sequence[Slab], datasets: dict[str, h5py.Dataset]) -> tuple[_Band, ...]:
    """Slabs of each dataset together; ``datasets`` has those of the first frame."""
    bands: list[_Band] = []
    for name, dataset in datasets.items():
        slabs = tuple(slab for slab in layout if slab.dataset == name)
        bands.append(
            _Band(slabs, is_one_image(slabs) and (dataset.ndim < 4 or dataset.shape[1] == len(slabs)))
        )
    return tuple(bands)


def is_one_image(slabs: Sequence[Slab]) -> bool:
    """Whether slabs are an image of one dataset, or its modules 0, 1, 2... below each other."""
    if len(slabs) == 1:
        return slabs[0].axes in ((FRAME, "ss", "fs"), ("ss", "fs"))
    return all(
        slab.dataset == slabs[0].dataset and slab.axes == (FRAME, number, "ss", "fs")
        for number, slab in enumerate(slabs)
    )


def is_plain(path: Path, layout: Sequence[Slab]) -> bool:
    """Whether a layout names other pixels than those that the NXmx reader would find in the file.

    That one is the better choice where both find the same: it knows masks, and files that grow.
    """
    if not is_one_image(layout) or FRAME in layout[0].dataset:
        return True
    with open_hdf5(path) as file:
        named = file.get(layout[0].dataset)
        if not isinstance(named, h5py.Dataset):
            return False  # not found here, but perhaps by the NXmx reader
        tables: list[FrameTable] = []
        try:
            tables.append(entry_frames(find_entry(file, any_with_data=True)[0]))
            tables.append(frame_table([named]))
        except (UnknownLayoutError, ImageReadError):
            return True
        finally:
            for table in tables:
                table.close()
    found, wanted = ({(stored.file, stored.name) for stored in table.stored} for table in tables)
    return not wanted <= found
