"""Real-space lattice vectors of a frame whose cell is not known: peaks of its spots' Fourier transform.

For a vector t of the crystal's lattice q·t is a whole number for every spot. The sum over spots of
cos(2 pi q·t) is therefore large at lattice vectors: the Patterson-like map of DIALS's fft3d. The spots
of a still lie on the Ewald sphere, so their extent along the beam is small, and the map needs few
planes along it. Short vectors are sought with spots to high angles, long ones with the inner spots.
"""

import math

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

LENGTH_TIMES_Q = 48.0
"""Longest vector of a map times the |q| up to which spots take part in it: what the grid can hold."""
Q_MOST = 0.35
"""Nor do spots beyond take part, 1/Å."""
OVERSAMPLING = 1.5
FEWEST_SPOTS = 12
PEAKS = 150
"""Highest peaks of each map that are refined."""
TOLERANCES = np.array([0.25, 0.20, 0.16, 0.13, 0.13])
"""Distance of q·t from a whole number up to which spots take part, round by round."""
SAME = 0.02
"""Two vectors that differ by less than this part of their length are the same."""
EXCITATION = (4e-4, 1e-3)
"""Excitation error that is expected: constant in 1/Å, and proportional to |q|."""


def lattice_vectors(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    min_length: float,
    max_length: float,
) -> NDArray[np.float64]:
    """(m, 3) array of real-space vectors in Å, those that most spots agree on first.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    min_length, max_length
        Shortest and longest vector sought, Å.
    """
    length = np.linalg.norm(q, axis=1)
    found: list[NDArray[np.float64]] = []
    longest = max_length
    while True:
        q_cut = min(Q_MOST, LENGTH_TIMES_Q / longest)
        inner = length < q_cut
        if inner.sum() >= FEWEST_SPOTS:
            found.append(_peaks(q[inner], s0, q_cut, min_length, longest))
        if q_cut == Q_MOST:
            break
        longest *= 0.5
    if not found:
        return np.empty((0, 3))
    vectors = np.concatenate(found)
    agreeing = np.empty(len(vectors))
    refine_vectors(q, s0, sigma_q, TOLERANCES, vectors, agreeing)
    return _distinct(vectors, agreeing, min_length, max_length)


