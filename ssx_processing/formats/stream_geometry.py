"""The geometry that a CrystFEL stream was made with, and where its positions are in our image."""

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.crystfel_geometry import read_crystfel_geometry
from ssx_processing.formats.crystfel_stream import CrystfelStream
from ssx_processing.formats.geometry_model import GeometryFile

FRAMES_FOR_VALUES = 50
"""Of so many frames the median stands for what the geometry leaves to the images."""


@dataclass(frozen=True)
class StreamGeometry:
    """Geometry of a stream."""

    given: GeometryFile
    offsets: NDArray[np.float64]
    """(n_panels + 1,) rows of our image above a panel's slab; the last, for no panel, is 0."""

    def in_image(self, ss: NDArray[np.float64], panel: NDArray[np.int32]) -> NDArray[np.float64]:
        """Rows in our image, where slabs are stacked, of rows in the data file."""
        return ss + self.offsets[panel]


def stream_geometry(stream: CrystfelStream, geometry_file: Path | None = None) -> StreamGeometry:
    """Geometry of a stream: that of its header, or a CrystFEL geometry file that stands in for it.

    Photon energy, camera length and so on that are in the images are medians of what the stream copied.

    Raises
    ------
    ImageReadError
        No frame of the stream can be used.
    GeometryError
        There is no geometry, or it cannot be used.
    """
    path = geometry_file or stream.path
    if geometry_file is not None:
        content = geometry_file.read_bytes()
    elif stream.header.geometry:
        content = stream.header.geometry.encode()
    else:
        raise GeometryError(f"{path}: has no geometry in it; give CrystFEL's with --geometry FILE.geom")
    given = read_crystfel_geometry(path, content, None, _values(stream, content.decode(errors="replace")))
    starts = [(slab.slow_start, slab.slow_start + slab.shape[0]) for slab in given.layout]
    offsets = [
        next(float(start) for start, stop in starts if start <= panel.slow_start < stop)
        for panel in given.geometry.panels
    ]
    return StreamGeometry(given, np.array([*offsets, 0.0]))


def _values(stream: CrystfelStream, text: str) -> dict[str, float]:
    """Values of the images, by their place there."""
    frames = [frame for frame in stream.some_frames(FRAMES_FOR_VALUES) if not frame.problem]
    if not frames:
        raise ImageReadError(f"{stream.path}: none of the frames looked at is whole; make the stream again")
    found = {
        name: float(np.median([frame.values[name] for frame in frames if name in frame.values]))
        for name in dict.fromkeys(name for frame in frames for name in frame.values)
    }
    for line in text.splitlines():  # not all versions copy it, but all say the energy itself
        name, _, value = (part.strip() for part in line.partition(";")[0].partition("="))
        if name == "photon_energy" and value.startswith("/"):
            place, *unit = value.split()
            energy = float(gemmi.hc / np.median([frame.wavelength for frame in frames]))
            found.setdefault(place, energy / {"keV": 1e3, "MeV": 1e6}.get("".join(unit), 1.0))
    return found
