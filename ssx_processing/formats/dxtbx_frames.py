"""Frames of everything that is not NXmx, through dxtbx."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.dxtbx_connection import shared_connection
from ssx_processing.models import Geometry, Panel


class DxtbxReader:
    """Frames of one file; the attributes are those of ``FrameReader``."""

    def __init__(self, path: Path, geometry: Geometry | None = None) -> None:
        """Open the file with the format class of dxtbx that knows it.

        Parameters
        ----------
        geometry
            Stands in for that of the file, which may then have none.

        Raises
        ------
        ImageReadError
            dxtbx cannot be had, does not know the format, or cannot read the file.
        GeometryError
            dxtbx finds no usable beam or detector, or images of another shape than the geometry given.
        DxtbxProcessError
            dxtbx cannot be kept running, whatever the file.
        """
        self.path = path
        self._file = {"path": str(path.absolute()), "needs_models": geometry is None}
        self._status = _status(path)
        answer, mask = shared_connection().request(_room_for_mask, op="open", **self._file)
        if mask is None:
            raise ImageReadError(f"{path}: holds no frames")
        self.bad_pixels: NDArray[np.bool_] = mask.view(np.bool_)
        self.n_frames = int(answer["n_frames"])
        self.saturation = float(answer["saturation"])
        self.underload = float(answer["underload"])
        self.pixel_type = np.dtype(answer["dtype"])
        self.geometry = geometry or _geometry(path, answer)
        slow, fast = answer["shape"]
        if self.geometry.image_shape != (slow, fast):
            expected = " x ".join(map(str, self.geometry.image_shape))
            raise GeometryError(f"{path}: its images have {slow} x {fast} pixels, the geometry {expected}")
        self._pixels = np.empty((slow, fast), self.pixel_type)

    def read(self, index: int) -> NDArray[np.generic]:
        """Raw pixels of one frame, shape (slow, fast); the next read overwrites them.

        Raises
        ------
        ImageReadError
            There is no such frame, or it cannot be read.
        DxtbxProcessError
            dxtbx cannot be kept running, whatever the file.
        """
        if not 0 <= index < self.n_frames:
            raise ImageReadError(f"{self.path}: no frame {index}, expected 0 to {self.n_frames - 1}")
        shared_connection().request(self._room_for_frame, op="read", index=index, **self._file)
        return self._pixels

    def frames_available(self) -> int:
        """All frames, or 0 while a file that was written again is not whole."""
        return 0 if self.missing() else self.n_frames

    def missing(self) -> str:
        """Say what is wrong with a file that has changed since it was opened; empty if nothing is."""
        try:
            status = _status(self.path)
            if status == self._status:
                return ""
            answer, _ = shared_connection().request(lambda _: None, op="count", **self._file)
        except ImageReadError as error:
            return str(error)
        if answer["n_frames"] < self.n_frames:
            return f"{self.path}: holds {answer['n_frames']} of {self.n_frames} frames"
        self._status = status
        return ""

    def files(self) -> list[Path]:
        """Return the file itself."""
        return [self.path]

    def close(self) -> None:
        """Nothing to do: the server closes what was not used for long."""

    def _room_for_frame(self, answer: dict[str, Any]) -> NDArray[np.generic]:
        """Array for the frame that was announced, which must be like the first."""
        if tuple(answer["shape"]) != self._pixels.shape or np.dtype(answer["dtype"]) != self.pixel_type:
            raise ImageReadError(
                f"{self.path}: a frame is {tuple(answer['shape'])} {np.dtype(answer['dtype'])}, "
                f"expected {self._pixels.shape} {self.pixel_type}"
            )
        return self._pixels


def _status(path: Path) -> tuple[int, int]:
    """Size and time of change, ns."""
    try:
        status = path.stat()
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _room_for_mask(answer: dict[str, Any]) -> NDArray[np.uint8] | None:
    """Array for the mask of a file; None if it has no frames."""
    return np.empty(answer["shape"], np.uint8) if answer["n_frames"] else None


def _geometry(path: Path, answer: dict[str, Any]) -> Geometry:
    """Geometry model from the answer, if it can be used."""
    description = answer["geometry"]
    if description is None:
        raise GeometryError(f"{path}: {answer['geometry_error']}; give them with --geometry FILE")
    panels = tuple(_panel(panel) for panel in description["panels"])
    slow, fast = description["image_shape"]
    x, y, z = description["beam_direction"]
    if not (math.isfinite(description["wavelength"]) and description["wavelength"] > 0):
        raise GeometryError(
            f"{path}: wavelength {description['wavelength']} Å, expected a positive one; "
            "give the right one with --geometry FILE"
        )
    for panel in panels:
        position = (*panel.origin_mm, *panel.fast_axis, *panel.slow_axis)
        if not (np.isfinite(position).all() and min(panel.pixel_size_mm) > 0):
            raise GeometryError(
                f"{path}: panel {panel.name} has its origin at {panel.origin_mm} mm and pixels of "
                f"{panel.pixel_size_mm} mm; give a geometry with --geometry FILE"
            )
    return Geometry(
        panels=panels,
        image_shape=(slow, fast),
        wavelength=description["wavelength"],
        beam_direction=(x, y, z),
        sensor_thickness_mm=description["sensor_thickness_mm"],
        sensor_absorption_per_mm=description["sensor_absorption_per_mm"],
        polarisation_fraction=description["polarisation_fraction"],
    )


def _panel(description: dict[str, Any]) -> Panel:
    """Panel model; JSON has lists where the model has tuples."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in description.items()}
    return Panel(**cast("dict[str, Any]", values))
