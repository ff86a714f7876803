"""Which reflections are in diffracting condition on a still, and where they fall on the detector.

A reciprocal lattice point h is predicted while its excitation error e = |s0 + A h| - |s0| is
within so many standard deviations of the rocking width; where its ray leaves to, `ray_shift` says.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.geometry import ray_to_pixel
from ssx_processing.kernels.lattice_score import inverse

COLUMNS = ("h", "k", "l", "x_px", "y_px", "panel", "excitation_error", "excitation_sigma", "polarisation")


@njit(cache=True, nogil=True, inline="always")
def rocking_sigma(q_length: float, rocking: tuple[float, float, float, float]) -> float:
    """Standard deviation of excitation errors at |q|, 1/Å.

    Its parts are constant (size of the reciprocal lattice node), proportional to |q| (mosaic spread
    and divergence together, radians) and to |q|² (bandwidth times half the wavelength, Å). A fourth
    number, the divergence alone, matters for the ray only.
    """
    qq = q_length * q_length
    return math.sqrt(rocking[0] ** 2 + (rocking[1] ** 2 + rocking[2] ** 2 * qq) * qq)


@njit(cache=True, nogil=True, inline="always")
def ray_shift(
    px: float, py: float, pz: float, s0: NDArray[np.float64], rocking: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Excitation error e of the lattice point p, and the vector t: its ray leaves along s0 + p - e t.

    A point off the sphere diffracts because its node is broad (the ray leaves along s0 + p), because
    a mosaic block is turned (p turned about the normal of the plane of s0 and p), because the ray of
    the beam is turned, or because its wavelength differs. Each is expected to make up its share of
    the variance, so t is the mean of four vectors that bring the point onto the sphere:

    * node: n, the direction of s0 + p;
    * block: m / (m.n), m at right angles to p in the plane of p and s0 (as DIALS does for stills,
      where it is the only one);
    * beam: r / (r.n), r at right angles to s0 in that plane; moves the spot the other way;
    * wavelength: -u / (1 - n.u), u the direction of s0.
    """
    x, y, z = s0[0] + px, s0[1] + py, s0[2] + pz
    length = math.sqrt(x * x + y * y + z * z)
    k = math.sqrt(s0[0] ** 2 + s0[1] ** 2 + s0[2] ** 2)
    error = length - k
    nx, ny, nz = x / length, y / length, z / length
    ux, uy, uz = s0[0] / k, s0[1] / k, s0[2] / k
    qq = max(px * px + py * py + pz * pz, 1e-12)
    node, turn, band = rocking[0] ** 2, rocking[1] ** 2 * qq, rocking[2] ** 2 * qq * qq
    beam = min(rocking[3] ** 2 * qq, turn)
    total = max(node + turn + band, 1e-30)
    up = ux * px + uy * py + uz * pz
    mx, my, mz = ux - up / qq * px, uy - up / qq * py, uz - up / qq * pz
    rx, ry, rz = px - up * ux, py - up * uy, pz - up * uz
    node, band = node / total, band / (total * max(1.0 - nx * ux - ny * uy - nz * uz, 1e-9))
    turn = (turn - beam) / (total * max(mx * nx + my * ny + mz * nz, 1e-6))
    beam = beam / (total * max(rx * nx + ry * ny + rz * nz, 1e-9))
    return (
        error,
        node * nx + turn * mx + beam * rx - band * ux,
        node * ny + turn * my + beam * ry - band * uy,
        node * nz + turn * mz + beam * rz - band * uz,
    )


@njit(cache=True, nogil=True)
def excitation_and_position(
    hkl: NDArray[np.float64],
    a_matrix: NDArray[np.float64],
    s0: NDArray[np.float64],
    rectangles: NDArray[np.int64],
    axes: NDArray[np.float64],
    sensor: tuple[float, float],
    rocking: tuple[float, float, float, float],
    out: NDArray[np.float64],
) -> None:
    """Write x_px, y_px, panel and excitation error of given reflections into the (n, 4) ``out``."""
    for i in range(hkl.shape[0]):
        px, py, pz = 0.0, 0.0, 0.0
        for c in range(3):
            px += a_matrix[0, c] * hkl[i, c]
            py += a_matrix[1, c] * hkl[i, c]
            pz += a_matrix[2, c] * hkl[i, c]
        error, tx, ty, tz = ray_shift(px, py, pz, s0, rocking)
        x, y, z = s0[0] + px - error * tx, s0[1] + py - error * ty, s0[2] + pz - error * tz
        length = math.sqrt(x * x + y * y + z * z)
        ray = (x / length, y / length, z / length)
        out[i, 0], out[i, 1], out[i, 2] = ray_to_pixel(ray, rectangles, axes, sensor[0], sensor[1])
        out[i, 3] = error


