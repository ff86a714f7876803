"""Shape of spots on the detector: what is expected of them, and what strong ones are like.

The ray of a reflection whose excitation error is e leaves along s0 + p - sum e_i t_i, where the
node, the mosaic block, the direction and the wavelength of the beam each make up a share e_i of e
(`prediction.ray_shift`). Expected are shares in proportion to their variances v_i; about them, given
their sum, they vary with the covariance v_i delta_ij - v_i v_j / sum v, and a little more, as the
sum is not known exactly. That makes spots longer along
the radius, above all by the bandwidth. Across the radius blocks and rays turn without changing e.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

RING_PX = 2.0
EXCITATION_DOUBT = 0.5
"""Variance of the error of a known excitation error, relative to that of excitation errors."""


@njit(cache=True, nogil=True)
def expected_spread(
    q: NDArray[np.float64],
    panel: NDArray[np.int64],
    s0: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    axes: NDArray[np.float64],
    sensor: tuple[float, float],
) -> NDArray[np.float64]:
    """Covariance of spots by bandwidth, mosaic spread, divergence and the depth of the sensor.

    Size of crystal and node, and what the detector spreads, are left to what is measured.

    Parameters
    ----------
    q : (n, 3) array
        Lattice points, 1/Å.
    panel : (n,) array
        Where each falls.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    rocking
        See `prediction.rocking_sigma`.
    axes : (p, 3, 3) array
        Origin, fast and slow of each panel as `geometry.panel_axes` gives them.
    sensor
        Thickness, mm, and absorption, 1/mm.

    Returns
    -------
    (n, 3) array
        xx, xy, yy, px².
    """
    out = np.zeros((q.shape[0], 3))
    k = math.sqrt(s0[0] ** 2 + s0[1] ** 2 + s0[2] ** 2)
    ux, uy, uz = s0[0] / k, s0[1] / k, s0[2] / k
    for i in range(q.shape[0]):
        px, py, pz = q[i]
        x, y, z = s0[0] + px, s0[1] + py, s0[2] + pz
        length = math.sqrt(x * x + y * y + z * z)
        nx, ny, nz = x / length, y / length, z / length
        cosine = nx * ux + ny * uy + nz * uz
        sine = max(math.sqrt(max(1.0 - cosine * cosine, 0.0)), 1e-6)
        # outwards along the radius, at right angles to the ray; and across it
        rx, ry, rz = (cosine * nx - ux) / sine, (cosine * ny - uy) / sine, (cosine * nz - uz) / sine
        tx, ty, tz = ny * rz - nz * ry, nz * rx - nx * rz, nx * ry - ny * rx
        radial, across = _angles(px * px + py * py + pz * pz, cosine, sine, k, rocking)
        _add_to_panel(out[i], axes[panel[i]], nx, ny, nz, rx, ry, rz, radial)
        _add_to_panel(out[i], axes[panel[i]], nx, ny, nz, tx, ty, tz, across)
        _add_depth(out[i], axes[panel[i]], nx, ny, nz, sensor)
    return out


@njit(cache=True, nogil=True)
def _angles(
    qq: float, cosine: float, sine: float, k: float, rocking: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Variance of the ray's direction along the radius and across it, radians².

    With the ray at 2 theta: the node moves it not at all along the radius, a block by -tan theta
    of its excitation error, a ray of the beam by 1 / tan 2 theta, another wavelength by 1 / tan theta.
    """
    node, turn, band = rocking[0] ** 2, rocking[1] ** 2 * qq, rocking[2] ** 2 * qq * qq
    beam = min(rocking[3] ** 2 * qq, turn)
    turn -= beam
    total = max(node + turn + band + beam, 1e-30)
    tangent = sine / (1.0 + cosine)
    by_turn, by_beam, by_band = -tangent, cosine / sine, 1.0 / max(tangent, 1e-6)
    mean = turn * by_turn + beam * by_beam + band * by_band
    square = turn * by_turn**2 + beam * by_beam**2 + band * by_band**2
    radial = max(square - (1.0 - EXCITATION_DOUBT) * mean * mean / total, 0.0)
    return radial / k**2, turn / k**2 + min(rocking[3] ** 2, beam / qq)


