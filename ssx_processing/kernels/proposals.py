"""From many proposed orientations to a few different ones, refined and judged against chance."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse, log10_chance, match_score, squared_deviations
from ssx_processing.kernels.refinement import RIGID_ROUNDS, SCALES, STRAIN_SIGMA, refine_lattice, rotate

LOOSE = np.array([10.0, 7.0, 5.0])
"""Rounds that every proposal gets, as `refinement.SCALES`."""
LOOSELY_REFINED = 6
"""Different proposals that are refined loosely."""
FINALISTS = 3
"""Of these, refined in full."""
MAX_CELL_PENALTY = 3.0
"""A cell that deviates counts against a solution by so much at most: the expected one may be wrong."""


POLISHED = (1.5, 2.0)
"""A solution whose matched spots each say less than this, in powers of ten, may be beside the best; the
second where several orientations lie within a degree."""
FEWEST_FOR_HALF = 7
"""Spots from which it tells something that they lie on half of a lattice."""
WIDE_POLISH = math.radians(0.5)
"""Where orientations closer than this differ, several lie within a degree."""
WORTH_POLISHING = -2.0
"""log10 E above which it is chance anyhow."""
AROUND = np.array(
    [[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) != (0, 0, 0)], float
)
RADII = (1.3, 3.5, 6.0)
"""Sizes of the turns; the first only, unless several orientations lie within a degree."""
AROUND /= np.linalg.norm(AROUND, axis=1)[:, None]
"""Directions of small turns from which it is sought again."""


class Solutions(NamedTuple):
    """Different orientations, the least likely by chance first; at least one."""

    a: NDArray[np.float64]
    """(n, 3, 3) A matrices of the primitive cell, 1/Å."""
    log10_e: NDArray[np.float64]
    """(n,)."""
    matched: NDArray[np.int64]
    """(n,) spots that more likely belong to it than not."""
    limit: NDArray[np.float64]
    """(n,) squared deviation up to which they do."""
    gap: float
    """By how much any other explains the first one's spots worse, in powers of ten; nan without others."""
    is_half: bool
    """The spots of the first lie on half of its points only, as where it crosses another lattice."""


@njit(cache=True, nogil=True)
def _trace_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Trace of first second^T."""
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += first[i, j] * second[i, j]
    return total


@njit(cache=True, nogil=True)
def _is_known(
    rotation: NDArray[np.float64],
    known: NDArray[np.float64],
    n_known: int,
    apart: float,
    symmetry: NDArray[np.float64],
) -> bool:
    """Whether the orientation equals one of the first ``n_known``, up to the symmetry of the lattice."""
    turned, limit = np.empty((3, 3)), 1.0 + 2.0 * math.cos(apart)
    for s in range(symmetry.shape[0]):
        for i in range(3):
            for j in range(3):
                turned[i, j] = (
                    rotation[i, 0] * symmetry[s, 0, j]
                    + rotation[i, 1] * symmetry[s, 1, j]
                    + rotation[i, 2] * symmetry[s, 2, j]
                )
        for k in range(n_known):
            if _trace_between(turned, known[k]) > limit:
                return True
    return False


@njit(cache=True, nogil=True)
def _loosely_refined(
    q: NDArray[np.float64],
    columns: NDArray[np.float32],
    weights: NDArray[np.float32],
    s0: NDArray[np.float64],
    b: NDArray[np.float64],
    strains: NDArray[np.float64],
    errors: tuple[float, float, float],
    apart: float,
    scores: NDArray[np.float64],
    rotations: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Refine the best of the proposals that are not nearly alike; return their scores and rotations."""
    score, rotation = np.full(LOOSELY_REFINED, -1.0), np.empty((LOOSELY_REFINED, 3, 3))
    a, to_hkl, strain = np.empty((3, 3)), np.empty((3, 3)), np.zeros(strains.shape[0])
    n, limit = 0, 1.0 + 2.0 * math.cos(1.3 * apart)
    started = np.empty((LOOSELY_REFINED, 3, 3))
    for k in np.argsort(-scores):
        if n == LOOSELY_REFINED or scores[k] < 0.0:
            break
        is_new = True
        for j in range(n):
            if _trace_between(rotations[k], started[j]) > limit:
                is_new = False
                break
        if not is_new:
            continue
        started[n] = rotations[k]
        rotation[n] = rotations[k]
        refine_lattice(q, s0, b, strains, rotation[n], strain, errors, LOOSE, LOOSE.shape[0], a)
        inverse(a, to_hkl)
        score[n] = match_score(columns, q.shape[0], to_hkl, weights)
        n += 1
    return score[:n], rotation[:n]


