"""Orientations from pairs of spots: lengths and angle of two spots against the known cell.

Any two spots whose lengths and angle agree with two reciprocal lattice points give an orientation,
which all spots then judge. Needs two true spots among those paired, so it succeeds on sparse frames.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse_of_turned, match_score

MAX_COSINE = 0.985
"""Spots closer in direction define a rotation badly."""
DIRECTION_ERROR = 0.0008
"""1/Å: excitation error, which at low resolution acts on a spot's direction and never on its length."""
MAX_TRIALS = 6000
"""Orientations scored per frame at most, which bounds the time of a hard frame."""
RANDOM_SCORE, RANDOM_SPREAD = 0.062, 0.178
"""Mean and standard deviation of one random spot's match score: a ball of radius 1/3 in the unit cube."""
DECISIVE_SIGMAS, DECISIVE_FRACTION = 12.0, 0.35
"""A score so far beyond chance, and so large a part of the spots, ends the search."""


@njit(cache=True, nogil=True)
def pair_rotation(
    g1: NDArray[np.float64],
    g2: NDArray[np.float64],
    q1: NDArray[np.float64],
    q2: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the rotation that takes the frame of (g1, g2) into that of (q1, q2).

    Both frames are bisector, difference and normal of the unit vectors: symmetric in the errors.
    """
    frame_g, frame_q = np.empty((3, 3)), np.empty((3, 3))
    _bisector_frame(g1, g2, frame_g)
    _bisector_frame(q1, q2, frame_q)
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                frame_q[0, i] * frame_g[0, j] + frame_q[1, i] * frame_g[1, j] + frame_q[2, i] * frame_g[2, j]
            )


@njit(cache=True, nogil=True, inline="always")
def _bisector_frame(u: NDArray[np.float64], v: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Rows: normalised sum, difference and cross product of the directions of two vectors."""
    lu = math.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
    lv = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    for r in range(3):
        out[0, r] = u[r] / lu + v[r] / lv
        out[1, r] = u[r] / lu - v[r] / lv
    for k in range(2):
        n = math.sqrt(out[k, 0] ** 2 + out[k, 1] ** 2 + out[k, 2] ** 2)
        for r in range(3):
            out[k, r] /= n
    out[2, 0] = out[0, 1] * out[1, 2] - out[0, 2] * out[1, 1]
    out[2, 1] = out[0, 2] * out[1, 0] - out[0, 0] * out[1, 2]
    out[2, 2] = out[0, 0] * out[1, 1] - out[0, 1] * out[1, 0]


@njit(cache=True, nogil=True)
def pair_search(
    q: NDArray[np.float64],
    seeds: NDArray[np.int64],
    points: NDArray[np.float64],
    lengths: NDArray[np.float64],
    is_first: NDArray[np.bool_],
    to_hkl_crystal: NDArray[np.float64],
    sigma_q: float,
    cell_tolerance: float,
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> int:
    """Collect the best orientations that pairs of seed spots allow.

    Parameters
    ----------
    q : (n, 3) array
        All spots that judge, 1/Å.
    seeds : (m,) array
        Which of them are paired.
    points, lengths, is_first
        Reciprocal lattice points of `unit_cell.SearchLattice`.
    to_hkl_crystal : (3, 3) array
        Inverse of B.
    sigma_q
        Standard error of a spot's position, 1/Å.
    cell_tolerance
        Relative error of the expected cell allowed for.
    best_score, best_rotation : (k,), (k, 3, 3) array
        The best ``k`` so far, in no order; unused entries have a negative score.

    Returns
    -------
    int
        Orientations scored.
    """
    rotation, to_hkl = np.empty((3, 3)), np.empty((3, 3))
    norm = np.empty(seeds.shape[0])
    for i in range(seeds.shape[0]):
        s = q[seeds[i]]
        norm[i] = math.sqrt(s[0] ** 2 + s[1] ** 2 + s[2] ** 2)
    n = q.shape[0]
    decisive = max(RANDOM_SCORE * n + DECISIVE_SIGMAS * RANDOM_SPREAD * math.sqrt(n), DECISIVE_FRACTION * n)
    trials = 0
    for j in range(1, seeds.shape[0]):
        for i in range(j):
            if np.max(best_score) > decisive:
                return trials
            q1, q2 = q[seeds[i]], q[seeds[j]]
            cosine = (q1[0] * q2[0] + q1[1] * q2[1] + q1[2] * q2[2]) / (norm[i] * norm[j])
            if abs(cosine) > MAX_COSINE:
                continue
            sine = math.sqrt(1.0 - cosine * cosine)
            e1, e2 = DIRECTION_ERROR / norm[i], DIRECTION_ERROR / norm[j]
            window = sine * (math.sqrt(e1 * e1 + e2 * e2) + 0.003)
            w1, w2 = 3.0 * sigma_q + cell_tolerance * norm[i], 3.0 * sigma_q + cell_tolerance * norm[j]
            a_end = np.searchsorted(lengths, norm[i] + w1)
            b_start, b_end = np.searchsorted(lengths, norm[j] - w2), np.searchsorted(lengths, norm[j] + w2)
            for a in range(np.searchsorted(lengths, norm[i] - w1), a_end):
                if not is_first[a]:
                    continue
                g1 = points[a]
                for c in range(b_start, b_end):
                    g2 = points[c]
                    between = (g1[0] * g2[0] + g1[1] * g2[1] + g1[2] * g2[2]) / (lengths[a] * lengths[c])
                    if abs(between - cosine) > window or abs(between) > MAX_COSINE:
                        continue
                    pair_rotation(g1, g2, q1, q2, rotation)
                    inverse_of_turned(to_hkl_crystal, rotation, to_hkl)
                    keep_best(match_score(q, to_hkl), rotation, best_score, best_rotation)
                    trials += 1
                    if trials >= MAX_TRIALS:
                        return trials
    return trials


@njit(cache=True, nogil=True)
def keep_best(
    score: float,
    rotation: NDArray[np.float64],
    best_score: NDArray[np.float64],
    best_rotation: NDArray[np.float64],
) -> None:
    """Put an orientation in the place of the worst kept, if it is better."""
    worst = 0
    for k in range(1, best_score.shape[0]):
        if best_score[k] < best_score[worst]:
            worst = k
    if score > best_score[worst]:
        best_score[worst] = score
        best_rotation[worst] = rotation
