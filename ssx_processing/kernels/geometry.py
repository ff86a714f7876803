"""Pixel <-> laboratory <-> reciprocal space; |q| = 1/d, q = s1 - s0, no 2 pi.

A pixel position is measured from the outer corner of the image, so pixel i covers [i, i + 1).
"""

import math
from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.models import Geometry


def panel_rectangles(geometry: Geometry) -> NDArray[np.int64]:
    """(p, 4) array: first column, first row, columns, rows of each panel in the image."""
    return np.array([[p.fast_start, p.slow_start, p.n_fast, p.n_slow] for p in geometry.panels], np.int64)


def panel_axes(geometry: Geometry) -> NDArray[np.float64]:
    """(p, 3, 3) array in mm: rows are a panel's origin, its step per column and its step per row."""
    return np.array(
        [
            [
                panel.origin_mm,
                np.array(panel.fast_axis) * panel.pixel_size_mm[0],
                np.array(panel.slow_axis) * panel.pixel_size_mm[1],
            ]
            for panel in geometry.panels
        ],
        np.float64,
    )


def sensor(geometry: Geometry) -> tuple[float, float]:
    """Thickness in mm and absorption per mm of the sensor; zeros where unknown."""
    return float(geometry.sensor_thickness_mm), float(geometry.sensor_absorption_per_mm)


def incident_wave_vector(geometry: Geometry) -> NDArray[np.float64]:
    """(3,) array: s0 in 1/Å."""
    return np.array(geometry.beam_direction, np.float64) / geometry.wavelength


@njit(cache=True, nogil=True, inline="always")
def _mean_depth_mm(cos_incidence: float, thickness_mm: float, absorption_per_mm: float) -> float:
    """Mean path length in the sensor before absorption, of the photons that are absorbed at all."""
    if thickness_mm <= 0.0 or absorption_per_mm <= 0.0:
        return 0.0
    path = thickness_mm / max(cos_incidence, 0.05)
    lost = math.exp(-absorption_per_mm * path)
    return 1.0 / absorption_per_mm - path * lost / (1.0 - lost)


@njit(cache=True, nogil=True, inline="always")
def _normal(axes: NDArray[np.float64]) -> tuple[float, float, float]:
    """Unit normal of one panel."""
    f, s = axes[1], axes[2]
    x = f[1] * s[2] - f[2] * s[1]
    y = f[2] * s[0] - f[0] * s[2]
    z = f[0] * s[1] - f[1] * s[0]
    n = math.sqrt(x * x + y * y + z * z)
    return x / n, y / n, z / n


@njit(cache=True, nogil=True)
def panel_of_pixel(x_px: float, y_px: float, rectangles: NDArray[np.int64]) -> int:
    """Panel that covers an image position; -1 for none."""
    for p in range(rectangles.shape[0]):
        dx, dy = x_px - rectangles[p, 0], y_px - rectangles[p, 1]
        if 0 <= dx < rectangles[p, 2] and 0 <= dy < rectangles[p, 3]:
            return p
    return -1


@njit(cache=True, nogil=True)
def pixel_to_ray(
    x_px: float,
    y_px: float,
    rectangle: NDArray[np.int64],
    axes: NDArray[np.float64],
    thickness_mm: float,
    absorption_per_mm: float,
) -> tuple[float, float, float]:
    """Unit vector from the sample to a position on one panel, parallax removed."""
    i, j = x_px - rectangle[0], y_px - rectangle[1]
    x = axes[0, 0] + i * axes[1, 0] + j * axes[2, 0]
    y = axes[0, 1] + i * axes[1, 1] + j * axes[2, 1]
    z = axes[0, 2] + i * axes[1, 2] + j * axes[2, 2]
    r = math.sqrt(x * x + y * y + z * z)
    if thickness_mm > 0.0 and absorption_per_mm > 0.0:
        nx, ny, nz = _normal(axes)
        cos_incidence = (x * nx + y * ny + z * nz) / r
        depth = _mean_depth_mm(abs(cos_incidence), thickness_mm, absorption_per_mm)
        # the ray entered where its in-plane part had not yet travelled the depth
        x -= depth * (x / r - cos_incidence * nx)
        y -= depth * (y / r - cos_incidence * ny)
        z -= depth * (z / r - cos_incidence * nz)
        r = math.sqrt(x * x + y * y + z * z)
    return x / r, y / r, z / r


