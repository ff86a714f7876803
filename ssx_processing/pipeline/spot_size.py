"""How wide spots are across the radius, measured on strong ones, and the radius they are summed in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.spot_mask import MASK_SIGMAS
from ssx_processing.kernels.spot_shape import expected_spread, second_moments
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.population import Rocking

MIN_SNR = 15.0
"""Weaker spots say little about their width."""
MIN_SPOTS = 20
"""With fewer the area of the spots found is taken."""
SMALLEST_PX, LARGEST_PX = 2.0, 8.0
WIDER = 1.12
"""The variance is taken larger by this factor. Spots have flanks that no Gaussian has, and a fitted
profile that is too narrow makes weak intensities too low, by half of what its variance lacks."""


@dataclass(frozen=True)
class SpotShapes:
    """Covariances of strong spots; n rows."""

    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    panel: NDArray[np.int64]
    covariance: NDArray[np.float64]
    """(n, 3) xx, xy, yy, px²."""

    @classmethod
    def joined(cls, parts: list["SpotShapes"]) -> "SpotShapes":
        """All of them, in order."""
        nothing = cls(np.empty(0), np.empty(0), np.empty(0, np.int64), np.empty((0, 3)))
        every = [nothing, *parts]
        return cls(*(np.concatenate([vars(part)[name] for part in every]) for name in vars(nothing)))


def spot_shapes(
    image: np.ndarray, spots: SpotList, bad_pixels: NDArray[np.bool_], saturation: float
) -> SpotShapes:
    """Shapes of the strong spots of a frame that stand alone."""
    chosen = np.flatnonzero((spots.snr > MIN_SNR) & (spots.n_saturated == 0))
    radius = 2.0 + 1.5 * np.sqrt(spots.n_pixels[chosen] / np.pi)
    places = np.column_stack([spots.x_px, spots.y_px])
    if len(chosen) and len(places) > 1:
        nearest = KDTree(places).query(places[chosen], 2)[0][:, 1]
        chosen, radius = chosen[nearest > 2.0 * radius], radius[nearest > 2.0 * radius]
    x, y = spots.x_px[chosen].astype(float), spots.y_px[chosen].astype(float)
    moments = second_moments(image, bad_pixels, x, y, radius, saturation)
    good = np.isfinite(moments[:, 0])
    return SpotShapes(x[good], y[good], spots.panel[chosen][good].astype(np.int64), moments[good])


def spot_radius(
    shapes: SpotShapes,
    hits: list[SpotList],
    geometry: Geometry,
    rocking: Rocking,
    position_error_px: float,
) -> float:
    """Radius of the disc that holds round spots: `MASK_SIGMAS` standard deviations.

    Their width is the median across the radius, where neither bandwidth nor the depth of the sensor
    widen them, less what mosaic spread and divergence do; the error of predicted positions adds to it.
    With too few strong spots the larger ones' area is taken, with a margin for their weak edges; 3
    without any.

    Parameters
    ----------
    position_error_px
        Standard deviation of predicted positions, along each direction.
    """
    if len(shapes.x_px) < MIN_SPOTS:
        n_pixels = np.concatenate([s.n_pixels for s in hits]) if hits else np.empty(0)
        radius = np.sqrt(np.percentile(n_pixels, 90) / np.pi) + 1.0 if len(n_pixels) else 3.0
    else:
        across = _across(shapes, geometry, rocking)
        radius = MASK_SIGMAS * np.sqrt(WIDER * (max(float(np.median(across)), 0.0) + position_error_px**2))
    return float(np.clip(radius, SMALLEST_PX, LARGEST_PX))


def _across(shapes: SpotShapes, geometry: Geometry, rocking: Rocking) -> NDArray[np.float64]:
    """(n,) variance of spots at right angles to the radius, px², without what is expected of the crystals."""
    axes, s0 = geo.panel_axes(geometry), geo.incident_wave_vector(geometry)
    rectangles, panel = geo.panel_rectangles(geometry), shapes.panel.astype(np.int32)
    q = geo.pixel_to_q(shapes.x_px, shapes.y_px, panel, rectangles, axes, s0, *geo.sensor(geometry))
    expected = expected_spread(q, shapes.panel, s0, rocking.parts(), axes, geo.sensor(geometry))
    tangent = np.cross(s0, q)
    fast, slow = axes[shapes.panel, 1], axes[shapes.panel, 2]
    along = np.column_stack([(tangent * fast).sum(1), (tangent * slow).sum(1)])
    along /= np.maximum(np.linalg.norm(along, axis=1), 1e-12)[:, None]
    xx, xy, yy = (shapes.covariance - expected).T
    return xx * along[:, 0] ** 2 + 2.0 * xy * along[:, 0] * along[:, 1] + yy * along[:, 1] ** 2
