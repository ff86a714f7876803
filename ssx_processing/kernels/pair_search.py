"""Orientations from pairs of spots: lengths and angle of two spots against the known cell.

Any two spots whose lengths and angle agree with two reciprocal lattice points give an orientation,
which all spots then judge. Needs two true spots among those paired, so it succeeds on sparse frames.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse, match_score

MAX_COSINE = 0.985
"""Spots closer in direction define a rotation badly."""
DIRECTION_ERROR = 0.0008
"""1/Å: excitation error, which at low resolution acts on a spot's direction and never on its length."""
ANGLE_TOLERANCE = 0.003
"""Radians, on top of that."""
BLOCK = 32
"""Lattice points compared at once."""
RANDOM_SCORE, RANDOM_SPREAD = 0.062, 0.178
"""Mean and standard deviation of one random spot's match score: a ball of radius 1/3 in the unit cube."""
DECISIVE_SIGMAS, DECISIVE_FRACTION = 12.0, 0.45
"""A score so far beyond chance, and so large a part of the spots, ends the search."""


@njit(cache=True, nogil=True, inline="always")
def _bisector_frame(
    u: NDArray[np.float64], v: NDArray[np.float64], cosine: float, out: NDArray[np.float64]
) -> None:
    """Rows: normalised sum, difference and cross product of two unit vectors; symmetric in their errors."""
    along, across = 1.0 / math.sqrt(2.0 + 2.0 * cosine), 1.0 / math.sqrt(2.0 - 2.0 * cosine)
    for r in range(3):
        out[0, r] = along * (u[r] + v[r])
        out[1, r] = across * (u[r] - v[r])
    out[2, 0] = out[0, 1] * out[1, 2] - out[0, 2] * out[1, 1]
    out[2, 1] = out[0, 2] * out[1, 0] - out[0, 0] * out[1, 2]
    out[2, 2] = out[0, 0] * out[1, 1] - out[0, 1] * out[1, 0]


