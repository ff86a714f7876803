"""Spots of some frames, for those who know nothing of the crystal yet."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.cell_candidates import SpotVectors
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.settings import StageSettings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HitSpots:
    """Spots of the hits among the frames looked at."""

    n_frames: int
    hits: list[SpotVectors]
    s0: NDArray[np.float64]
    """(3,) incident wave vector, 1/Å."""
    sigma_q: float
    """Standard error of a spot across its ray, 1/Å."""


def spots_of_hits(
    frames: FrameSet, settings: StageSettings, progress: Progress | None = None, n_frames: int | None = None
) -> HitSpots:
    """Find the spots of frames spread evenly over the files, hot pixels left out.

    Parameters
    ----------
    n_frames
        Only the first so many; by default all.

    Raises
    ------
    ImageReadError
        None of the frames can be read.
    """
    chosen = np.unique(np.linspace(0, (n_frames or frames.n_frames) - 1, settings.cells.n_frames).astype(int))
    finder = HitFinder(
        frames.geometry,
        frames.bad_pixels,
        settings.spots,
        saturation=frames.saturation,
        underload=frames.underload,
    )
    lists: list[SpotList] = []
    isolated: list[NDArray[np.int32]] = []
    error: SsxError | None = None
    for n, frame in enumerate(chosen):
        try:
            lists.append(finder.find(frames.read(int(frame))))
            isolated.append(finder.finder.isolated.copy())
        except (ImageReadError, GeometryError) as caught:
            error = caught
        if progress is not None:
            progress(n + 1, len(chosen))
    if not lists:
        raise ImageReadError(f"none of {len(chosen)} frames looked at can be read; the last: {error}")
    hot = np.zeros(frames.geometry.image_shape, bool)
    hot.flat[hot_pixels(np.concatenate(isolated), len(lists), settings.calibration.hot_pixel_fraction)] = True
    lists = [_without(spots, hot) for spots in lists]
    hits = [spot_vectors(spots, frames.geometry) for spots in lists if finder.is_hit(spots)]
    s0 = geo.incident_wave_vector(frames.geometry)
    return HitSpots(len(lists), hits, s0, spot_error(frames.geometry, settings.indexing.spot_error_px))


def _without(spots: SpotList, hot: NDArray[np.bool_]) -> SpotList:
    """The spots whose middle lies on no hot pixel."""
    keep = ~hot[spots.y_px.astype(int), spots.x_px.astype(int)]
    return SpotList(**{name: values[keep] for name, values in vars(spots).items()})


def spot_vectors(spots: SpotList, geometry: Geometry) -> SpotVectors:
    """Scattering vectors of a frame's spots."""
    s0 = geo.incident_wave_vector(geometry)
    rectangles, axes = geo.panel_rectangles(geometry), geo.panel_axes(geometry)
    q = geo.pixel_to_q(spots.x_px, spots.y_px, spots.panel, rectangles, axes, s0, *geo.sensor(geometry))
    return SpotVectors(q, spots.snr)


def spot_error(geometry: Geometry, error_px: float) -> float:
    """Error of a spot across its ray, 1/Å, from its error in pixels."""
    panel = geometry.panels[0]
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    distance = abs(float(np.array(panel.origin_mm) @ normal))
    return error_px * panel.pixel_size_mm[0] / distance / geometry.wavelength