@njit(cache=True, nogil=True)
def pixel_to_q(
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    panel: NDArray[np.int32],
    rectangles: NDArray[np.int64],
    axes: NDArray[np.float64],
    s0: NDArray[np.float64],
    thickness_mm: float,
    absorption_per_mm: float,
) -> NDArray[np.float64]:
    """Scattering vectors of detector positions.

    Parameters
    ----------
    x_px, y_px : (n,) array
        Positions along fast and slow, centre of a pixel at +0.5.
    panel : (n,) array
        Panel of each position.
    rectangles, axes
        From `panel_rectangles` and `panel_axes`.
    s0 : (3,) array
        Incident wave vector, 1/Å.

    Returns
    -------
    (n, 3) array
        q = s1 - s0 in 1/Å, laboratory frame.
    """
    q = np.empty((x_px.shape[0], 3))
    k = math.sqrt(s0[0] ** 2 + s0[1] ** 2 + s0[2] ** 2)
    for i in range(x_px.shape[0]):
        p = panel[i]
        ray = pixel_to_ray(x_px[i], y_px[i], rectangles[p], axes[p], thickness_mm, absorption_per_mm)
        for c in range(3):
            q[i, c] = k * ray[c] - s0[c]
    return q


@njit(cache=True, nogil=True)
def ray_to_pixel(
    ray: tuple[float, float, float],
    rectangles: NDArray[np.int64],
    axes: NDArray[np.float64],
    thickness_mm: float,
    absorption_per_mm: float,
) -> tuple[float, float, int]:
    """Where a ray from the sample is detected: fast, slow, panel; panel -1 where it misses all.

    The ray o + i f + j s = t d is solved for i, j by Cramer's rule.
    """
    dx, dy, dz = ray
    for p in range(rectangles.shape[0]):
        o, f, s = axes[p, 0], axes[p, 1], axes[p, 2]
        nx, ny, nz = f[1] * s[2] - f[2] * s[1], f[2] * s[0] - f[0] * s[2], f[0] * s[1] - f[1] * s[0]
        along = dx * nx + dy * ny + dz * nz
        if along == 0.0:
            continue
        t = (o[0] * nx + o[1] * ny + o[2] * nz) / along
        if t <= 0.0:
            continue
        area = math.sqrt(nx * nx + ny * ny + nz * nz)
        depth = _mean_depth_mm(abs(along) / area, thickness_mm, absorption_per_mm)
        x, y, z = (t + depth) * dx - o[0], (t + depth) * dy - o[1], (t + depth) * dz - o[2]
        ff = f[0] * f[0] + f[1] * f[1] + f[2] * f[2]
        ss = s[0] * s[0] + s[1] * s[1] + s[2] * s[2]
        fs = f[0] * s[0] + f[1] * s[1] + f[2] * s[2]
        rf = x * f[0] + y * f[1] + z * f[2]
        rs = x * s[0] + y * s[1] + z * s[2]
        determinant = ff * ss - fs * fs
        i, j = (rf * ss - rs * fs) / determinant, (rs * ff - rf * fs) / determinant
        if 0.0 <= i < rectangles[p, 2] and 0.0 <= j < rectangles[p, 3]:
            return i + rectangles[p, 0], j + rectangles[p, 1], p
    return -1.0, -1.0, -1


