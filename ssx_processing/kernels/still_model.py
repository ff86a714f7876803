"""Where one reflection of a still is expected, how far it is off the Ewald sphere, and how both change.

The ray is that of `prediction.ray_shift`. Positions are those where rays enter a panel's surface,
so that they do not depend on the sensor: see `surface_positions`.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse
from ssx_processing.kernels.prediction import ray_shift


@njit(cache=True, nogil=True)
def panel_inverses(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p, 3, 3) array V: V d = (v0, v1, v2) of a ray d that meets column v1 / v0, row v2 / v0 of a panel.

    Parameters
    ----------
    axes
        From `geometry.panel_axes`.
    """
    out, columns = np.empty(axes.shape), np.empty((3, 3))
    for p in range(axes.shape[0]):
        for i in range(3):
            for j in range(3):
                columns[i, j] = axes[p, j, i]
        inverse(columns, out[p])
    return out


@njit(cache=True, nogil=True)
def surface_positions(
    q: NDArray[np.float64], s0: NDArray[np.float64], panel: NDArray[np.int32], inverses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 2) array: column and row on its panel where the ray of each observed spot enters the sensor.

    ``q`` from `geometry.pixel_to_q` is free of parallax; the correction is that of the observed
    position, which differs from the calculated one by too little to matter.
    """
    out = np.empty((q.shape[0], 2))
    for i in range(q.shape[0]):
        v = inverses[panel[i]]
        x, y, z = q[i, 0] + s0[0], q[i, 1] + s0[1], q[i, 2] + s0[2]
        v0 = v[0, 0] * x + v[0, 1] * y + v[0, 2] * z
        out[i, 0] = (v[1, 0] * x + v[1, 1] * y + v[1, 2] * z) / v0
        out[i, 1] = (v[2, 0] * x + v[2, 1] * y + v[2, 2] * z) / v0
    return out


@njit(cache=True, nogil=True, inline="always")
def model_spot(
    hkl: NDArray[np.float64],
    a: NDArray[np.float64],
    generators: NDArray[np.float64],
    displacement: NDArray[np.float64],
    s0: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    inverse_axes: NDArray[np.float64],
    value: NDArray[np.float64],
    jacobian: NDArray[np.float64],
) -> None:
    """Write column, row, excitation error and |q| of a lattice point, and how the first three change.

    Parameters
    ----------
    a : (3, 3) array
        A matrix, 1/Å.
    generators : (m, 3, 3) array
        How A changes with each strain.
    displacement : (2,) array
        Of the crystal from where the detector's distance is measured, along x and y, mm.
    inverse_axes : (3, 3) array
        Of the spot's panel, from `panel_inverses`.
    value : (4,) array
        Column, row, excitation error, |q|.
    jacobian : (5 + m, 3) array
        Change of the first three with turns about x, y, z of the laboratory (radians), with each
        strain, and with the two displacements (mm).
    """
    px = a[0, 0] * hkl[0] + a[0, 1] * hkl[1] + a[0, 2] * hkl[2]
    py = a[1, 0] * hkl[0] + a[1, 1] * hkl[1] + a[1, 2] * hkl[2]
    pz = a[2, 0] * hkl[0] + a[2, 1] * hkl[1] + a[2, 2] * hkl[2]
    error, tx, ty, tz = ray_shift(px, py, pz, s0, rocking)
    x, y, z = s0[0] + px, s0[1] + py, s0[2] + pz
    length = math.sqrt(x * x + y * y + z * z)
    nx, ny, nz = x / length, y / length, z / length
    x, y, z = x - error * tx, y - error * ty, z - error * tz
    v, n_turns_and_strains = inverse_axes, 3 + generators.shape[0]
    v0 = v[0, 0] * x + v[0, 1] * y + v[0, 2] * z
    column = (v[1, 0] * x + v[1, 1] * y + v[1, 2] * z) / v0
    row = (v[2, 0] * x + v[2, 1] * y + v[2, 2] * z) / v0
    value[0], value[1], value[2] = column, row, error
    value[3] = math.sqrt(px * px + py * py + pz * pz)
    for j in range(2):
        c, r = v[1, j] - v[0, j] * column, v[2, j] - v[0, j] * row
        value[0] += c * displacement[j]
        value[1] += r * displacement[j]
        jacobian[n_turns_and_strains + j, 0], jacobian[n_turns_and_strains + j, 1] = c, r
        jacobian[n_turns_and_strains + j, 2] = 0.0
    for j in range(n_turns_and_strains):
        if j == 0:
            dx, dy, dz = 0.0, -pz, py
        elif j == 1:
            dx, dy, dz = pz, 0.0, -px
        elif j == 2:
            dx, dy, dz = -py, px, 0.0
        else:
            g = generators[j - 3]
            dx = g[0, 0] * hkl[0] + g[0, 1] * hkl[1] + g[0, 2] * hkl[2]
            dy = g[1, 0] * hkl[0] + g[1, 1] * hkl[1] + g[1, 2] * hkl[2]
            dz = g[2, 0] * hkl[0] + g[2, 1] * hkl[1] + g[2, 2] * hkl[2]
        d_error = nx * dx + ny * dy + nz * dz
        dx, dy, dz = dx - d_error * tx, dy - d_error * ty, dz - d_error * tz
        w0 = v[0, 0] * dx + v[0, 1] * dy + v[0, 2] * dz
        jacobian[j, 0] = (v[1, 0] * dx + v[1, 1] * dy + v[1, 2] * dz - column * w0) / v0
        jacobian[j, 1] = (v[2, 0] * dx + v[2, 1] * dy + v[2, 2] * dz - row * w0) / v0
        jacobian[j, 2] = d_error


@njit(cache=True, nogil=True)
def spot_quality(
    snr: NDArray[np.float64], intensity: NDArray[np.float64], q_length: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 2) array: expected errors of each spot's position and excitation, relative to a typical strong one.

    A centroid is worse the weaker the spot. A spot stronger than others at its |q| is near the
    middle of its rocking curve, since the width of the curve and the mean intensity bound it; how
    much nearer was measured on simulated stills, where the width falls with the third root of
    intensity, from 2.3 to 0.55 of the mean one.
    """
    n = snr.shape[0]
    log_i, qq = np.empty(n), np.empty(n)
    for i in range(n):
        log_i[i], qq[i] = math.log(max(intensity[i], 1e-3)), q_length[i] ** 2
    mean_i, mean_q = np.mean(log_i), np.mean(qq)
    spread = np.sum((qq - mean_q) ** 2)
    slope = np.sum((qq - mean_q) * (log_i - mean_i)) / spread if spread > 0.0 and n > 8 else 0.0
    out = np.empty((n, 2))
    for i in range(n):
        relative = log_i[i] - mean_i - slope * (qq[i] - mean_q)
        out[i, 0] = math.sqrt(1.0 + (CENTROID_SNR / max(snr[i], 1.0)) ** 2)
        out[i, 1] = min(max(math.exp(-0.35 * relative), 0.45), 2.5)
    return out


CENTROID_SNR = 11.0
"""Signal-to-noise ratio at which counting adds as much to a centroid's error as all the rest."""
