"""Which panel a position of the image is on, and which way its ray goes."""

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.models import Geometry


class DetectorPlaces:
    """Panels and scattering vectors of positions on one detector."""

    def __init__(self, geometry: Geometry) -> None:
        """Lay the panels out on the image."""
        self._geometry = geometry
        self._rectangles, self._axes = geo.panel_rectangles(geometry), geo.panel_axes(geometry)
        self._owner = np.full(geometry.image_shape, -1, np.int16)
        for number, (x, y, width, height) in enumerate(self._rectangles):
            self._owner[y : y + height, x : x + width] = number

    def panels_at(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> NDArray[np.int32]:
        """Numbers of the panels at these positions; the nearest where one is just off its panel."""
        rows, columns = self._geometry.image_shape
        i = np.clip(y_px.astype(np.int64), 0, rows - 1)
        found = self._owner[i, np.clip(x_px.astype(np.int64), 0, columns - 1)].astype(np.int32)
        off = np.flatnonzero(found < 0)
        if len(off):
            x0, y0, width, height = self._rectangles.T[:, :, None]
            dx = np.maximum(np.maximum(x0 - x_px[off], x_px[off] - x0 - width), 0)
            dy = np.maximum(np.maximum(y0 - y_px[off], y_px[off] - y0 - height), 0)
            found[off] = np.argmin(dx**2 + dy**2, axis=0)
        return found

    def on_panel(
        self, x_px: NDArray[np.float64], y_px: NDArray[np.float64], panel: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """(n, 2) positions from the first pixel of their panel on."""
        return np.column_stack([x_px, y_px]) - self._rectangles[panel, :2]

    def scattering_vectors(
        self, x_px: NDArray[np.float64], y_px: NDArray[np.float64], panel: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """(n, 3) q of positions, 1/Å."""
        s0, sensor = geo.incident_wave_vector(self._geometry), geo.sensor(self._geometry)
        return geo.pixel_to_q(x_px, y_px, panel, self._rectangles, self._axes, s0, *sensor)