@njit(cache=True, nogil=True, inline="always")
def _to_hkl_of_pair(
    g: NDArray[np.float32],
    a: int,
    c: int,
    cosine: float,
    to_hkl_crystal: NDArray[np.float64],
    frame_q: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write B^-1 F_g^T F_q: what turns the bisector frame of two lattice directions into that of two spots.

    ``g`` holds their directions in its first three rows and B^-1 times them in the others, so of
    B^-1 F_g^T only the third column is new.
    """
    along, across = 1.0 / math.sqrt(2.0 + 2.0 * cosine), 1.0 / math.sqrt(2.0 - 2.0 * cosine)
    both = -2.0 * along * across
    x = both * (g[1, a] * g[2, c] - g[2, a] * g[1, c])
    y = both * (g[2, a] * g[0, c] - g[0, a] * g[2, c])
    z = both * (g[0, a] * g[1, c] - g[1, a] * g[0, c])
    for i in range(3):
        first, second = along * (g[3 + i, a] + g[3 + i, c]), across * (g[3 + i, a] - g[3 + i, c])
        third = to_hkl_crystal[i, 0] * x + to_hkl_crystal[i, 1] * y + to_hkl_crystal[i, 2] * z
        for j in range(3):
            out[i, j] = first * frame_q[0, j] + second * frame_q[1, j] + third * frame_q[2, j]


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def _matching(
    x: np.float32,
    y: np.float32,
    z: np.float32,
    gx: NDArray[np.float32],
    gy: NDArray[np.float32],
    gz: NDArray[np.float32],
    low: float,
    high: float,
    between: NDArray[np.float32],
    out: NDArray[np.int64],
) -> int:
    """Write which of the directions g have a cosine with (x, y, z) from low to high; return their number.

    ``between`` is working space, a multiple of `BLOCK` long. A block at a time is compared without
    branches, since few match.
    """
    least, most = np.float32(low), np.float32(high)
    m = gx.shape[0]
    for c in range(m):
        between[c] = x * gx[c] + y * gy[c] + z * gz[c]
    for c in range(m, between.shape[0]):
        between[c] = np.float32(2.0)
    n = 0
    for block in range(0, between.shape[0], BLOCK):
        part = between[block : block + BLOCK]
        has_any = False
        for c in range(BLOCK):
            has_any |= (part[c] >= least) & (part[c] <= most)
        if has_any:
            for c in range(BLOCK):
                if part[c] >= least and part[c] <= most:
                    out[n] = block + c
                    n += 1
    return n


@njit(cache=True, nogil=True)
def _cheapest_pairs(
    q: NDArray[np.float64],
    seeds: NDArray[np.int64],
    lengths: NDArray[np.float64],
    first_lengths: NDArray[np.float64],
    sigma_q: float,
    cell_tolerance: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of seeds that fewest pairs of lattice points can match come first.

    Returns
    -------
    (m, 6) array
        Places of two seeds; ranges among the first points and among all points.
    (m,) array
        Cosine of the angle between them.
    (m,) array
        Cosines of lattice points may differ by so much.
    """
    n = seeds.shape[0]
    most = n * (n - 1) // 2
    table, cosines, windows = np.empty((most, 6), np.int64), np.empty(most), np.empty(most)
    cost, norm = np.empty(most), np.empty(n)
    for i in range(n):
        s = q[seeds[i]]
        norm[i] = math.sqrt(s[0] ** 2 + s[1] ** 2 + s[2] ** 2)
    m = 0
    for j in range(1, n):
        w2 = 3.0 * sigma_q + cell_tolerance * norm[j]
        start, stop = np.searchsorted(lengths, norm[j] - w2), np.searchsorted(lengths, norm[j] + w2)
        for i in range(j):
            u, v = q[seeds[i]], q[seeds[j]]
            cosine = (u[0] * v[0] + u[1] * v[1] + u[2] * v[2]) / (norm[i] * norm[j])
            if abs(cosine) > MAX_COSINE:
                continue
            e1, e2 = DIRECTION_ERROR / norm[i], DIRECTION_ERROR / norm[j]
            w1 = 3.0 * sigma_q + cell_tolerance * norm[i]
            table[m, 0], table[m, 1], table[m, 4], table[m, 5] = i, j, start, stop
            table[m, 2] = np.searchsorted(first_lengths, norm[i] - w1)
            table[m, 3] = np.searchsorted(first_lengths, norm[i] + w1)
            cosines[m] = cosine
            windows[m] = math.sqrt(1.0 - cosine * cosine) * (math.sqrt(e1 * e1 + e2 * e2) + ANGLE_TOLERANCE)
            cost[m] = (table[m, 3] - table[m, 2]) * (stop - start) * windows[m]
            m += 1
    order = np.argsort(cost[:m])
    return table[order], cosines[order], windows[order]


@njit(cache=True, nogil=True)
def pair_search(
    q: NDArray[np.float64],
    columns: NDArray[np.float32],
    seeds: NDArray[np.int64],
    points: NDArray[np.float32],
    lengths: NDArray[np.float64],
    first: NDArray[np.int64],
    first_lengths: NDArray[np.float64],
    to_hkl_crystal: NDArray[np.float64],
    weights: NDArray[np.float32],
    sigma_q: float,
    cell_tolerance: float,
    max_trials: int,
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> int:
    """Collect the best orientations that pairs of seed spots allow.

    Parameters
    ----------
    q : (n, 3) array
        All spots that judge, 1/Å.
    columns : (3, m) array
        The same, from `lattice_score.spot_columns`.
    seeds : (s,) array
        Which of them are paired, ascending in |q|.
    points : (6, p) array
        Unit vectors g to the reciprocal lattice points of `unit_cell.SearchLattice`, and B^-1 g.
    lengths : (p,) array
        The points' lengths, ascending, 1/Å.
    first, first_lengths : (f,) array
        Which points are enough as the first of a pair, ascending, and their lengths.
    to_hkl_crystal : (3, 3) array
        Inverse of B.
    weights
        See `lattice_score.match_score`.
    sigma_q
        Standard error of a spot's position, 1/Å.
    cell_tolerance
        Relative error of the expected cell allowed for.
    max_trials
        Orientations scored at most, which bounds the time of a hard frame.
    best_score, best_rotation : (k,), (k, 3, 3) array
        The best ``k`` so far, in no order; unused entries have a negative score.

    Returns
    -------
    int
        Orientations scored.
    """
    to_hkl, frame_q, b = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    rotation = np.empty((3, 3))
    inverse(to_hkl_crystal, b)
    n = q.shape[0]
    decisive = max(RANDOM_SCORE * n + DECISIVE_SIGMAS * RANDOM_SPREAD * math.sqrt(n), DECISIVE_FRACTION * n)
    trials, worst = 0, np.min(best_score)
    buffer, matching = np.empty(points.shape[1] + BLOCK, np.float32), np.empty(points.shape[1], np.int64)
    pairs, cosines, windows = _cheapest_pairs(q, seeds, lengths, first_lengths, sigma_q, cell_tolerance)
    for m in range(pairs.shape[0]):
        i, j, f_start, f_stop, start, stop = pairs[m]
        cosine = cosines[m]
        low, high = max(cosine - windows[m], -MAX_COSINE), min(cosine + windows[m], MAX_COSINE)
        u, v = q[seeds[i]], q[seeds[j]]
        _bisector_frame(u / math.sqrt(np.sum(u * u)), v / math.sqrt(np.sum(v * v)), float(cosine), frame_q)
        gx, gy, gz = points[0, start:stop], points[1, start:stop], points[2, start:stop]
        between = buffer[: -(-(stop - start) // BLOCK) * BLOCK]
        for f in range(f_start, f_stop):
            a = first[f]
            ux, uy, uz = points[0, a], points[1, a], points[2, a]
            for n_here in range(_matching(ux, uy, uz, gx, gy, gz, low, high, between, matching)):
                c = matching[n_here]
                _to_hkl_of_pair(points, a, start + c, float(between[c]), to_hkl_crystal, frame_q, to_hkl)
                score = match_score(columns, n, to_hkl, weights)
                if score > worst:
                    _rotation_of(b, to_hkl, rotation)
                    worst = keep_best(score, rotation, best_score, best_rotation)
                trials += 1
                if trials >= max_trials:
                    return trials
        if np.max(best_score) > decisive:
            return trials
    return trials


@njit(cache=True, nogil=True)
def _rotation_of(b: NDArray[np.float64], to_hkl: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write R from to_hkl = B^-1 R^T."""
    for i in range(3):
        for j in range(3):
            out[j, i] = b[i, 0] * to_hkl[0, j] + b[i, 1] * to_hkl[1, j] + b[i, 2] * to_hkl[2, j]


@njit(cache=True, nogil=True)
def keep_best(
    score: float,
    rotation: NDArray[np.float64],
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> float:
    """Put an orientation in the place of the worst kept, if it is better; return the score of the worst."""
    worst = np.argmin(best_score)
    if score > best_score[worst]:
        best_score[worst] = score
        best_rotation[worst] = rotation
        worst = np.argmin(best_score)
    return best_score[worst]