@njit(cache=True, nogil=True)
def predict_reflections(
    a_matrix: NDArray[np.float64],
    s0: NDArray[np.float64],
    q_max: float,
    rocking: tuple[float, float, float, float],
    max_sigma: float,
    centring: NDArray[np.int64],
    polarisation_fraction: float,
    rectangles: NDArray[np.int64],
    axes: NDArray[np.float64],
    sensor: tuple[float, float],
) -> NDArray[np.float64]:
    """Reflections in diffracting condition that fall on a panel.

    Each rod of reciprocal lattice points along the densest direction is cut with the Ewald shell,
    so the work goes with the number of rods, never with that of lattice points.

    Parameters
    ----------
    a_matrix : (3, 3) array
        Conventional A, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    q_max
        Largest |q| wanted, 1/Å.
    rocking
        See `rocking_sigma`.
    max_sigma
        Largest excitation error, in its standard deviations.
    centring : (c, 3) array
        Centring translations in 24ths: h.t is a multiple of 24 for points that exist.
    polarisation_fraction
        Part of the beam polarised along x.

    Returns
    -------
    (n, 9) array
        Columns as in `COLUMNS`; polarisation is the factor by which intensities are weakened.
    """
    k = math.sqrt(s0[0] ** 2 + s0[1] ** 2 + s0[2] ** 2)
    rod = 0
    for c in range(1, 3):  # densest direction: the shortest reciprocal vector
        if np.sum(a_matrix[:, c] ** 2) < np.sum(a_matrix[:, rod] ** 2):
            rod = c
    first, second = (rod + 1) % 3, (rod + 2) % 3
    vectors = np.empty((3, 3))
    inverse(a_matrix, vectors)  # rows a, b, c: |index| <= length * q_max
    n_first = int(math.sqrt(np.sum(vectors[first] ** 2)) * q_max)
    n_second = int(math.sqrt(np.sum(vectors[second] ** 2)) * q_max)
    widest = max_sigma * rocking_sigma(q_max, rocking)
    u = a_matrix[:, rod]
    uu = u[0] ** 2 + u[1] ** 2 + u[2] ** 2
    out = np.empty((1024, 9))
    n = 0
    hkl = np.empty(3)
    for i in range(-n_first, n_first + 1):
        for j in range(-n_second, n_second + 1):
            px = a_matrix[0, first] * i + a_matrix[0, second] * j
            py = a_matrix[1, first] * i + a_matrix[1, second] * j
            pz = a_matrix[2, first] * i + a_matrix[2, second] * j
            sx, sy, sz = px + s0[0], py + s0[1], pz + s0[2]
            half_b = (sx * u[0] + sy * u[1] + sz * u[2]) / uu
            ss = sx * sx + sy * sy + sz * sz
            outer = half_b * half_b - (ss - (k + widest) ** 2) / uu
            if outer < 0.0:
                continue
            inner = half_b * half_b - (ss - (k - widest) ** 2) / uu
            r_outer = math.sqrt(outer)
            r_inner = math.sqrt(inner) if inner > 0.0 else 0.0
            for side in range(2):
                low = -half_b - r_outer if side == 0 else -half_b + r_inner
                high = -half_b - r_inner if side == 0 else -half_b + r_outer
                start = math.ceil(low)
                if side == 1 and start <= math.floor(-half_b - r_inner):
                    start = math.floor(-half_b - r_inner) + 1  # where the two segments touch
                for m in range(start, math.floor(high) + 1):
                    hkl[first], hkl[second], hkl[rod] = i, j, m
                    if n == out.shape[0]:
                        larger = np.empty((2 * n, 9))
                        larger[:n] = out
                        out = larger
                    if _predict_one(
                        hkl, a_matrix, s0, q_max, rocking, max_sigma, centring, polarisation_fraction,
                        rectangles, axes, sensor, out[n],
                    ):  # fmt: skip
                        n += 1
    return out[:n].copy()


@njit(cache=True, nogil=True)
def _predict_one(
    hkl: NDArray[np.float64],
    a: NDArray[np.float64],
    s0: NDArray[np.float64],
    q_max: float,
    rocking: tuple[float, float, float, float],
    max_sigma: float,
    centring: NDArray[np.int64],
    polarisation_fraction: float,
    rectangles: NDArray[np.int64],
    axes: NDArray[np.float64],
    sensor: tuple[float, float],
    row: NDArray[np.float64],
) -> bool:
    """Fill one row; False if the point does not exist, does not diffract or misses the detector."""
    for c in range(centring.shape[0]):
        if (centring[c, 0] * hkl[0] + centring[c, 1] * hkl[1] + centring[c, 2] * hkl[2]) % 24 != 0:
            return False
    px = a[0, 0] * hkl[0] + a[0, 1] * hkl[1] + a[0, 2] * hkl[2]
    py = a[1, 0] * hkl[0] + a[1, 1] * hkl[1] + a[1, 2] * hkl[2]
    pz = a[2, 0] * hkl[0] + a[2, 1] * hkl[1] + a[2, 2] * hkl[2]
    q = math.sqrt(px * px + py * py + pz * pz)
    if q > q_max or q == 0.0:
        return False
    sigma = rocking_sigma(q, rocking)
    error, tx, ty, tz = ray_shift(px, py, pz, s0, rocking)
    if abs(error) > max_sigma * sigma:
        return False
    x, y, z = px + s0[0] - error * tx, py + s0[1] - error * ty, pz + s0[2] - error * tz
    length = math.sqrt(x * x + y * y + z * z)
    ray = (x / length, y / length, z / length)
    x_px, y_px, panel = ray_to_pixel(ray, rectangles, axes, sensor[0], sensor[1])
    if panel < 0:
        return False
    row[0], row[1], row[2], row[3], row[4], row[5] = hkl[0], hkl[1], hkl[2], x_px, y_px, panel
    row[6], row[7] = error, sigma
    row[8] = polarisation_fraction * (1.0 - ray[0] ** 2) + (1.0 - polarisation_fraction) * (1.0 - ray[1] ** 2)
    return True
