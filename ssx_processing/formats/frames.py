"""Frames of many image files as one data set."""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.file_completeness import NotReadableError, check_complete
from ssx_processing.formats.frame_reader import FrameReader, file_status, open_reader
from ssx_processing.formats.geometry_difference import geometry_difference
from ssx_processing.formats.geometry_file import geometry_identity
from ssx_processing.formats.nxmx_frames import is_hdf5

MAX_OPEN_FILES = 4
"""Readers that a FrameSet keeps open."""
SETTLING_S = 60.0
"""So long after its last change a file of one frame that is not whole is waited for; then it is given up."""
FIRST_FILES = 3
"""So many files of single frames are tried until one can be read, which stands for all."""
PULSE_TOLERANCE = 0.01
"""By so much, relative, wavelengths may differ that a geometry file takes from the images, pulse by pulse."""


class FrameSet:
    """Frames of many files under one number, from 0; files are opened when needed.

    A pixel that is bad in one of the files opened on construction is bad in all; the lowest
    saturation and the highest underload count.

    All HDF5 files are looked at on construction. Of other files only the first is: if it holds one
    frame, others with its suffix are taken to hold one each, which is checked when they are read. A
    file among them that cannot be read costs its frame only.
    """

    def __init__(self, paths: Sequence[Path], geometry_file: Path | None = None) -> None:
        """Number the frames of ``paths`` in the order given.

        Parameters
        ----------
        geometry_file
            Stands in for the geometry of all files, as for ``open_reader``.

        Raises
        ------
        ImageReadError
            No files, or one that cannot be opened.
        GeometryError
            The files do not share one geometry.
        """
        if not paths:
            raise ImageReadError("no image files given")
        self.paths = tuple(Path(path) for path in paths)
        self.geometry_file = geometry_file
        for path in self.paths:
            file_status(path)
        self._readers: OrderedDict[int, FrameReader] = OrderedDict()
        self._files: dict[int, list[Path]] = {}
        self._counts: dict[int, int] = {}
        self._complete: set[int] = set()
        self._missing: str | None = None
        try:
            self._first, first = self._open_first()
            self._readers[self._first] = first
            self._singles = self._counts[0] == 1 and not is_hdf5(self.paths[0])
            self.geometry = first.geometry
            self.saturation, self.underload = first.saturation, first.underload
            self.bad_pixels = first.bad_pixels
            counts = [self._count(number) for number in range(len(self.paths))]
        except BaseException:
            self.close()
            raise
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.n_frames = int(self._starts[-1])

    def locate(self, frame: int) -> tuple[Path, int]:
        """File that holds ``frame``, and the frame's index in that file."""
        number, index = self._locate(frame)
        return self.paths[number], index

    def read(self, frame: int) -> NDArray[Any]:
        """Raw pixels of ``frame``, shape (slow, fast); the next read may overwrite them.

        Raises
        ------
        ImageReadError
            This frame cannot be read; others may be.
        GeometryError
            Its file does not share the geometry of the first.
        """
        number, index = self._locate(frame)
        return self._reader(number).read(index)

    def frames_available(self) -> int:
        """Frames, from the first on, that can be read now; looks again at files that were not complete.

        Those that never will be, in damaged files, count as available: reading them raises.
        """
        self._missing = ""
        for number in range(len(self.paths)):
            available, self._missing = self._look(number)
            if available < self._counts[number]:
                return int(self._starts[number]) + available
        return self.n_frames

    def missing(self) -> str:
        """What the first frame that is not available waits for; empty if nothing is missing.

        As of the last ``frames_available``.
        """
        if self._missing is None:
            self.frames_available()
        return self._missing or ""

    def identity(self) -> dict[str, Any]:
        """What the pixels depend on, for a hash.

        Path, size and time of change (ns) of every file; path and hash of the geometry file.
        """
        files = [file for number, path in enumerate(self.paths) for file in self._files.get(number, [path])]
        described = []
        for file in dict.fromkeys(files):
            status = file.stat()
            described.append(
                {"path": str(file.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
            )
        if self.geometry_file is None:
            return {"files": described}
        return {"files": described, "geometry": asdict(geometry_identity(self.geometry_file))}

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all files."""
        self.close()

    def _locate(self, frame: int) -> tuple[int, int]:
        """Number of the file, index in it."""
        if not 0 <= frame < self.n_frames:
            raise ImageReadError(f"no frame {frame}: the files hold frames 0 to {self.n_frames - 1}")
        number = int(np.searchsorted(self._starts, frame, side="right")) - 1
        return number, frame - int(self._starts[number])

    def _look(self, number: int) -> tuple[int, str]:
        """Frames of a file that can be read now, and what the others wait for."""
        path, n_frames = self.paths[number], self._counts[number]
        if number in self._complete:
            file_status(path)
            return n_frames, ""
        if number not in self._files:  # one frame, not opened yet
            reason = _being_written(path)
            return (0, reason) if reason else (n_frames, "")
        reader = self._reader(number)
        available = reader.frames_available()
        if available < n_frames:
            return available, reader.missing()
        self._complete.add(number)
        self._files[number] = reader.files()  # some may have come since it was opened
        self._take_limits(reader)
        return n_frames, ""

    def _count(self, number: int) -> int:
        """Frames in a file, from the first file where that tells (see the class)."""
        if number not in self._counts:
            if self._singles and self.paths[number].suffix == self.paths[0].suffix:
                self._counts[number] = 1
            else:
                self._take_limits(self._reader(number))
        return self._counts[number]

    def _take_limits(self, reader: FrameReader) -> None:
        """Add what one more file says of pixels and values that do not count."""
        self.bad_pixels = self.bad_pixels | reader.bad_pixels
        self.saturation = min(self.saturation, reader.saturation)
        self.underload = max(self.underload, reader.underload)

    def _open_first(self) -> tuple[int, FrameReader]:
        """Number and reader of the first file; of single frames, if it is damaged, of one of the next."""
        try:
            return 0, self._open(0)
        except ImageReadError:
            if is_hdf5(self.paths[0]):
                raise
            for number in range(1, min(FIRST_FILES, len(self.paths))):
                with suppress(ImageReadError):
                    if self.paths[number].suffix == self.paths[0].suffix:
                        self._counts = {0: 1, number: 1}
                        return number, self._open(number)
            raise

    def _reader(self, number: int) -> FrameReader:
        """Open reader of a file, checked against the first."""
        if number not in self._readers:
            reader = self._open(number)
            self._readers[number] = reader
            self._check_alike(reader, number)
        self._readers.move_to_end(number)
        while len(self._readers) > MAX_OPEN_FILES:
            self._readers.popitem(last=False)[1].close()
        return self._readers[number]

    def _open(self, number: int) -> FrameReader:
        """Open a file and remember what it depends on."""
        reader = open_reader(self.paths[number], self.geometry_file)
        self._files[number] = reader.files()
        expected = self._counts.setdefault(number, reader.n_frames)
        if expected != reader.n_frames:
            reader.close()
            raise ImageReadError(f"{reader.path}: holds {reader.n_frames} frames, expected {expected}")
        return reader

    def _check_alike(self, reader: FrameReader, number: int) -> None:
        """Raise if a file has another geometry than the first."""
        other = reader.geometry
        if self.geometry_file and math.isclose(
            other.wavelength, self.geometry.wavelength, rel_tol=PULSE_TOLERANCE
        ):
            other = replace(other, wavelength=self.geometry.wavelength)
        difference = geometry_difference(self.geometry, other)
        if difference:
            self._readers.pop(number).close()
            raise GeometryError(
                f"{reader.path}: {difference} than in {self.paths[self._first]}; "
                "process files of one geometry together"
            )


def _being_written(path: Path) -> str:
    """Say what a file of one frame lacks, if it changed lately; else empty: it is whole, or will never be."""
    status = file_status(path)
    if time.time() - status.st_mtime > SETTLING_S:
        return ""
    if not status.st_size:
        return f"{path}: is empty; is the detector still writing?"
    try:
        check_complete(path, checksum=False)
    except NotReadableError as error:
        return f"{path}: {error}"
    return ""
