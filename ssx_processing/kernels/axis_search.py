"""Orientations by finding one real-space axis first, then the rotation about it.

The fallback when pairs of spots fail, and the first choice on crowded frames. As TORO does
(Gasparotto et al. 2024, J. Appl. Cryst. 57), but with the shortest axis only, which needs the
fewest directions and gives the broadest peaks, and with low-angle spots only.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse_of_turned, match_score
from ssx_processing.kernels.pair_search import keep_best
from ssx_processing.kernels.refinement import rotate, solve_positive

TILE = 512
"""Directions scored together, so that their scores stay in the first cache."""
CANDIDATES = 60
"""Directions kept after the coarse search, further apart than `SEPARATION`."""
AXES = 16
"""Refined axes about which the cell is turned."""
SEPARATION = math.cos(0.0245)
TRIM = (0.25, 0.20, 0.15)
"""Fractional index up to which a spot takes part in the refinement of an axis, round by round."""


def hemisphere(spacing_rad: float) -> NDArray[np.float32]:
    """(3, m) array of unit vectors, z >= 0, evenly spaced by about ``spacing_rad`` (Fibonacci lattice)."""
    m = max(64, math.ceil(2.0 * math.pi / spacing_rad**2))
    i = np.arange(m)
    z = (i + 0.5) / m
    phi = i * math.pi * (3.0 - math.sqrt(5.0))
    r = np.sqrt(1.0 - z * z)
    return np.stack([r * np.cos(phi), r * np.sin(phi), z]).astype(np.float32)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def direction_scores(
    q: NDArray[np.float32], directions: NDArray[np.float32], length: float
) -> NDArray[np.float32]:
    """(m,) array: sum over spots of max(0, 1 - 16 f²), f the distance of length v.q from a whole number.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    directions : (3, m) array
        Unit vectors v.
    length
        Of the axis, Å.
    """
    m = directions.shape[1]
    scores = np.zeros(m, np.float32)
    for start in range(0, m, TILE):
        stop = min(start + TILE, m)
        dx, dy, dz = directions[0, start:stop], directions[1, start:stop], directions[2, start:stop]
        tile = scores[start:stop]
        for i in range(q.shape[0]):
            x = np.float32(q[i, 0] * length)
            y = np.float32(q[i, 1] * length)
            z = np.float32(q[i, 2] * length)
            for j in range(stop - start):
                f = dx[j] * x + dy[j] * y + dz[j] * z
                f -= np.rint(f)
                tile[j] += max(np.float32(0.0), np.float32(1.0) - np.float32(16.0) * f * f)
    return scores


@njit(cache=True, nogil=True)
def _best(scores: NDArray[np.float32], n_about: int) -> NDArray[np.int64]:
    """Indices of at least ``n_about`` of the largest scores, largest first, without sorting the others."""
    highest = max(np.max(scores), np.float32(1e-6))
    count = np.zeros(256, np.int64)
    for score in scores:
        count[int(score / highest * 255.0)] += 1
    level = 255
    total = count[level]
    while total < n_about and level > 0:
        level -= 1
        total += count[level]
    chosen = np.empty(total, np.int64)
    n = 0
    for i in range(scores.shape[0]):
        if int(scores[i] / highest * 255.0) >= level:
            chosen[n] = i
            n += 1
    return chosen[np.argsort(-scores[chosen])]


@njit(cache=True, nogil=True)
def _separate_peaks(
    scores: NDArray[np.float32], directions: NDArray[np.float32], out: NDArray[np.float64]
) -> int:
    """Write the best directions that are not neighbours of better ones into ``out``; return their number.

    False maxima along the beam, where all low-angle spots lie, take some places, hence many are kept.
    """
    order = _best(scores, 20 * out.shape[0])
    n = 0
    for o in order:
        new = True
        for k in range(n):
            cosine = (
                out[k, 0] * directions[0, o] + out[k, 1] * directions[1, o] + out[k, 2] * directions[2, o]
            )
            if abs(cosine) > SEPARATION:
                new = False
                break
        if new:
            for r in range(3):
                out[n, r] = directions[r, o]
            n += 1
            if n == out.shape[0]:
                break
    return n


@njit(cache=True, nogil=True)
def _refine_axis(q: NDArray[np.float32], axis: NDArray[np.float64], length: float) -> float:
    """Trimmed least squares of one axis in place, its length held; return its score."""
    normal, rhs = np.empty((3, 3)), np.empty(3)
    score = 0.0
    for trim in TRIM:
        normal[:] = 0.0
        rhs[:] = 0.0
        score = 0.0
        for i in range(q.shape[0]):
            f = length * (axis[0] * q[i, 0] + axis[1] * q[i, 1] + axis[2] * q[i, 2])
            n = np.rint(f)
            score += max(0.0, 1.0 - 16.0 * (f - n) ** 2)
            if abs(f - n) < trim:
                for r in range(3):
                    rhs[r] += length * q[i, r] * n
                    for c in range(3):
                        normal[r, c] += length * length * q[i, r] * q[i, c]
        for r in range(3):  # a weak pull to where it is, for directions that no spot determines
            normal[r, r] += 1e-3 * (1.0 + normal[r, r])
            rhs[r] += normal[r, r] * 1e-3 / (1.0 + 1e-3) * axis[r]
        if not solve_positive(normal, rhs):
            return 0.0
        size = math.sqrt(rhs[0] ** 2 + rhs[1] ** 2 + rhs[2] ** 2)
        if size <= 0.0:
            return 0.0
        for r in range(3):
            axis[r] = rhs[r] / size
    return score


@njit(cache=True, nogil=True)
def _rotation_between(u: NDArray[np.float64], v: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write a rotation that takes the unit vector u into v."""
    out[:] = 0.0
    for r in range(3):
        out[r, r] = 1.0
    omega = np.empty(3)
    omega[0] = u[1] * v[2] - u[2] * v[1]
    omega[1] = u[2] * v[0] - u[0] * v[2]
    omega[2] = u[0] * v[1] - u[1] * v[0]
    sine = math.sqrt(omega[0] ** 2 + omega[1] ** 2 + omega[2] ** 2)
    angle = math.atan2(sine, u[0] * v[0] + u[1] * v[1] + u[2] * v[2])
    if sine < 1e-9:
        if angle < 1.0:
            return
        k = 0
        for r in range(3):  # opposite: half a turn about anything across
            if abs(u[r]) < abs(u[k]):
                k = r
        omega[:] = 0.0
        omega[k] = 1.0
        along = omega[0] * u[0] + omega[1] * u[1] + omega[2] * u[2]
        for r in range(3):
            omega[r] -= along * u[r]
        sine = math.sqrt(omega[0] ** 2 + omega[1] ** 2 + omega[2] ** 2)
    for r in range(3):
        omega[r] *= angle / sine
    rotate(out, omega)