def _peaks(
    q: NDArray[np.float64], s0: NDArray[np.float64], q_cut: float, min_length: float, longest: float
) -> NDArray[np.float64]:
    """(m, 3) array: the highest peaks of the map to a radius, one of each pair t, -t."""
    along = s0 / np.linalg.norm(s0)
    across = np.cross(along, [1.0, 0.0, 0.0] if abs(along[0]) < 0.9 else [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    frame = np.array([across, np.cross(along, across), along])
    coordinates = q @ frame.T
    depth = 0.5 * q_cut**2 / float(np.linalg.norm(s0)) + 2e-3
    period = 2.4 * longest  # more than twice: a spot is put on the nearest grid point
    n_across = _fast_length(2.0 * q_cut * period * OVERSAMPLING)
    n_along = _fast_length(depth * period * OVERSAMPLING + 4)
    shape = (n_across, n_along, n_across)
    grid = np.zeros(shape, np.float32)
    place = np.rint(coordinates * period).astype(np.int64)
    np.add.at(grid, (place[:, 0] % n_across, place[:, 2] % n_along, place[:, 1] % n_across), 1.0)
    density = np.real(np.asarray(scipy.fft.rfftn(grid, overwrite_x=True)))
    steps = [np.fft.fftfreq(n, 1.0 / n) * period / n for n in shape[:2]]
    steps.append(np.arange(density.shape[2]) * period / n_across)
    radius2 = steps[0][:, None, None] ** 2 + steps[1][None, :, None] ** 2 + steps[2][None, None, :] ** 2
    outside = (radius2 > longest**2) | (radius2 < min_length**2)
    high = (density >= maximum_filter(density, 3, mode="wrap")) & ~outside & (density > 0.3 * len(q))
    where = np.argwhere(high)
    order = np.argsort(-density[high], kind="stable")[:PEAKS]
    x, z, y = (steps[i][where[order, i]] for i in range(3))
    return np.column_stack([x, y, z]) @ frame


def _fast_length(n: float) -> int:
    """Next length that is transformed quickly."""
    return int(scipy.fft.next_fast_len(math.ceil(n)) or n)


@njit(cache=True, nogil=True)
def refine_vectors(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    tolerances: NDArray[np.float64],
    vectors: NDArray[np.float64],
    agreeing: NDArray[np.float64],
) -> None:
    """Trimmed least squares of q·t = whole number, in place; counts the spots that agree.

    The error of q·t is that of the spot's position times t's length across the ray, and the excitation
    error times its component along the ray.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    tolerances : (r,) array
        Distance from a whole number up to which spots take part in each round.
    vectors : (m, 3) array
        Start and result, Å.
    agreeing : (m,) array
        Result: spots within the last tolerance.
    """
    normal, rhs = np.empty((3, 3)), np.empty(3)
    for v in range(vectors.shape[0]):
        t = vectors[v]
        for r in range(tolerances.shape[0]):
            normal[:] = 0.0
            rhs[:] = 0.0
            n_used = 0
            for i in range(q.shape[0]):
                n = q[i, 0] * t[0] + q[i, 1] * t[1] + q[i, 2] * t[2]
                off = np.rint(n) - n
                if abs(off) > tolerances[r]:
                    continue
                n_used += 1
                weight = 1.0 / _phase_variance(q[i], t, s0, sigma_q)
                for j in range(3):
                    rhs[j] += weight * off * q[i, j]
                    for k in range(3):
                        normal[j, k] += weight * q[i, j] * q[i, k]
            agreeing[v] = n_used
            if n_used < 6:
                break
            for j in range(3):  # what no spot determines stays
                normal[j, j] += 1e-6 * (normal[0, 0] + normal[1, 1] + normal[2, 2])
            if not _solve_3(normal, rhs):
                break
            for j in range(3):
                t[j] += rhs[j]


@njit(cache=True, nogil=True, inline="always")
def _phase_variance(
    q: NDArray[np.float64], t: NDArray[np.float64], s0: NDArray[np.float64], sigma_q: float
) -> float:
    """Variance of q·t."""
    x, y, z = s0[0] + q[0], s0[1] + q[1], s0[2] + q[2]
    along = (x * t[0] + y * t[1] + z * t[2]) ** 2 / (x * x + y * y + z * z)
    length2 = t[0] * t[0] + t[1] * t[1] + t[2] * t[2]
    q2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2]
    excitation = EXCITATION[0] ** 2 + EXCITATION[1] ** 2 * q2
    return sigma_q * sigma_q * (length2 - along) + excitation * along + 1e-6


@njit(cache=True, nogil=True, inline="always")
def _solve_3(m: NDArray[np.float64], x: NDArray[np.float64]) -> bool:
    """Solve a symmetric (3, 3) system in place by cofactors; False where it is singular."""
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2]
    c01 = m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    c02 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    determinant = m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02
    if not determinant > 0.0:
        return False
    c11 = m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
    c12 = m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
    c22 = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1]
    a, b, c = x[0] / determinant, x[1] / determinant, x[2] / determinant
    x[0] = c00 * a + c01 * b + c02 * c
    x[1] = c01 * a + c11 * b + c12 * c
    x[2] = c02 * a + c12 * b + c22 * c
    return True


def _distinct(
    vectors: NDArray[np.float64], agreeing: NDArray[np.float64], min_length: float, max_length: float
) -> NDArray[np.float64]:
    """Vectors of the lengths sought, each once, the one that most spots agree on first."""
    length = np.linalg.norm(vectors, axis=1)
    order = np.argsort(-agreeing, kind="stable")
    left = order[(length[order] >= min_length) & (length[order] <= max_length)]
    kept: list[int] = []
    while len(left):
        first = left[0]
        kept.append(int(first))
        off = np.minimum(
            np.linalg.norm(vectors[left] - vectors[first], axis=1),
            np.linalg.norm(vectors[left] + vectors[first], axis=1),
        )
        left = left[off > SAME * length[first]]
    return vectors[kept]
