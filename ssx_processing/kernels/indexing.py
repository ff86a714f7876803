"""Lattices of one frame, for a known cell: propose, refine, judge against chance, repeat on what is left."""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.axis_search import axis_search, hemisphere
from ssx_processing.kernels.lattice_score import index_distance, inverse, log10_chance, match_score
from ssx_processing.kernels.pair_search import pair_search
from ssx_processing.kernels.refinement import RIGID_ROUNDS, TOLERANCES, refine_lattice
from ssx_processing.kernels.unit_cell import SearchLattice, misorientation_deg, real_space

PROPOSALS = 32
"""Orientations kept by each search."""
FINALISTS = 4
"""Of these, refined in full."""
LOOSE = np.array([0.30, 0.25, 0.20])
"""Rounds that every proposal gets."""
EXPLAINED = 0.20
"""A spot this near a lattice point is not offered to the next lattice."""
CROWDED = 150
"""With more spots the axis search goes first: the lowest-angle ones are then mostly artefacts."""
SEEDS = 12
LOW_ANGLE_CHOICE = 30
SAME_ORIENTATION_DEG = 1.5
"""A further lattice this close to an earlier one is the same crystal, split."""


@dataclass(frozen=True)
class IndexedLattice:
    """A lattice found, before anything is predicted from it."""

    a_primitive: NDArray[np.float64]
    """(3, 3) A of the primitive cell, 1/Å."""
    log10_e: float
    """log10 of the number of chance solutions expected to be as good."""
    n_indexed: int
    """Spots of the offered ones within 0.15 of a lattice point."""
    n_offered: int
    """Spots that it was judged on."""


