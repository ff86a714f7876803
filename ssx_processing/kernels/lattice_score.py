"""How well an orientation explains the spots of a frame, and how likely that is by chance."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

SIGNIFICANCE_TOLERANCES = (0.06, 0.10, 0.15)
"""Distances from the nearest lattice point, largest of three indices, at which matches are counted."""
LOG10_TRIALS = 6.0
"""log10 of the number of orientations that a search effectively tries."""


@njit(cache=True, nogil=True, inline="always")
def inverse(m: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Inverse of a (3, 3) matrix by cofactors, into ``out``; no LAPACK, which would bring its threads."""
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    c01 = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2]
    c02 = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]
    d = 1.0 / (m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02)
    out[0, 0], out[1, 0], out[2, 0] = c00 * d, c01 * d, c02 * d
    out[0, 1] = (m[0, 2] * m[2, 1] - m[0, 1] * m[2, 2]) * d
    out[1, 1] = (m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]) * d
    out[2, 1] = (m[0, 1] * m[2, 0] - m[0, 0] * m[2, 1]) * d
    out[0, 2] = (m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]) * d
    out[1, 2] = (m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]) * d
    out[2, 2] = (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) * d


@njit(cache=True, nogil=True, inline="always")
def inverse_of_turned(
    to_hkl_crystal: NDArray[np.float64], rotation: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    """Write (R B)^-1 = B^-1 R^T into ``out``, ``to_hkl_crystal`` being B^-1."""
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                to_hkl_crystal[i, 0] * rotation[j, 0]
                + to_hkl_crystal[i, 1] * rotation[j, 1]
                + to_hkl_crystal[i, 2] * rotation[j, 2]
            )


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def match_score(q: NDArray[np.float64], to_hkl: NDArray[np.float64]) -> float:
    """Sum over spots of max(0, 1 - 9 d²), d the distance of their fractional index from a lattice point.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    to_hkl : (3, 3) array
        Inverse of the A matrix.
    """
    score = 0.0
    for i in range(q.shape[0]):
        x, y, z = q[i, 0], q[i, 1], q[i, 2]
        h = to_hkl[0, 0] * x + to_hkl[0, 1] * y + to_hkl[0, 2] * z
        k = to_hkl[1, 0] * x + to_hkl[1, 1] * y + to_hkl[1, 2] * z
        m = to_hkl[2, 0] * x + to_hkl[2, 1] * y + to_hkl[2, 2] * z
        h -= np.rint(h)
        k -= np.rint(k)
        m -= np.rint(m)
        score += max(0.0, 1.0 - 9.0 * (h * h + k * k + m * m))
    return score


@njit(cache=True, nogil=True)
def index_distance(q: NDArray[np.float64], to_hkl: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) array: largest distance of a spot's three indices from whole numbers."""
    distance = np.empty(q.shape[0])
    for i in range(q.shape[0]):
        worst = 0.0
        for r in range(3):
            h = to_hkl[r, 0] * q[i, 0] + to_hkl[r, 1] * q[i, 1] + to_hkl[r, 2] * q[i, 2]
            worst = max(worst, abs(h - np.rint(h)))
        distance[i] = worst
    return distance


@njit(cache=True, nogil=True)
def log10_binomial_tail(n: int, k: int, p: float) -> float:
    """log10 of the probability of at least ``k`` successes in ``n`` trials of probability ``p``."""
    if k <= 0:
        return 0.0
    log_term = (
        math.lgamma(n + 1.0)
        - math.lgamma(k + 1.0)
        - math.lgamma(n - k + 1.0)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    ratio, total = 1.0, 1.0
    for i in range(k, n):  # following terms relative to the first
        ratio *= (n - i) * p / ((i + 1) * (1.0 - p))
        total += ratio
        if ratio < 1e-12 * total:
            break
    return min(0.0, (log_term + math.log(total)) / math.log(10.0))


@njit(cache=True, nogil=True)
def log10_chance(distance: NDArray[np.float64]) -> tuple[float, int]:
    """log10 of the number of wrong orientations expected to match as well; matches within 0.15.

    For spots spread at random a match within t has the probability (2 t)³. The most telling of
    three tolerances counts.

    Parameters
    ----------
    distance : (n,) array
        From `index_distance`.
    """
    n = distance.shape[0]
    best = 0.0
    matched = 0
    for t in SIGNIFICANCE_TOLERANCES:
        matched = 0
        for d in distance:
            if d < t:
                matched += 1
        best = min(best, log10_binomial_tail(n, matched, (2.0 * t) ** 3))
    return best + LOG10_TRIALS, matched
