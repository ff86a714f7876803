"""How well an orientation explains the spots of a frame, and how likely that is by chance."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

PADDING = 16
"""Columns of spots are a multiple of this long, so that the compiler needs no remainder loop."""
SCALES = (0.7, 1.4, 2.8, 5.6)
"""Times the expected errors: geometry, mosaicity and bandwidth are known roughly only."""
SHARES = (0.2, 0.5, 0.85)
"""Share of the spots that belong to the lattice, which is not known either."""
LOG10_CHOICES = math.log10(len(SCALES) * len(SHARES))
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
def determinant(m: NDArray[np.float64]) -> float:
    """Determinant of a (3, 3) matrix."""
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


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


def spot_columns(q: NDArray[np.float64]) -> NDArray[np.float32]:
    """(3, m) array of the spots' coordinates for `match_score`, padded with zeros, which always match."""
    columns = np.zeros((3, -(-len(q) // PADDING) * PADDING), np.float32)
    columns[:, : len(q)] = q.T
    return columns


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def match_score(
    columns: NDArray[np.float32], n: int, to_hkl: NDArray[np.float64], weights: NDArray[np.float32]
) -> float:
    """Sum over spots of max(0, 1 - 9 d²), d the distance of their fractional index from a lattice point.

    Parameters
    ----------
    columns : (3, m) array
        From `spot_columns`.
    n
        Spots among them.
    to_hkl : (3, 3) array
        Inverse of the A matrix.
    weights : (3,) array
        Of the squares of the three index differences, from `index_weights`.
    """
    x, y, z = columns[0], columns[1], columns[2]
    hx, hy, hz = np.float32(to_hkl[0, 0]), np.float32(to_hkl[0, 1]), np.float32(to_hkl[0, 2])
    kx, ky, kz = np.float32(to_hkl[1, 0]), np.float32(to_hkl[1, 1]), np.float32(to_hkl[1, 2])
    lx, ly, lz = np.float32(to_hkl[2, 0]), np.float32(to_hkl[2, 1]), np.float32(to_hkl[2, 2])
    wh, wk, wl = np.float32(9.0) * weights[0], np.float32(9.0) * weights[1], np.float32(9.0) * weights[2]
    score = np.float32(0.0)
    for i in range(x.shape[0]):
        h = hx * x[i] + hy * y[i] + hz * z[i]
        k = kx * x[i] + ky * y[i] + kz * z[i]
        m = lx * x[i] + ly * y[i] + lz * z[i]
        h -= np.rint(h)
        k -= np.rint(k)
        m -= np.rint(m)
        score += max(np.float32(0.0), np.float32(1.0) - (wh * h * h + wk * k * k + wl * m * m))
    return score - (x.shape[0] - n)


def index_weights(to_hkl_crystal: NDArray[np.float64], error: float) -> NDArray[np.float32]:
    """(3,) weights of squared index differences in `match_score`: less along axes too long for the error.

    Parameters
    ----------
    to_hkl_crystal : (3, 3) array
        Rows are the cell's axes, Å.
    error
        Expected excitation error, 1/Å: times an axis it is the index difference to be tolerated.
    """
    tolerated = 2.5 * error * np.linalg.norm(to_hkl_crystal, axis=1)
    return (np.minimum(1.0, (1.0 / 3.0) / tolerated) ** 2).astype(np.float32)


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
def squared_deviations(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    a: NDArray[np.float64],
    errors: tuple[float, float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of spots from their nearest lattice points, in units of its expected errors, squared.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    a : (3, 3) array
        A matrix of the primitive lattice.
    errors
        Standard errors: across the diffracted ray (of the position), along it at |q| = 0 and per |q|
        (excitation errors), 1/Å, 1/Å, radians.

    Returns
    -------
    (n,) array
        The squares.
    (n,) array
        How much denser true spots are at their lattice point than spots at random: the density of
        the normal distribution at its centre times the volume of the reciprocal cell.
    """
    to_hkl = np.empty((3, 3))
    inverse(a, to_hkl)
    volume = abs(determinant(a))
    squares, density = np.empty(q.shape[0]), np.empty(q.shape[0])
    d = np.empty(3)
    across_variance = errors[0] ** 2
    for i in range(q.shape[0]):
        h = np.rint(to_hkl[0, 0] * q[i, 0] + to_hkl[0, 1] * q[i, 1] + to_hkl[0, 2] * q[i, 2])
        k = np.rint(to_hkl[1, 0] * q[i, 0] + to_hkl[1, 1] * q[i, 1] + to_hkl[1, 2] * q[i, 2])
        m = np.rint(to_hkl[2, 0] * q[i, 0] + to_hkl[2, 1] * q[i, 1] + to_hkl[2, 2] * q[i, 2])
        total = ray_length = along = 0.0
        for r in range(3):
            d[r] = q[i, r] - a[r, 0] * h - a[r, 1] * k - a[r, 2] * m
            total += d[r] * d[r]
            along += d[r] * (s0[r] + q[i, r])
            ray_length += (s0[r] + q[i, r]) ** 2
        along = along * along / ray_length
        qq = q[i, 0] ** 2 + q[i, 1] ** 2 + q[i, 2] ** 2
        along_variance = errors[1] ** 2 + errors[2] ** 2 * qq
        squares[i] = max(0.0, total - along) / across_variance + along / along_variance
        density[i] = volume / (15.7496 * across_variance * math.sqrt(along_variance))  # (2 pi)^1.5
    return squares, density


@njit(cache=True, nogil=True)
def log10_chance(squares: NDArray[np.float64], density: NDArray[np.float64]) -> tuple[float, int, float]:
    """log10 of the number of wrong orientations expected to explain the spots as well.

    For spots spread at random, the ratio of their likelihood under the lattice, as a mixture of
    true and random spots, to that without it has the expectation 1. By Markov's inequality it
    exceeds x with a probability below 1/x, for one orientation, scale of errors and share of true
    spots; all that are tried count.

    Parameters
    ----------
    squares, density : (n,) array
        From `squared_deviations`.

    Returns
    -------
    float
        log10 of that number.
    int
        Spots that more likely belong to the lattice than not.
    float
        The square up to which they do.
    """
    best, best_scale, best_share = -1e300, SCALES[0], SHARES[0]
    for scale in SCALES:
        for share in SHARES:
            total, product = 0.0, 1.0
            for i in range(squares.shape[0]):
                ratio = density[i] / scale**3 * math.exp(-0.5 * squares[i] / scale**2)
                product *= 1.0 - share + share * ratio
                if product > 1e200 or product < 1e-200:
                    total += math.log10(product)
                    product = 1.0
            total += math.log10(product)
            if total > best:
                best, best_scale, best_share = total, scale, share
    matched, limit = 0, 0.0
    for i in range(squares.shape[0]):
        odds = best_share / (1.0 - best_share) * density[i] / best_scale**3
        own = 2.0 * best_scale**2 * math.log(odds) if odds > 1.0 else 0.0
        if squares[i] < own:
            matched += 1
        limit = max(limit, own)
    return LOG10_TRIALS + LOG10_CHOICES - best, matched, limit
