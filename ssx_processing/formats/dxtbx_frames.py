"""Frames of everything that is not NXmx, through dxtbx in a side process."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.dxtbx_process import shared_process
from ssx_processing.models import Geometry, Panel


class DxtbxReader:
    """Frames of one file; the attributes are those of ``FrameReader``."""

    def __init__(self, path: Path) -> None:
        """Open the file with the format class of dxtbx that knows it.

        Raises
        ------
        ImageReadError
            dxtbx cannot be had, does not know the format, or cannot read the file.
        """
        self.path = path
        description, mask = shared_process().request(_room_for_mask, op="open", path=str(path.absolute()))
        if mask is None:
            raise ImageReadError(f"{path}: holds no frames")
        self.bad_pixels: NDArray[np.bool_] = mask.astype(bool)
        self.n_frames = int(description["n_frames"])
        self.saturation = float(description["saturation"])
        self.underload = -np.inf
        self.pixel_type = np.dtype(description["dtype"])
        self.geometry = _geometry(description["geometry"])
        self._pixels = np.empty(self.geometry.image_shape, self.pixel_type)

    def read(self, index: int) -> NDArray[np.generic]:
        """Raw pixels of one frame, shape (slow, fast); the next read overwrites them.

        Raises
        ------
        ImageReadError
            There is no such frame, or it cannot be read.
        """
        if not 0 <= index < self.n_frames:
            raise ImageReadError(f"{self.path}: no frame {index}, expected 0 to {self.n_frames - 1}")
        shared_process().request(self._room_for_frame, op="read", path=str(self.path.absolute()), index=index)
        return self._pixels

    def _room_for_frame(self, answer: dict[str, Any]) -> NDArray[np.generic]:
        """Array for the frame that was announced, which must be like the first."""
        if tuple(answer["shape"]) != self._pixels.shape or np.dtype(answer["dtype"]) != self.pixel_type:
            raise ImageReadError(
                f"{self.path}: a frame is {answer['shape']} {answer['dtype']}, "
                f"expected {self._pixels.shape} {self.pixel_type}"
            )
        return self._pixels

    def frames_available(self) -> int:
        """All frames: dxtbx opens what is complete."""
        return self.n_frames

    def missing(self) -> str:
        """Nothing is missing."""
        return ""

    def files(self) -> list[Path]:
        """Return the file itself."""
        return [self.path]

    def close(self) -> None:
        """Nothing to do: the side process closes what was not used for long."""


def _room_for_mask(answer: dict[str, Any]) -> NDArray[np.uint8] | None:
    """Array for the mask of a file; None if it has no frames."""
    return np.empty(answer["shape"], np.uint8) if answer["n_frames"] else None


def _geometry(description: dict[str, Any]) -> Geometry:
    """Geometry model from the side process's answer."""
    panels = tuple(_panel(panel) for panel in description["panels"])
    slow, fast = description["image_shape"]
    x, y, z = description["beam_direction"]
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
