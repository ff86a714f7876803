"""Where rings of one resolution cross the detector, whatever its panels and tilt."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.models import Geometry

HEXAGONAL_ICE = (3.90, 3.67, 3.44, 2.67, 2.25, 2.07, 1.95, 1.92, 1.88, 1.72)
"""Å, powder rings of ordinary ice."""
NICE = (
    50.0, 30.0, 20.0, 15.0, 10.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.7, 2.5, 2.2, 2.0, 1.8, 1.6, 1.5, 1.4,
    1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5,
)  # fmt: skip
"""Å, resolutions that are easily read."""
N_AZIMUTHS = 720
LABEL_AZIMUTH, ICE_LABEL_AZIMUTH = 270, 90
"""Labels stand near this of the azimuths, if it is well inside: those of ice away from the others."""
LABEL_MARGIN = 0.05
"""Of the image's size."""


@dataclass(frozen=True)
class ResolutionRing:
    """Pieces of one ring, in image pixels."""

    d: float
    """Å."""
    pieces: tuple[NDArray[np.float64], ...]
    """Each (n, 2), fast then slow; a ring breaks at the edges of panels."""
    label_at: tuple[float, float]
    """On the ring or near it, at about the same azimuth on all rings."""


def resolutions_in_view(q_range: tuple[float, float], n_rings: int = 6) -> list[float]:
    """Easily read resolutions, about evenly spread over the detector's radius.

    Parameters
    ----------
    q_range
        Smallest and largest |q| on the detector, 1/Å.

    Examples
    --------
    >>> resolutions_in_view((0.01, 0.5))
    [15.0, 6.0, 4.0, 3.0, 2.5, 2.2]
    """
    low, high = q_range
    inside = [d for d in NICE if low < 1 / d < 0.97 * high]
    chosen: list[float] = []
    for k in range(1, n_rings + 1):
        wanted = low + (high - low) * (k - 0.2) / n_rings
        best = min((d for d in inside if d not in chosen), key=lambda d: abs(1 / d - wanted), default=None)
        if best is not None:
            chosen.append(best)
    return sorted(chosen, reverse=True)


def resolution_ring(
    geometry: Geometry, d: float, label_azimuth: int = LABEL_AZIMUTH
) -> ResolutionRing | None:
    """The ring of resolution ``d`` in Å; None where it does not meet the detector.

    Parameters
    ----------
    label_azimuth
        Which of the N_AZIMUTHS the label is to be near.
    """
    sin_theta = geometry.wavelength / (2 * d)
    if sin_theta >= 1:
        return None
    cone = 2 * math.asin(sin_theta)
    beam = np.array(geometry.beam_direction)
    across = np.cross(beam, np.eye(3)[np.argmin(np.abs(beam))])
    across /= np.linalg.norm(across)
    up = np.cross(across, beam)
    angle = np.linspace(0, 2 * np.pi, N_AZIMUTHS, endpoint=False)[:, None]
    rays = math.cos(cone) * beam + math.sin(cone) * (np.cos(angle) * across + np.sin(angle) * up)
    rectangles, axes, sensor = geo.panel_rectangles(geometry), geo.panel_axes(geometry), geo.sensor(geometry)
    places = np.array([geo.ray_to_pixel((x, y, z), rectangles, axes, *sensor) for x, y, z in rays.tolist()])
    panel = places[:, 2].astype(int)
    seen = np.flatnonzero(panel >= 0)
    if seen.size == 0:
        return None
    label_at = _label(places[:, :2], seen, geometry.image_shape, label_azimuth)
    return ResolutionRing(d, _pieces(places[:, :2], panel), label_at)


def _label(
    places: NDArray[np.float64], seen: NDArray[np.int_], shape: tuple[int, int], azimuth: int
) -> tuple[float, float]:
    """Place for a ring's label: at one of the azimuths seen, and inside the image's margin."""
    size = np.array([shape[1], shape[0]])
    inside = np.abs(places[seen] / size - 0.5).max(axis=1) < 0.5 - LABEL_MARGIN
    candidates = seen[inside] if inside.any() else seen
    away = np.abs((candidates - azimuth + N_AZIMUTHS // 2) % N_AZIMUTHS - N_AZIMUTHS // 2)
    nearest = places[candidates[np.argmin(away)]]
    x, y = np.clip(nearest, LABEL_MARGIN * size, (1 - LABEL_MARGIN) * size)
    return float(x), float(y)


def _pieces(places: NDArray[np.float64], panel: NDArray[np.int_]) -> tuple[NDArray[np.float64], ...]:
    """Runs of neighbouring azimuths on one panel; the ring is closed where it is whole."""
    breaks = np.flatnonzero(np.roll(panel, 1) != panel)
    if breaks.size == 0:
        return (np.vstack([places, places[:1]]),)
    places, panel = np.roll(places, -breaks[0], axis=0), np.roll(panel, -breaks[0])
    edges = [*np.flatnonzero(np.diff(panel, prepend=-2)), len(panel)]
    runs = [(a, b) for a, b in itertools.pairwise(edges) if panel[a] >= 0 and b - a > 1]
    return tuple(places[a:b] for a, b in runs)


def direct_beam(geometry: Geometry) -> tuple[float, float] | None:
    """Where the direct beam hits the detector, fast then slow; None where it misses all panels."""
    x, y, z = geometry.beam_direction
    fast, slow, panel = geo.ray_to_pixel(
        (x, y, z), geo.panel_rectangles(geometry), geo.panel_axes(geometry), *geo.sensor(geometry)
    )
    return (fast, slow) if panel >= 0 else None