@njit(cache=True, nogil=True)
def refine_proposals(
    q: NDArray[np.float64],
    columns: NDArray[np.float32],
    weights: NDArray[np.float32],
    s0: NDArray[np.float64],
    b: NDArray[np.float64],
    strains: NDArray[np.float64],
    symmetry: NDArray[np.float64],
    pseudo_symmetry: NDArray[np.float64],
    errors: tuple[float, float, float],
    apart: float,
    scores: NDArray[np.float64],
    rotations: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], float, bool]:
    """Refine proposals, the most promising in full, with what pseudo-symmetry makes of the best of them.

    Parameters
    ----------
    q, columns, weights
        Spots, as in `lattice_score.match_score`.
    s0, b, strains
        As in `refinement.refine_lattice`.
    symmetry, pseudo_symmetry : (r, 3, 3) array
        Rotations that map the lattice onto itself exactly, and nearly.
    errors
        As in `lattice_score.squared_deviations`.
    apart
        Orientations closer than this are the same, radians.
    scores, rotations : (k,), (k, 3, 3) array
        Proposals of a search.

    Returns
    -------
    tuple
        Fields of `Solutions`.
    """
    score, rotation = _loosely_refined(q, columns, weights, s0, b, strains, errors, apart, scores, rotations)
    most = FINALISTS + pseudo_symmetry.shape[0]
    found_rotation, found_a = np.empty((most, 3, 3)), np.empty((most, 3, 3))
    log10_e, matched, limit = np.empty(most), np.empty(most, np.int64), np.empty(most)
    rank, penalty = np.empty(most), np.zeros(most)
    n = 0
    turn, strain = np.empty((3, 3)), np.empty(strains.shape[0])
    order = np.argsort(-score)
    tried = 0
    for candidate in range(order.shape[0] + pseudo_symmetry.shape[0]):
        if candidate < order.shape[0]:
            if tried == FINALISTS:
                continue
            turn[:] = rotation[order[candidate]]
        elif n == 0:
            break
        else:
            best = found_rotation[np.argmin(rank[:n])]
            other = pseudo_symmetry[candidate - order.shape[0]]
            for i in range(3):
                for j in range(3):
                    turn[i, j] = (
                        best[i, 0] * other[0, j] + best[i, 1] * other[1, j] + best[i, 2] * other[2, j]
                    )
        if n == most or _is_known(turn, found_rotation, n, apart, symmetry):
            continue
        tried += 1
        strain[:] = 0.0
        refine_lattice(q, s0, b, strains, turn, strain, errors, SCALES, RIGID_ROUNDS, found_a[n])
        if _is_known(turn, found_rotation, n, apart, symmetry):
            continue
        found_rotation[n] = turn
        squares, density = squared_deviations(q, s0, found_a[n], errors)
        chance, matched[n], limit[n] = log10_chance(squares, density)
        penalty[n] = 0.5 * np.sum(strain**2) / STRAIN_SIGMA**2 / math.log(10.0)
        log10_e[n], rank[n] = chance + min(penalty[n], MAX_CELL_PENALTY), chance + penalty[n]
        n += 1
    if n == 0:  # nothing was proposed
        found_a[0] = b
        log10_e[0], matched[0], limit[0], rank[0], n = 0.0, 0, 0.0, 0.0, 1
    best = np.argmin(rank[:n])
    is_wide = apart < WIDE_POLISH
    if WORTH_POLISHING > log10_e[best] > -POLISHED[int(is_wide)] * matched[best]:
        trial, turned = np.empty((3, 3)), np.empty((3, 3))
        start = found_rotation[best].copy()
        for k in range(AROUND.shape[0] * (len(RADII) if is_wide else 1)):
            turned[:] = start
            rotate(turned, AROUND[k % AROUND.shape[0]] * (RADII[k // AROUND.shape[0]] * apart))
            strain[:] = 0.0
            refine_lattice(q, s0, b, strains, turned, strain, errors, SCALES, RIGID_ROUNDS, trial)
            squares, density = squared_deviations(q, s0, trial, errors)
            chance, n_matched, own_limit = log10_chance(squares, density)
            against = 0.5 * np.sum(strain**2) / STRAIN_SIGMA**2 / math.log(10.0)
            if chance + against < rank[best]:
                found_a[best], penalty[best], rank[best] = trial, against, chance + against
                log10_e[best] = chance + min(against, MAX_CELL_PENALTY)
                matched[best], limit[best] = n_matched, own_limit
    best_first = np.argsort(rank[:n])
    a, penalties = found_a[best_first], penalty[best_first]
    squares, density = squared_deviations(q, s0, a[0], errors)
    own = squares < limit[best_first[0]]
    return (
        a,
        log10_e[best_first],
        matched[best_first],
        limit[best_first],
        _gap(q[own], s0, a, errors, log10_chance(squares[own], density[own])[0], penalties),
        _is_half(q[own], a[0]),
    )


@njit(cache=True, nogil=True)
def _is_half(q: NDArray[np.float64], a: NDArray[np.float64]) -> bool:
    """Whether nearly all spots have indices h whose product with one of (0 0 1) ... (1 1 1) is even."""
    n = q.shape[0]
    if n < FEWEST_FOR_HALF:
        return False
    to_hkl, odd = np.empty((3, 3)), np.zeros(8, np.int64)
    inverse(a, to_hkl)
    for i in range(n):
        parity = 0
        for r in range(3):
            h = np.rint(to_hkl[r, 0] * q[i, 0] + to_hkl[r, 1] * q[i, 1] + to_hkl[r, 2] * q[i, 2])
            parity |= (int(h) & 1) << r
        for m in range(1, 8):
            both = parity & m
            odd[m] += (both ^ (both >> 1) ^ (both >> 2)) & 1
    return np.min(odd[1:]) < 0.1 * n


@njit(cache=True, nogil=True)
def _gap(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    a: NDArray[np.float64],
    errors: tuple[float, float, float],
    best: float,
    penalties: NDArray[np.float64],
) -> float:
    """See `Solutions.gap`: another crystal explains other spots, a pseudo-mate the same ones."""
    gap = np.nan
    for k in range(1, a.shape[0]):
        squares, density = squared_deviations(q, s0, a[k], errors)
        chance, _, _ = log10_chance(squares, density)
        worse = chance + penalties[k] - best - penalties[0]
        if not gap < worse:
            gap = worse
    return gap
