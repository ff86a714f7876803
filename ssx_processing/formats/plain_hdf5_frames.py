"""Frames of HDF5 files that say nothing of themselves: a geometry file names datasets and their axes.

So are the files of LCLS (CXI), SACLA and SwissFEL. Every panel is in a slab, a two-dimensional
part of a dataset; the slabs below each other are the image.
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.decompression import ChunkBuffer
from ssx_processing.formats.geometry_model import FRAME, GeometryFile, Slab
from ssx_processing.formats.hdf5_frames import FrameTable, StoredFrames, dataset_at, frame_table, open_hdf5
from ssx_processing.formats.hdf5_placeholders import FramePlace, frame_places, placeholder_values, substituted

WHOLE_IMAGES = ((FRAME, "ss", "fs"), ("ss", "fs"))
"""Axes of datasets of which a frame is read at once and directly."""


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
            The datasets have other axes or fewer pixels than the geometry file says.
        """
        self.path = path
        self.geometry = given.geometry
        self._given = given
        self._file = open_hdf5(path)
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        """Find frames and type of pixels."""
        layout = self._given.layout
        self._places = frame_places(self._file, layout[0])
        for slab in layout:
            self._check(slab)
        self.n_frames = len(self._places)
        if not self.n_frames:
            raise ImageReadError(f"{self.path}: holds no frames ({layout[0].dataset} has length 0)")
        self._tables: dict[str, FrameTable] = {
            slab.dataset: frame_table([dataset_at(self._file, slab.dataset)])
            for slab in layout
            if FRAME not in slab.dataset and slab.axes == WHOLE_IMAGES[0]
        }
        types = {StoredFrames(self._dataset(slab, self._places[0])).pixel_type for slab in layout}
        self.pixel_type = np.result_type(*types)
        self.bad_pixels: NDArray[np.bool_] = np.zeros(self.geometry.image_shape, bool)
        self.saturation = float(np.iinfo(self.pixel_type).max) if self.pixel_type.kind in "iu" else np.inf
        self.underload = -np.inf
        self._pixels = np.zeros(self.geometry.image_shape, self.pixel_type)
        self._buffer = ChunkBuffer()

    def _check(self, slab: Slab) -> None:
        """Raise unless the first frame has this slab, as the geometry file says."""
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

    def _dataset(self, slab: Slab, place: FramePlace) -> h5py.Dataset:
        """Dataset that holds a slab of one frame."""
        return dataset_at(self._file, substituted(slab.dataset, place.values))

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
        done: dict[str, NDArray[np.generic]] = {}
        for slab in self._given.layout:
            rows = slice(slab.slow_start, slab.slow_start + slab.shape[0])
            into = self._pixels[rows, : slab.shape[1]]
            try:
                if slab.axes in WHOLE_IMAGES:
                    self._read_whole(slab, place, into)
                else:
                    self._read_part(slab, place, into, done)
            except (OSError, RuntimeError, ValueError) as error:
                raise ImageReadError(f"{self.path}: frame {index} cannot be read; {error}") from error
        return self._pixels

    def _read_whole(self, slab: Slab, place: FramePlace, into: NDArray[np.generic]) -> None:
        """Fill ``into`` from a dataset of whole images."""
        table = self._tables.get(slab.dataset)
        if table is None:
            stored, index = StoredFrames(self._dataset(slab, place)), place.index or 0
        else:
            source = table.source[place.index]
            if source < 0:
                raise ImageReadError(f"no file holds frame {place.index} of {slab.dataset}")
            stored, index = table.stored[source], int(table.index[place.index])
        direct = into.flags.c_contiguous and into.dtype == stored.pixel_type
        pixels = into if direct else np.empty(slab.shape, stored.pixel_type)
        stored.read(index, pixels, self._buffer)
        if not direct:
            into[:] = pixels

    def _read_part(
        self, slab: Slab, place: FramePlace, into: NDArray[np.generic], done: dict[str, NDArray[np.generic]]
    ) -> None:
        """Fill ``into`` from a dataset with more axes; ``done`` has what was read of this frame."""
        if slab.dataset not in done:
            of_frame = tuple(place.index if axis == FRAME else slice(None) for axis in slab.axes)
            done[slab.dataset] = self._dataset(slab, place)[of_frame]
        part = tuple(axis if isinstance(axis, int) else slice(None) for axis in slab.axes if axis != FRAME)
        into[:] = done[slab.dataset][part]

    def frames_available(self) -> int:
        """Frames, from the first on, that can be read now."""
        held = [np.append(table.source < 0, True).argmax() for table in self._tables.values()]
        return int(min(held, default=self.n_frames))

    def missing(self) -> str:
        """What the frames that are not available wait for; empty if nothing is missing."""
        n = self.frames_available()
        return "" if n == self.n_frames else f"{self.path}: no file holds frame {n}, which is announced"

    def files(self) -> list[Path]:
        """Every file on which the pixels depend, the one that was named first."""
        others = {file for table in self._tables.values() for file in table.files}
        others |= {stored.file for table in self._tables.values() for stored in table.stored}
        return [self.path, *sorted(others - {self.path})]

    def close(self) -> None:
        """Close the file and what it refers to."""
        for table in self._tables.values():
            for stored in table.stored:
                stored.close()
        self._file.close()