ROWS_AT_ONCE = 128
"""Of a large detector, so that double precision for all its pixels is never held."""
WIDE_ANGLE = 2.0 * math.sin(math.radians(7.5))
"""|q| times wavelength at 2 theta = 15 degrees, beyond which polarisation shapes the background."""


def pixel_maps(geometry: Geometry) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """|q| in 1/Å at pixel centres, nan where no panel is, and which half of its ring a pixel belongs to.

    Returns
    -------
    (slow, fast) array
        |q|.
    (slow, fast) array
        1 where a pixel beyond 2 theta = 15 degrees scatters more horizontally (along x) than
        vertically, else 0: the background of a polarised beam differs between the two.
    """
    length = np.full(geometry.image_shape, np.nan, np.float32)
    half = np.zeros(geometry.image_shape, np.uint8)
    rectangles, axes, s0 = panel_rectangles(geometry), panel_axes(geometry), incident_wave_vector(geometry)
    for p, (fast0, slow0, n_fast, n_slow) in enumerate(rectangles):
        for first in range(slow0, slow0 + n_slow, ROWS_AT_ONCE):
            here = np.s_[first : min(first + ROWS_AT_ONCE, slow0 + n_slow), fast0 : fast0 + n_fast]
            y, x = np.mgrid[here] + 0.5
            panel = np.full(x.size, p, np.int32)
            q = pixel_to_q(x.ravel(), y.ravel(), panel, rectangles, axes, s0, *sensor(geometry))
            length[here] = np.linalg.norm(q, axis=1).reshape(x.shape)
            sideways = np.abs(q[:, 0]) > np.abs(q[:, 1])
            half[here] = sideways.reshape(x.shape) & (length[here] * geometry.wavelength > WIDE_ANGLE)
    return length, half


def largest_q(geometry: Geometry) -> float:
    """|q| in 1/Å at the corner of a panel that is farthest from the beam."""
    rectangles = panel_rectangles(geometry)
    corners = [
        (fast0 + i * n_fast, slow0 + j * n_slow, panel)
        for panel, (fast0, slow0, n_fast, n_slow) in enumerate(rectangles)
        for i in (0, 1)
        for j in (0, 1)
    ]
    x, y, panel = np.array(corners, np.float64).T.copy()
    axes, s0 = panel_axes(geometry), incident_wave_vector(geometry)
    q = pixel_to_q(x, y, panel.astype(np.int32), rectangles, axes, s0, *sensor(geometry))
    return float(np.linalg.norm(q, axis=1).max())


def beam_centre_px(geometry: Geometry) -> tuple[float, float]:
    """Where the direct beam hits the first panel's plane, fast then slow, in image pixels.

    Outside the panel where it does not meet it.
    """
    (o, f, s), rectangle = panel_axes(geometry)[0], panel_rectangles(geometry)[0]
    i, j, _ = np.linalg.solve(np.column_stack([f, s, -np.array(geometry.beam_direction)]), -o)
    return float(i + rectangle[0]), float(j + rectangle[1])


def with_beam_centre_moved(geometry: Geometry, by_px: tuple[float, float]) -> Geometry:
    """Geometry whose beam centre lies so many pixels farther along fast and slow of the first panel."""
    panel = geometry.panels[0]
    fast_mm, slow_mm = (n * size for n, size in zip(by_px, panel.pixel_size_mm, strict=True))
    return moved(geometry, -fast_mm * np.array(panel.fast_axis) - slow_mm * np.array(panel.slow_axis))


def moved(geometry: Geometry, by_mm: NDArray[np.float64]) -> Geometry:
    """Geometry with all panels moved by the same (3,) vector in the laboratory."""
    origins = [np.array(panel.origin_mm) + by_mm for panel in geometry.panels]
    panels = tuple(
        replace(panel, origin_mm=(float(x), float(y), float(z)))
        for panel, (x, y, z) in zip(geometry.panels, origins, strict=True)
    )
    return replace(geometry, panels=panels)
