"""A primitive cell for one frame whose cell is not known, from the vectors that its spots agree on.

Every three of the best vectors span a lattice. It is judged by the number of spots that lie near its
points, against the number expected by chance: the number of lattice points per volume of reciprocal
space times the volume around each within which a spot counts. So a cell twice as large, which explains
at least as many spots, must explain more of them to win.
"""

import math
from dataclasses import dataclass

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.binomial_tail import log10_binomial_tail
from ssx_processing.kernels.lattice_score import inverse
from ssx_processing.kernels.refinement import solve_positive
from ssx_processing.kernels.unit_cell import cell_of, real_space
from ssx_processing.kernels.vector_search import EXCITATION, lattice_vectors

VECTORS = 40
"""Vectors of which triplets are made."""
FINALISTS = 12
"""Triplets refined in full."""
SCALES = (2.0, 3.5, 6.0)
"""Standard deviations within which a spot counts: the most telling of these counts."""
NEAREST = 0.35
"""Nor does a spot count that is further than this from whole indices."""
ROUNDS = np.array([6.0, 5.0, 4.0, 4.0])
"""Standard deviations up to which spots take part in the refinement, round by round."""
ENOUGH = 0.6
"""Share of the spots above which a cell is not sought again."""
AGREES = 0.12
"""Distance of q·t from a whole number within which a spot agrees with a vector t."""
FLATTEST = 0.2
"""Three vectors span at least this part of the volume of a box with their lengths."""
SMALLEST_VOLUME = 5000.0
"""Å³."""


@dataclass(frozen=True)
class ProposedCell:
    """A lattice that explains spots of one frame."""

    a_primitive: NDArray[np.float64]
    """(3, 3) A of the reduced primitive cell, 1/Å."""
    log10_e: float
    """log10 of the chance that as many spots lie near as many points; not corrected for the trials."""
    n_indexed: int
    n_offered: int

    @property
    def cell(self) -> tuple[float, float, float, float, float, float]:
        """Its reduced cell."""
        return cell_of(self.a_primitive)


