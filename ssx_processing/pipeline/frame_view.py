"""What there is to see on one frame: pixels, spots, rings, and why it is a hit or not.

`frame_picture` and `frame_page` draw it. The spots are those that a chunk would find, less the hot
pixels that only the calibration knows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.frames import FrameSet
from ssx_processing.kernels import geometry as geo
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.pipeline.lattice_view import LatticeView, SeenLattice, view_of_lattices
from ssx_processing.settings import SpotSettings


@dataclass(frozen=True)
class RingProfile:
    """The rings of a frame: every array has one element per ring, in the order of |q|."""

    q: NDArray[np.float64]
    """1/Å."""
    mean: NDArray[np.float64]
    """Of the background, counts per pixel."""
    deviation: NDArray[np.float64]
    threshold: NDArray[np.float64]
    """Counts that a strong pixel exceeds."""
    is_sideways: NDArray[np.bool_]
    """Rings at wide angles are halved: true for the half along the laboratory's x."""


@dataclass(frozen=True)
class FrameView:
    """One frame and what was found on it."""

    path: Path
    index: int
    """Of the frame in its file, from 0."""
    frame: int
    """Over all files, from 0."""
    n_frames: int
    """In all files."""
    image: NDArray[Any]
    """(slow, fast) raw pixels."""
    is_bad: NDArray[np.bool_]
    """(slow, fast) array: never used: in the mask, outside the panels, or marked as no count."""
    is_saturated: NDArray[np.bool_]
    """(slow, fast) array: as high as the detector counts, outside the mask."""
    geometry: Geometry
    settings: SpotSettings
    spots: SpotList
    d: NDArray[np.float64]
    """(n,) resolution of the spots, Å."""
    is_hit: bool
    rings: RingProfile
    q_range: tuple[float, float]
    """Smallest and largest |q| of pixels that are used, 1/Å; both 0 without any."""
    lattices: LatticeView | None = None
    """None: not asked for."""

    @property
    def found(self) -> tuple[SeenLattice, ...]:
        """The lattices there are; none where they were not asked for."""
        return self.lattices.lattices if self.lattices is not None else ()

    @property
    def median_background(self) -> float:
        """Median over the rings, counts per pixel; nan without rings."""
        return float(np.median(self.rings.mean)) if len(self.rings.mean) else float("nan")

    @property
    def image_number(self) -> int:
        """The number that people and ISPyB use, from 1."""
        return self.frame + 1

    @property
    def decision(self) -> str:
        """Hit or no hit, and why, in one sentence."""
        s = self.settings
        photons = float(self.spots.intensity.sum()) / s.gain
        comparisons = [_comparison(len(self.spots), s.min_spots_for_hit, "spots", "spots.min_spots_for_hit")]
        if s.min_signal_for_hit > 0:
            comparisons.append(
                _comparison(photons, s.min_signal_for_hit, "photons in them", "spots.min_signal_for_hit")
            )
        return f"{'hit' if self.is_hit else 'no hit'}: {', '.join(comparisons)}"


def _comparison(value: float, least: float, what: str, setting: str) -> str:
    """A value beside what is asked of it."""
    relation = "at least" if value >= least else "fewer than"
    return f"{value:.0f} {what}, {relation} the {least:g} of {setting}"


def look_at_frame(
    frames: FrameSet,
    frame: int,
    settings: SpotSettings,
    processor: FrameProcessor | None = None,
    *,
    lattices: bool = False,
) -> FrameView:
    """Read one frame and find its spots, and with a processor its lattices.

    Parameters
    ----------
    frame
        Over all files, from 0.
    settings
        Of the spots, without a processor.
    processor
        Looks at the frame as a chunk would: with its own geometry, masks and settings.
    lattices
        Index the frame too, if it is a hit; needs the processor.

    Raises
    ------
    ImageReadError
        There is no such frame, or it cannot be read.
    """
    path, index = frames.locate(frame)
    image = frames.read(frame).copy()
    if processor is None:
        geometry, bad_pixels = frames.geometry, frames.bad_pixels
        hits = HitFinder(
            geometry, bad_pixels, settings, saturation=frames.saturation, underload=frames.underload
        )
    else:
        geometry, bad_pixels = processor.geometry, processor.bad_pixels
        hits, settings = processor.hits, processor.settings.spots
    result = processor.process(image) if processor is not None and lattices else None
    spots = hits.find(image) if result is None else result.spots
    # comparisons are false for nan, which is no count either
    is_bad = bad_pixels | ~np.isfinite(hits.q_map) | ~(image >= frames.underload)
    used = hits.q_map[~is_bad]
    return FrameView(
        path=path,
        index=index,
        frame=frame,
        n_frames=frames.n_frames,
        image=image,
        is_bad=is_bad,
        is_saturated=(image >= frames.saturation) & ~is_bad,
        geometry=geometry,
        settings=settings,
        spots=spots,
        d=resolution_of_spots(spots, geometry),
        is_hit=hits.is_hit(spots),
        rings=_ring_profile(hits, geometry),
        q_range=(float(used.min()), float(used.max())) if used.size else (0.0, 0.0),
        lattices=view_of_lattices(result) if result is not None else None,
    )


def resolution_of_spots(spots: SpotList, geometry: Geometry) -> NDArray[np.float64]:
    """(n,) resolution of spots in Å."""
    q = geo.pixel_to_q(
        spots.x_px, spots.y_px, spots.panel,
        geo.panel_rectangles(geometry), geo.panel_axes(geometry), geo.incident_wave_vector(geometry),
        *geo.sensor(geometry),
    )  # fmt: skip
    return 1.0 / np.maximum(np.linalg.norm(q, axis=1), 1e-9)


def _ring_profile(hits: HitFinder, geometry: Geometry) -> RingProfile:
    """Copy of what the finder found of the frame's rings."""
    finder, rings = hits.finder, hits.finder.rings
    order = np.argsort(rings.q, kind="stable")
    first = rings.sample[rings.sample_start[:-1]].astype(np.int64)
    y, x = np.divmod(first, geometry.image_shape[1])
    rectangles = geo.panel_rectangles(geometry)
    panel = np.array(
        [geo.panel_of_pixel(i, j, rectangles) for i, j in zip(x + 0.5, y + 0.5, strict=True)], np.int32
    )
    q = geo.pixel_to_q(
        x + 0.5, y + 0.5, panel, rectangles, geo.panel_axes(geometry), geo.incident_wave_vector(geometry),
        *geo.sensor(geometry),
    )  # fmt: skip
    wide = np.linalg.norm(q, axis=1) * geometry.wavelength > geo.WIDE_ANGLE
    sideways = wide & (np.abs(q[:, 0]) > np.abs(q[:, 1]))
    return RingProfile(
        q=rings.q[order].astype(np.float64),
        mean=finder.mean[order].astype(np.float64),
        deviation=finder.deviation[order].astype(np.float64),
        threshold=finder.threshold[: rings.n_rings][order].astype(np.float64),
        is_sideways=sideways[order],
    )
