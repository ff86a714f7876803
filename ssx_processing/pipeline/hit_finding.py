"""Spots of a frame, and whether they make it a hit.

The same for a chunk, for the calibration, and for those who look at one frame or tune the settings.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.rings import edge_pixels, ring_table
from ssx_processing.kernels.spot_finding import SpotFinder
from ssx_processing.models import Geometry, SpotList
from ssx_processing.settings import SpotSettings


class HitFinder:
    """Finds the spots of the frames of one experiment, one after the other; one for each thread."""

    def __init__(
        self,
        geometry: Geometry,
        bad_pixels: NDArray[np.bool_],
        settings: SpotSettings,
        *,
        saturation: float = math.inf,
        underload: float = -math.inf,
    ) -> None:
        """Make everything that depends on the geometry and the mask only.

        Parameters
        ----------
        bad_pixels : (slow, fast) array
            True where a pixel is never to be used.
        saturation, underload
            Of ``FrameReader``: a pixel with the first or more is saturated, one below the second no count.
        """
        self.settings = settings
        self.q_map, ring_half = geo.pixel_maps(geometry)
        """(slow, fast) array: |q| in 1/Å, nan outside the panels."""
        rectangles = geo.panel_rectangles(geometry)
        self.finder = SpotFinder(
            ring_table(self.q_map, bad_pixels, ring_half, pixels_per_ring=settings.pixels_per_ring),
            rectangles,
            geometry.image_shape,
            min_snr=settings.min_snr,
            edge_snr=settings.edge_snr,
            min_significance=settings.min_significance,
            min_counts=settings.min_counts,
            min_pixels=settings.min_pixels,
            max_pixels=settings.max_pixels,
            background_radius_px=settings.background_radius_px,
            max_spots=settings.max_spots,
            gain=settings.gain,
            saturation=saturation,
            underload=underload,
            edges=edge_pixels(bad_pixels, rectangles),
        )

    def find(self, image: np.ndarray) -> SpotList:
        """Spots of one frame.

        Parameters
        ----------
        image : (slow, fast) array
            Raw pixels, C order.
        """
        return self.finder.find(image)

    @property
    def median_background(self) -> float:
        """Median over the rings of the last frame, counts per pixel; nan without a ring."""
        return float(np.median(self.finder.mean)) if len(self.finder.mean) else math.nan

    def mask(self, pixels: NDArray[np.integer]) -> None:
        """Never use these pixels again.

        Parameters
        ----------
        pixels : (n, 2) array
            Row and column of each.
        """
        rings = self.finder.rings
        rings.ring[pixels[:, 0] * self.finder.image_shape[1] + pixels[:, 1]] = rings.n_rings

    def is_hit(self, spots: SpotList) -> bool:
        """Whether a frame with these spots is a hit."""
        return is_hit(len(spots), float(spots.intensity.sum()), self.settings)


def is_hit(n_spots: int, total_intensity: float, settings: SpotSettings) -> bool:
    """Whether a frame with so many spots, and so much in them, is a hit.

    Parameters
    ----------
    total_intensity
        Sum over the spots above background, in the units of the pixels; the table of frames has it.
    """
    enough_signal = total_intensity >= settings.min_signal_for_hit * settings.gain
    return n_spots >= settings.min_spots_for_hit and enough_signal