def propose_cell(
    q: NDArray[np.float64], s0: NDArray[np.float64], sigma_q: float, min_edge: float, max_edge: float
) -> ProposedCell | None:
    """Return the primitive cell that explains the spots of a frame best; None where no three vectors are.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    min_edge, max_edge
        Shortest and longest edge of the primitive cell, Å.
    """
    q = np.ascontiguousarray(q, np.float64)
    vectors = lattice_vectors(q, s0, sigma_q, min_edge, max_edge)[:VECTORS]
    best = _best_cell(q, s0, sigma_q, vectors, max_edge)
    if len(vectors) == 0 or (best is not None and best.n_indexed > ENOUGH * len(q)):
        return best
    # a long edge may be hidden by false spots: look again among those that agree with the best vector
    phase = q @ vectors[0]
    of_crystal = q[np.abs(phase - np.rint(phase)) < AGREES]
    again = lattice_vectors(of_crystal, s0, sigma_q, min_edge, max_edge)[:VECTORS]
    vectors = np.concatenate([vectors[: VECTORS // 2], again[: VECTORS // 2]])
    return better(best, _best_cell(q, s0, sigma_q, vectors, max_edge))


def better(first: ProposedCell | None, second: ProposedCell | None) -> ProposedCell | None:
    """Return the less likely one by chance."""
    if first is None or second is None:
        return first or second
    return min(first, second, key=lambda proposal: proposal.log10_e)


def _best_cell(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    vectors: NDArray[np.float64],
    max_edge: float,
) -> ProposedCell | None:
    """Return the best cell that three of the vectors span."""
    triplets = np.empty((FINALISTS, 3, 3))
    n_found = best_triplets(q, s0, sigma_q, np.ascontiguousarray(vectors), triplets)
    best: ProposedCell | None = None
    for triplet in triplets[:n_found]:
        best = better(best, _refined(q, s0, sigma_q, triplet, max_edge))
    return best


def _refined(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    triplet: NDArray[np.float64],
    max_edge: float,
) -> ProposedCell | None:
    """Fit all nine elements of A, reduce the cell, and judge it."""
    a = real_space(reduced(triplet))
    for _ in range(2):
        refine_freely(q, s0, sigma_q, ROUNDS, a)
        if not np.all(np.isfinite(a)) or abs(np.linalg.det(a)) > 1.0 / SMALLEST_VOLUME:
            return None
        a = real_space(reduced(real_space(a)))
    if np.linalg.norm(real_space(a), axis=1).max() > max_edge:
        return None
    log10_e, n = log10_chance_of_cell(q, s0, sigma_q, real_space(a))
    return ProposedCell(a, log10_e, n, len(q))


def reduced(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) array: rows a, b, c of the Niggli-reduced cell of the same lattice, right-handed."""
    if np.linalg.det(vectors) < 0:
        vectors = -vectors
    gruber = gemmi.GruberVector(gemmi.UnitCell(*cell_of(real_space(vectors))), "P", True)
    gruber.niggli_reduce()
    change = gruber.change_of_basis
    if change is None:
        raise ValueError("gemmi did not track the change of basis")
    return np.array(change.rot).T / gemmi.Op.DEN @ vectors


@njit(cache=True, nogil=True)
def log10_chance_of_cell(
    q: NDArray[np.float64], s0: NDArray[np.float64], sigma_q: float, to_hkl: NDArray[np.float64]
) -> tuple[float, int]:
    """log10 of the probability that as many spots lie near lattice points by chance, and their number.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    to_hkl : (3, 3) array
        Inverse of A: rows a, b, c in Å.
    """
    a = np.empty((3, 3))
    inverse(to_hkl, a)
    volume = abs(
        to_hkl[0, 0] * (to_hkl[1, 1] * to_hkl[2, 2] - to_hkl[1, 2] * to_hkl[2, 1])
        - to_hkl[0, 1] * (to_hkl[1, 0] * to_hkl[2, 2] - to_hkl[1, 2] * to_hkl[2, 0])
        + to_hkl[0, 2] * (to_hkl[1, 0] * to_hkl[2, 1] - to_hkl[1, 1] * to_hkl[2, 0])
    )
    n = q.shape[0]
    count = np.zeros(3, np.int64)
    around = 0.0  # mean volume within one standard deviation
    residual = np.empty(3)
    for i in range(n):
        d2, width = _distance2(q[i], s0, sigma_q, a, to_hkl, residual)
        around += width / n
        for k in range(3):
            if d2 < SCALES[k] ** 2:
                count[k] += 1
    best, n_best = 0.0, 0
    for k in range(3):
        p = min(0.9, volume * 4.18879 * SCALES[k] ** 3 * around)
        log10_e = log10_binomial_tail(n, count[k], p)
        if log10_e < best:
            best, n_best = log10_e, count[k]
    return best, n_best


@njit(cache=True, nogil=True, inline="always")
def _distance2(
    spot: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    a: NDArray[np.float64],
    to_hkl: NDArray[np.float64],
    residual: NDArray[np.float64],
) -> tuple[float, float]:
    """Squared distance of a spot from the nearest lattice point in standard deviations, and their product.

    ``residual`` becomes their difference. A spot with indices far from whole is at infinity.
    """
    worst = 0.0
    h = np.empty(3)
    for r in range(3):
        x = to_hkl[r, 0] * spot[0] + to_hkl[r, 1] * spot[1] + to_hkl[r, 2] * spot[2]
        h[r] = np.rint(x)
        worst = max(worst, abs(x - h[r]))
    along, ray2, total, q2 = 0.0, 0.0, 0.0, 0.0
    for r in range(3):
        off = spot[r] - (a[r, 0] * h[0] + a[r, 1] * h[1] + a[r, 2] * h[2])
        ray = s0[r] + spot[r]
        residual[r] = off
        along += off * ray
        ray2 += ray * ray
        total += off * off
        q2 += spot[r] * spot[r]
    along2 = along * along / ray2
    excitation2 = EXCITATION[0] ** 2 + EXCITATION[1] ** 2 * q2
    d2 = (total - along2) / (sigma_q * sigma_q) + along2 / excitation2
    if worst > NEAREST:
        d2 = np.inf
    return d2, sigma_q * sigma_q * math.sqrt(excitation2)


@njit(cache=True, nogil=True)
def best_triplets(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    vectors: NDArray[np.float64],
    best: NDArray[np.float64],
) -> int:
    """Fill ``best`` with the triplets of vectors that explain spots least likely by chance; return how many.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    vectors : (m, 3) array
        Å, the most trustworthy first.
    best : (k, 3, 3) array
        Result: rows are the three vectors.
    """
    m, n_best = vectors.shape[0], best.shape[0]
    scores = np.zeros(n_best)
    t = np.empty((3, 3))
    length = np.sqrt((vectors * vectors).sum(axis=1))
    for i in range(m):
        t[0] = vectors[i]
        for j in range(i):
            t[1] = vectors[j]
            x = t[0, 1] * t[1, 2] - t[0, 2] * t[1, 1]
            y = t[0, 2] * t[1, 0] - t[0, 0] * t[1, 2]
            z = t[0, 0] * t[1, 1] - t[0, 1] * t[1, 0]
            if math.sqrt(x * x + y * y + z * z) < FLATTEST * length[i] * length[j]:
                continue
            for k in range(j):
                t[2] = vectors[k]
                volume = abs(x * t[2, 0] + y * t[2, 1] + z * t[2, 2])
                if volume < max(SMALLEST_VOLUME, FLATTEST * length[i] * length[j] * length[k]):
                    continue
                score, _ = log10_chance_of_cell(q, s0, sigma_q, t)
                worst = int(np.argmax(scores))
                if score < scores[worst]:
                    scores[worst] = score
                    best[worst] = t
    order = np.argsort(scores)
    best[:] = best[order].copy()
    return int(np.sum(scores < 0.0))


@njit(cache=True, nogil=True)
def refine_freely(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    sigma_q: float,
    rounds: NDArray[np.float64],
    a: NDArray[np.float64],
) -> int:
    """Fit the nine elements of A in place, trimmed least squares; return the spots of the last round.

    Residuals count in units of their standard deviations across and along the ray, so that excitation
    errors pull nothing.

    Parameters
    ----------
    q : (n, 3) array
        Spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    rounds : (r,) array
        Standard deviations up to which spots take part in each round.
    a : (3, 3) array
        Start and result, 1/Å.
    """
    to_hkl, residual, h = np.empty((3, 3)), np.empty(3), np.empty(3)
    normal, rhs, w = np.empty((9, 9)), np.empty(9), np.empty((3, 3))
    n_used = 0
    for r in range(rounds.shape[0]):
        inverse(a, to_hkl)
        normal[:] = 0.0
        rhs[:] = 0.0
        n_used = 0
        for i in range(q.shape[0]):
            d2, _ = _distance2(q[i], s0, sigma_q, a, to_hkl, residual)
            if d2 > rounds[r] ** 2:
                continue
            n_used += 1
            ray2, q2 = 0.0, 0.0
            for k in range(3):
                h[k] = np.rint(to_hkl[k, 0] * q[i, 0] + to_hkl[k, 1] * q[i, 1] + to_hkl[k, 2] * q[i, 2])
                ray2 += (s0[k] + q[i, k]) ** 2
                q2 += q[i, k] ** 2
            # weights in units of 1/sigma_q²: one across the ray, less along it
            less = 1.0 - sigma_q**2 / (EXCITATION[0] ** 2 + EXCITATION[1] ** 2 * q2)
            for j in range(3):
                for k in range(3):
                    w[j, k] = -less * (s0[j] + q[i, j]) * (s0[k] + q[i, k]) / ray2
                w[j, j] += 1.0
            for j in range(3):
                weighted = w[j, 0] * residual[0] + w[j, 1] * residual[1] + w[j, 2] * residual[2]
                for k in range(3):
                    rhs[3 * j + k] += weighted * h[k]
                    for jj in range(3):
                        for kk in range(3):
                            normal[3 * j + k, 3 * jj + kk] += w[j, jj] * h[k] * h[kk]
        if n_used < 5:
            return n_used
        for j in range(9):  # a direction that no spot determines stays as it is
            normal[j, j] += 1e-3
        if not solve_positive(normal, rhs):
            return n_used
        for j in range(9):
            a[j // 3, j % 3] += rhs[j]
    return n_used
