"""Spots of some frames over a grid of thresholds, and which of them to take.

`scan_thresholds` reads each frame once. What to recommend is in `recommendation`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.frame_view import resolution_of_spots
from ssx_processing.pipeline.hit_finding import HitFinder, is_hit
from ssx_processing.pipeline.resolution_rings import HEXAGONAL_ICE
from ssx_processing.settings import CalibrationSettings, SpotSettings

Progress = Callable[[int, int], None]
SNR_GRID = (3.5, 4.0, 5.0, 6.5)
SIGNIFICANCE_GRID = (4.5, 5.0, 5.5, 6.5, 8.0)
COUNTS_GRID = (1.0, 2.0, 3.0)
"""Photons, tried in place of SNR_GRID where the background is so low that min_snr decides nothing."""
ICE_WIDTH = 0.012
"""Half width of an ice ring, relative to |q|."""
ICE_SHARE, ICE_SPOTS = 0.5, 5
"""A frame with more than this share of so many spots on ice rings looks like ice, not like a crystal."""


@dataclass(frozen=True, order=True)
class Thresholds:
    """What a spot must exceed: one point of the grid."""

    min_snr: float
    min_significance: float
    min_counts: float

    @classmethod
    def of(cls, settings: SpotSettings) -> "Thresholds":
        """Those of some settings."""
        return cls(settings.min_snr, settings.min_significance, settings.min_counts)

    def options(self, other: "Thresholds") -> list[str]:
        """Command-line options for what differs from ``other``.

        Examples
        --------
        >>> Thresholds(4.0, 5.5, 2.0).options(Thresholds(5.0, 5.5, 2.0))
        ['--set spots.min_snr=4']
        """
        return [
            f"--set spots.{name}={value:g}"
            for name, value in vars(self).items()
            if value != getattr(other, name)
        ]


@dataclass(frozen=True)
class ThresholdScan:
    """Spots per frame at every point of the grid."""

    settings: SpotSettings
    """What the scan started from; only the thresholds of the grid were changed."""
    frames: NDArray[np.int64]
    """(n,) numbers of the frames looked at, from 0 over all files."""
    thresholds: tuple[Thresholds, ...]
    """(m,) points of the grid."""
    n_spots: NDArray[np.int64]
    """(m, n)."""
    photons: NDArray[np.float64]
    """(m, n) in the spots of each frame, background subtracted."""
    is_icy: NDArray[np.bool_]
    """(m, n) most of the spots lie where ice has its rings."""
    median_background: NDArray[np.float64]
    """(n,) counts per pixel."""
    n_unreadable: int
    """Frames that were to be looked at and could not be read."""
    n_hot_pixels: int
    """Pixels that stood out alone again and again; spots on them are left out, as the processing does."""

    @property
    def now(self) -> int:
        """Which point of the grid the settings are."""
        return self.thresholds.index(Thresholds.of(self.settings))

    def is_hit(self, point: int, min_spots: int) -> NDArray[np.bool_]:
        """(n,) frames that would be hits with these thresholds and this cut."""
        settings = self.settings.model_copy(update={"min_spots_for_hit": min_spots, "gain": 1.0})
        pairs = zip(self.n_spots[point].tolist(), self.photons[point].tolist(), strict=True)
        return np.array([is_hit(n, photons, settings) for n, photons in pairs], bool)


def scan_thresholds(
    frames: FrameSet, settings: SpotSettings, n_frames: int = 200, progress: Progress | None = None
) -> ThresholdScan:
    """Find the spots of frames spread evenly over the files, at every point of a grid.

    Parameters
    ----------
    progress
        Called with frames done and frames to do.

    Raises
    ------
    ImageReadError
        None of the frames can be read.
    """
    chosen = np.unique(np.linspace(0, frames.n_frames - 1, n_frames).astype(int))
    hits = HitFinder(
        frames.geometry,
        frames.bad_pixels,
        settings,
        saturation=frames.saturation,
        underload=frames.underload,
    )
    grid: tuple[Thresholds, ...] = ()
    found: list[list[SpotList]] = []
    isolated: list[NDArray[np.int32]] = []
    background: list[float] = []
    read: list[int] = []
    error: SsxError | None = None
    for n, frame in enumerate(chosen):
        try:
            image = frames.read(int(frame))
        except (ImageReadError, GeometryError) as caught:
            error = caught
        else:
            first = hits.find(image)
            isolated.append(hits.finder.isolated.copy())
            background.append(hits.median_background)
            if not grid:
                grid = threshold_grid(settings, hits)
            now = Thresholds.of(settings)
            found.append([first if point == now else _find(hits, image, point) for point in grid])
            _set(hits, now)
            read.append(int(frame))
        if progress is not None:
            progress(n + 1, len(chosen))
    if not found:
        raise ImageReadError(f"none of {len(chosen)} frames looked at can be read; the last: {error}")
    fraction = CalibrationSettings().hot_pixel_fraction
    hot = np.zeros(frames.geometry.image_shape, bool)
    hot.flat[hot_pixels(np.concatenate(isolated), len(found), fraction)] = True
    counts = np.array(
        [[_counts(spots, hot, frames.geometry) for spots in of_frame] for of_frame in found], np.float64
    )
    n_spots, photons, n_on_ice = counts.transpose(2, 1, 0)
    return ThresholdScan(
        settings=settings,
        frames=np.array(read, np.int64),
        thresholds=grid,
        n_spots=n_spots.astype(np.int64),
        photons=photons / settings.gain,
        is_icy=(n_on_ice > ICE_SHARE * n_spots) & (n_on_ice >= ICE_SPOTS),
        median_background=np.array(background),
        n_unreadable=len(chosen) - len(read),
        n_hot_pixels=int(hot.sum()),
    )


def threshold_grid(settings: SpotSettings, hits: HitFinder) -> tuple[Thresholds, ...]:
    """Points worth trying after ``hits`` has seen a typical frame, those of the settings among them.

    A ring's threshold is min_snr deviations or min_counts photons above its mean, whichever is more:
    the one that decides on most rings is varied, and min_significance in any case.
    """
    deviation = float(np.median(hits.finder.deviation)) if len(hits.finder.deviation) else 0.0
    counts_decide = settings.min_counts * settings.gain > settings.min_snr * deviation
    snr = sorted({settings.min_snr, *(() if counts_decide else SNR_GRID)})
    counts = sorted({settings.min_counts, *(COUNTS_GRID if counts_decide else ())})
    significance = sorted({settings.min_significance, *SIGNIFICANCE_GRID})
    return tuple(Thresholds(a, b, c) for c in counts for a in snr for b in significance)


def _set(hits: HitFinder, point: Thresholds) -> None:
    """Let a finder use other thresholds; everything else in it depends on the geometry only."""
    for name, value in vars(point).items():
        setattr(hits.finder, name, value)


def _find(hits: HitFinder, image: np.ndarray, point: Thresholds) -> SpotList:
    _set(hits, point)
    return hits.find(image)


def _counts(spots: SpotList, hot: NDArray[np.bool_], geometry: Geometry) -> tuple[int, float, int]:
    """Spots whose middle lies on no hot pixel, sum of their intensities, and how many lie on ice rings."""
    keep = ~hot[spots.y_px.astype(int), spots.x_px.astype(int)]
    d = resolution_of_spots(spots, geometry)[keep]
    on_ice = np.abs(np.array(HEXAGONAL_ICE)[:, None] / d - 1.0).min(axis=0) < ICE_WIDTH
    return int(keep.sum()), float(spots.intensity[keep].sum()), int(on_ice.sum())