@njit(cache=True, nogil=True)
def axis_search(
    q: NDArray[np.float64],
    columns: NDArray[np.float32],
    n_low: int,
    directions: NDArray[np.float32],
    axis: NDArray[np.float64],
    axis_order: int,
    axis_flips: bool,
    to_hkl_crystal: NDArray[np.float64],
    weights: NDArray[np.float32],
    turn_step_rad: float,
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> None:
    """Collect the best orientations found through the crystal's shortest axis.

    Parameters
    ----------
    q : (n, 3) array
        Spots that judge, ascending in length, 1/Å.
    columns : (3, m) array
        The same, from `lattice_score.spot_columns`.
    n_low
        The first so many, of lowest angle, find the axis.
    directions : (3, m) array
        From `hemisphere`.
    axis : (3,) array
        The shortest real-space vector in the crystal's Cartesian frame, Å.
    axis_order, axis_flips
        Of `unit_cell.SearchLattice`.
    to_hkl_crystal : (3, 3) array
        Inverse of B.
    weights
        See `lattice_score.match_score`.
    turn_step_rad
        Step of the rotation about the axis.
    best_score, best_rotation : (k,), (k, 3, 3) array
        The best ``k`` so far, in no order; unused entries have a negative score.
    """
    length = math.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    low = q[:n_low].astype(np.float32)
    peaks = np.empty((CANDIDATES, 3))
    n = _separate_peaks(direction_scores(low, directions, length), directions, peaks)
    axis_score = np.zeros(n)
    for k in range(n):
        axis_score[k] = _refine_axis(low, peaks[k], length)
    unit = axis / length
    signs = 1 if axis_flips else 2
    for k in np.argsort(-axis_score)[:AXES]:
        for sign in range(signs):
            towards = peaks[k] if sign == 0 else -peaks[k]
            _turn_about(
                columns, q.shape[0], unit, towards, axis_order, to_hkl_crystal, weights, turn_step_rad,
                best_score, best_rotation,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _turn_about(
    columns: NDArray[np.float32],
    n: int,
    unit: NDArray[np.float64],
    direction: NDArray[np.float64],
    axis_order: int,
    to_hkl_crystal: NDArray[np.float64],
    weights: NDArray[np.float32],
    step: float,
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> None:
    """Turn the crystal, its axis along ``direction``, and keep the local maxima of the match score."""
    start, turn, to_hkl, one_step = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3)), np.eye(3)
    _rotation_between(unit, direction, start)
    n_steps = max(3, math.ceil(2.0 * math.pi / axis_order / step))
    rotate(one_step, direction * (2.0 * math.pi / axis_order / n_steps))
    scores, worst = np.empty(n_steps), np.min(best_score)
    turn[:] = start
    for s in range(n_steps):
        inverse_of_turned(to_hkl_crystal, turn, to_hkl)
        scores[s] = match_score(columns, n, to_hkl, weights)
        _turn_on(one_step, turn)
    turn[:] = start
    for s in range(n_steps):
        if scores[s] > worst and scores[s] >= scores[s - 1] and scores[s] > scores[(s + 1) % n_steps]:
            worst = keep_best(scores[s], turn, best_score, best_rotation)
        _turn_on(one_step, turn)


@njit(cache=True, nogil=True, inline="always")
def _turn_on(step: NDArray[np.float64], turn: NDArray[np.float64]) -> None:
    """Replace ``turn`` by step turn."""
    for j in range(3):
        x, y, z = turn[0, j], turn[1, j], turn[2, j]
        for i in range(3):
            turn[i, j] = step[i, 0] * x + step[i, 1] * y + step[i, 2] * z