@njit(cache=True, nogil=True)
def _add_to_panel(
    row: NDArray[np.float64],
    panel: NDArray[np.float64],
    nx: float,
    ny: float,
    nz: float,
    wx: float,
    wy: float,
    wz: float,
    variance: float,
) -> None:
    """Add the variance of a turn of the ray n towards w, at right angles to it."""
    o, f, s = panel[0], panel[1], panel[2]
    ax, ay, az = f[1] * s[2] - f[2] * s[1], f[2] * s[0] - f[0] * s[2], f[0] * s[1] - f[1] * s[0]
    along = ax * nx + ay * ny + az * nz
    if along == 0.0:
        return
    path = (o[0] * ax + o[1] * ay + o[2] * az) / along
    slant = (wx * ax + wy * ay + wz * az) / along
    dx, dy, dz = path * (wx - slant * nx), path * (wy - slant * ny), path * (wz - slant * nz)
    fast = (dx * f[0] + dy * f[1] + dz * f[2]) / (f[0] ** 2 + f[1] ** 2 + f[2] ** 2)
    slow = (dx * s[0] + dy * s[1] + dz * s[2]) / (s[0] ** 2 + s[1] ** 2 + s[2] ** 2)
    row[0] += variance * fast * fast
    row[1] += variance * fast * slow
    row[2] += variance * slow * slow


@njit(cache=True, nogil=True)
def _add_depth(
    row: NDArray[np.float64],
    panel: NDArray[np.float64],
    nx: float,
    ny: float,
    nz: float,
    sensor: tuple[float, float],
) -> None:
    """Add the variance of the path in the sensor, exponential and cut at its back."""
    thickness, absorption = sensor
    if thickness <= 0.0 or absorption <= 0.0:
        return
    f, s = panel[1], panel[2]
    ax, ay, az = f[1] * s[2] - f[2] * s[1], f[2] * s[0] - f[0] * s[2], f[0] * s[1] - f[1] * s[0]
    through = thickness * math.sqrt(ax * ax + ay * ay + az * az)
    through /= max(abs(ax * nx + ay * ny + az * nz), 1e-9)
    passed = math.exp(-absorption * through)
    if passed > 0.999:
        return
    cut = through * passed / (1.0 - passed)
    mean = 1.0 / absorption - cut
    variance = max(2.0 / absorption**2 - cut * (through + 2.0 / absorption) - mean * mean, 0.0)
    fast = (nx * f[0] + ny * f[1] + nz * f[2]) / (f[0] ** 2 + f[1] ** 2 + f[2] ** 2)
    slow = (nx * s[0] + ny * s[1] + nz * s[2]) / (s[0] ** 2 + s[1] ** 2 + s[2] ** 2)
    row[0] += variance * fast * fast
    row[1] += variance * fast * slow
    row[2] += variance * slow * slow


@njit(cache=True, nogil=True)
def second_moments(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    radius: NDArray[np.float64],
    saturation: float,
) -> NDArray[np.float64]:
    """Covariance of the photons of strong spots about their centroid, the pixel's own width included.

    Parameters
    ----------
    x_px, y_px : (n,) array
        Centroids.
    radius : (n,) array
        Of the disc that holds the spot, px; a ring of `RING_PX` around it gives the background.

    Returns
    -------
    (n, 3) array
        xx, xy, yy, px²; nan where a pixel is bad, saturated or outside, or nothing is above the background.
    """
    out = np.full((x_px.shape[0], 3), np.nan)
    for i in range(x_px.shape[0]):
        reach = radius[i] + RING_PX
        left, right = math.floor(x_px[i] - reach), math.floor(x_px[i] + reach) + 1
        top, bottom = math.floor(y_px[i] - reach), math.floor(y_px[i] + reach) + 1
        if left < 0 or top < 0 or right > image.shape[1] or bottom > image.shape[0]:
            continue
        sums = np.zeros(6)
        rest = np.zeros(6)
        n = n_ring = 0
        ring = 0.0
        good = True
        for yy in range(top, bottom):
            for xx in range(left, right):
                dx, dy = xx + 0.5 - x_px[i], yy + 0.5 - y_px[i]
                r = math.hypot(dx, dy)
                if r > reach:
                    continue
                v = float(image[yy, xx])
                if bad_pixels[yy, xx] or v >= saturation:
                    good = False
                elif r > radius[i]:
                    ring += v
                    n_ring += 1
                else:
                    n += 1
                    terms = np.array([1.0, dx, dy, dx * dx, dx * dy, dy * dy])
                    sums += v * terms
                    rest += terms
        if not good or n_ring == 0:
            continue
        sums -= ring / n_ring * rest
        if sums[0] > 0.0:
            mx, my = sums[1] / sums[0], sums[2] / sums[0]
            out[i, 0] = sums[3] / sums[0] - mx * mx
            out[i, 1] = sums[4] / sums[0] - mx * my
            out[i, 2] = sums[5] / sums[0] - my * my
    return out