@dataclass
class Indexer:
    """Indexing of many frames of one experiment; nothing in it changes from frame to frame."""

    lattice: SearchLattice
    s0: NDArray[np.float64]
    """(3,) incident wave vector, 1/Å."""
    sigma_q: float
    """Standard error of a spot across its ray, 1/Å."""
    max_lattices: int = 3
    min_spots: int = 6
    min_fraction: float = 0.15
    min_significance: float = 6.0
    max_spots: int = 250
    q_max_axis: float = 0.35
    """Spots beyond do not help to find the axis, 1/Å."""
    directions: NDArray[np.float32] = field(init=False)
    to_hkl_crystal: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the directions of the axis search."""
        length = float(np.linalg.norm(self.lattice.axis))
        self.directions = hemisphere(0.36 / (length * self.q_max_axis))
        self.to_hkl_crystal = real_space(self.lattice.b)

    def index(self, q: NDArray[np.float64], snr: NDArray[np.float64]) -> list[IndexedLattice]:
        """Lattices of one frame, the most convincing kind first.

        Parameters
        ----------
        q : (n, 3) array
            Scattering vectors of its spots, 1/Å.
        snr : (n,) array
            Their signal-to-noise ratios.
        """
        found: list[IndexedLattice] = []
        left = np.arange(len(q))
        for _ in range(2 * self.max_lattices):
            if len(found) == self.max_lattices or len(left) < self.min_spots:
                break
            offered = left[strongest_by_resolution(q[left], snr[left], self.max_spots)]
            a, log10_e, n_indexed = self.best_lattice(q[offered], snr[offered])
            if not self._accepted(log10_e, n_indexed, len(offered)):
                break
            if all(self._misorientation_deg(a, other.a_primitive) > SAME_ORIENTATION_DEG for other in found):
                found.append(IndexedLattice(a, log10_e, n_indexed, len(offered)))
            left = left[index_distance(q[left], real_space(a)) > EXPLAINED]
        return found

    def _misorientation_deg(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return misorientation_deg(first, second, self.lattice.b, self.lattice.rotations)

    def best_lattice(
        self, q: NDArray[np.float64], snr: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, int]:
        """Best primitive A matrix for these spots, its log10 E and the number of spots it explains."""
        order = np.argsort(np.einsum("ij,ij->i", q, q))
        q = np.ascontiguousarray(q[order])
        n = len(q)
        first, second = (self._by_axis, self._by_pairs) if n > CROWDED else (self._by_pairs, self._by_axis)
        a, log10_e, n_indexed = first(q, snr[order])
        if -log10_e < 8.0 + 0.02 * n or n_indexed < 0.3 * n:
            other = second(q, snr[order])
            if other[1] < log10_e:
                return other
        return a, log10_e, n_indexed

    def _by_pairs(
        self, q: NDArray[np.float64], snr: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, int]:
        scores, rotations = np.full(PROPOSALS, -1.0), np.zeros((PROPOSALS, 3, 3))
        lattice = self.lattice
        pair_search(
            q,
            pair_seeds(q, snr),
            lattice.points,
            lattice.lengths,
            lattice.is_first,
            self.to_hkl_crystal,
            self.sigma_q,
            0.004,
            scores,
            rotations,
        )
        return best_refined(q, self.s0, lattice.b, lattice.strains, self.sigma_q, scores, rotations)

    def _by_axis(
        self, q: NDArray[np.float64], snr: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, int]:
        scores, rotations = np.full(PROPOSALS, -1.0), np.zeros((PROPOSALS, 3, 3))
        lattice = self.lattice
        length = np.linalg.norm(q, axis=1)
        longest = max(np.linalg.norm(self.to_hkl_crystal, axis=1))
        axis_search(
            q,
            max(min(len(q), 8), int(np.searchsorted(length, self.q_max_axis))),
            self.directions,
            lattice.axis,
            lattice.axis_order,
            lattice.axis_flips,
            self.to_hkl_crystal,
            float(0.30 / (longest * length[-1])),
            scores,
            rotations,
        )
        return best_refined(q, self.s0, lattice.b, lattice.strains, self.sigma_q, scores, rotations)

    def _accepted(self, log10_e: float, n_indexed: int, n_offered: int) -> bool:
        """Beyond chance, and explaining enough: spots of crowded frames are not independent, hence both."""
        return -log10_e >= self.min_significance + 0.02 * n_offered and n_indexed >= max(
            self.min_spots, self.min_fraction * n_offered
        )


def strongest_by_resolution(
    q: NDArray[np.float64], snr: NDArray[np.float64], n_most: int
) -> NDArray[np.int64]:
    """Indices of at most ``n_most`` spots: the strongest of each of five ranges of |q|, ascending."""
    if len(q) <= n_most:
        return np.arange(len(q))
    order = np.argsort(np.einsum("ij,ij->i", q, q))
    chosen = [part[np.argsort(-snr[part])[: n_most // 5]] for part in np.array_split(order, 5)]
    return np.sort(np.concatenate(chosen))


def pair_seeds(q: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.int64]:
    """Spots worth pairing: the strongest at low angle, outside the beam stop's halo, ascending in |q|.

    Parameters
    ----------
    q : (n, 3) array
        Spots, ascending in length.
    """
    outside = np.flatnonzero(np.einsum("ij,ij->i", q, q) > 0.04**2)[:LOW_ANGLE_CHOICE]
    if len(outside) < 3:
        outside = np.arange(min(len(q), LOW_ANGLE_CHOICE))
    return np.sort(outside[np.argsort(-snr[outside], kind="stable")[:SEEDS]])


@njit(cache=True, nogil=True)
def best_refined(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    b: NDArray[np.float64],
    strains: NDArray[np.float64],
    sigma_q: float,
    scores: NDArray[np.float64],
    rotations: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float, int]:
    """Refine the proposals, the best in full; return A, log10 E and matches of the least likely by chance."""
    n = scores.shape[0]
    a, to_hkl, strain = np.empty((3, 3)), np.empty((3, 3)), np.zeros(strains.shape[0])
    for k in range(n):
        if scores[k] < 0.0:
            continue
        refine_lattice(q, s0, b, strains, rotations[k], strain, sigma_q, LOOSE, LOOSE.shape[0], a)
        inverse(a, to_hkl)
        scores[k] = match_score(q, to_hkl)
    best_a, best_log10_e, best_matched = b.copy(), 0.0, 0
    for k in np.argsort(-scores)[:FINALISTS]:
        if scores[k] < 0.0:
            continue
        strain[:] = 0.0
        refine_lattice(q, s0, b, strains, rotations[k], strain, sigma_q, TOLERANCES, RIGID_ROUNDS, a)
        inverse(a, to_hkl)
        log10_e, matched = log10_chance(index_distance(q, to_hkl))
        if log10_e < best_log10_e or best_matched == 0:
            best_a[:] = a
            best_log10_e, best_matched = log10_e, matched
    return best_a, best_log10_e, best_matched
