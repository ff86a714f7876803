"""Lattices of one frame, for a known cell: propose, refine, judge against chance, repeat on what is left."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.axis_search import axis_search, hemisphere
from ssx_processing.kernels.lattice_score import (
    index_distance,
    index_weights,
    log10_chance,
    spot_columns,
    squared_deviations,
)
from ssx_processing.kernels.pair_search import pair_search
from ssx_processing.kernels.proposals import Solutions, refine_proposals
from ssx_processing.kernels.spot_choice import pair_seeds, strongest_by_resolution
from ssx_processing.kernels.unit_cell import SearchLattice, misorientation_deg, real_space
from ssx_processing.models import Misfit

PROPOSALS = 24
"""Orientations kept by each search."""
SEEDS, SEEDS_OF_REST = 14, 8
"""Spots that are paired: of a frame, and of what a first lattice leaves over."""
MAX_TRIALS, MAX_TRIALS_OF_REST, MAX_TRIALS_OF_FEW = 12000, 2500, 800
"""Orientations that pairs propose at most: of a frame, of what is left over, and if that is little."""
ALONG_RAY = (6e-4, 2e-3)
"""Excitation errors expected before any are known: at |q| = 0 in 1/Å, and per |q|."""
SAME_ORIENTATION_DEG = 3.0
"""A further lattice this close to an earlier one is the same crystal, split."""
EXPLAINED = 0.20
"""A spot this near a lattice point, in all three indices, is not offered to the next lattice."""
CELL_TOLERANCE = 0.004
"""Relative error of the expected cell for which pairs are matched."""
SURE_FRACTION = 0.45
"""A solution that explains more of the spots may explain each of them less well."""
FEWEST_FOR_AXIS = 25
"""Left-over spots that are worth more effort; fewer are nearly always false."""


@dataclass(frozen=True)
class IndexedLattice:
    """A lattice found, before anything is predicted from it."""

    a_primitive: NDArray[np.float64]
    """(3, 3) A of the primitive cell, 1/Å."""
    log10_e: float
    """log10 of the number of chance solutions expected to be as good."""
    n_indexed: int
    """Spots of the offered ones that more likely belong to it than not."""
    n_offered: int
    """Spots that it was judged on."""
    runner_up_gap: float
    """log10 E of the second best, different orientation minus that of this one; nan if there was none."""
    split_deg: float = math.nan
    """Angle to a near-duplicate that was refused; nan if there was none."""


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
    min_gap: float = 2.5
    """A lattice is accepted when log10 E of any different orientation is larger by this."""
    max_spots: int = 250
    q_max_axis: float = 0.35
    """Spots beyond do not help to find the axis, 1/Å."""
    directions: NDArray[np.float32] = field(init=False)
    """(3, m) for the axis search."""
    to_hkl_crystal: NDArray[np.float64] = field(init=False)
    weights: NDArray[np.float32] = field(init=False)
    points: NDArray[np.float32] = field(init=False)
    """(6, p) unit vectors to the reciprocal lattice points, and B^-1 times them."""
    first: NDArray[np.int64] = field(init=False)
    """(f,) points of which one is enough as the first of a pair."""
    first_lengths: NDArray[np.float64] = field(init=False)
    """(f,) their lengths, 1/Å."""

    def __post_init__(self) -> None:
        """Lay out the directions of both searches."""
        lattice = self.lattice
        length = float(np.linalg.norm(lattice.axis))
        self.directions = hemisphere(0.36 / (length * self.q_max_axis))
        self.to_hkl_crystal = real_space(lattice.b)
        self.weights = index_weights(self.to_hkl_crystal, ALONG_RAY[0] + 0.3 * ALONG_RAY[1])
        units = (lattice.points / lattice.lengths[:, None]).T
        self.points = np.ascontiguousarray(np.concatenate([units, self.to_hkl_crystal @ units]), np.float32)
        self.first = np.flatnonzero(lattice.is_first)
        self.first_lengths = lattice.lengths[self.first]

    @property
    def errors(self) -> tuple[float, float, float]:
        """Expected errors for `lattice_score.squared_deviations`: narrower than the windows of the search."""
        return (0.5 * self.sigma_q, *ALONG_RAY)

    @property
    def apart_rad(self) -> float:
        """Orientations closer than this give most low-angle spots the same indices."""
        longest = float(max(np.linalg.norm(self.to_hkl_crystal, axis=1)))
        return min(math.radians(1.5), 0.4 / (0.3 * longest))

    def index(
        self, q: NDArray[np.float64], snr: NDArray[np.float64]
    ) -> tuple[list[IndexedLattice], Misfit | None]:
        """Lattices of one frame, the most convincing kind first, or why there is none.

        Parameters
        ----------
        q : (n, 3) array
            Scattering vectors of its spots, 1/Å.
        snr : (n,) array
            Their signal-to-noise ratios.
        """
        found: list[IndexedLattice] = []
        misfit: Misfit | None = Misfit.TOO_FEW_SPOTS
        is_left = np.ones(len(q), bool)
        for _ in range(2 * self.max_lattices):
            left = np.flatnonzero(is_left)
            if len(found) == self.max_lattices or len(left) < self.min_spots:
                break
            offered = left[strongest_by_resolution(q[left], snr[left], self.max_spots)]
            solutions = self._solve(q[offered], snr[offered], is_first=not found)
            misfit = self._misfit(solutions, len(offered))
            if misfit is not None:
                break
            if self._is_new(solutions, len(offered), found) and len(found) > 1:
                found, is_left = self._competed(q, found)
            is_left[left] &= ~self._explained(q[left], solutions.a[0], float(solutions.limit[0]))
        return found, None if found else misfit

    def _competed(
        self, q: NDArray[np.float64], found: list[IndexedLattice]
    ) -> tuple[list[IndexedLattice], NDArray[np.bool_]]:
        """The lattices, that which explains most spots first, less those that are then left with too little.

        A coincidence that shares many spots with a true lattice may have been found before it.
        Also returned is which spots none of them explains.
        """
        judged = [
            log10_chance(*squared_deviations(q, self.s0, one.a_primitive, self.errors)) for one in found
        ]
        kept: list[IndexedLattice] = []
        is_left = np.ones(len(q), bool)
        for place in sorted(range(len(found)), key=lambda n: judged[n][0]):
            a = found[place].a_primitive
            rest = np.flatnonzero(is_left)
            log10_e, matched, limit = log10_chance(*squared_deviations(q[rest], self.s0, a, self.errors))
            if kept and not self._is_enough(log10_e, matched, min(len(rest), self.max_spots)):
                continue
            kept.append(found[place])
            is_left[rest] &= ~self._explained(q[rest], a, limit)
        return kept, is_left

    def _is_new(self, solutions: Solutions, n_offered: int, found: list[IndexedLattice]) -> bool:
        """Take the best solution as a new lattice, unless it is an earlier one again."""
        a, log10_e = solutions.a[0], float(solutions.log10_e[0])
        for place, other in enumerate(found):
            angle = self._misorientation_deg(a, other.a_primitive)
            if angle <= SAME_ORIENTATION_DEG:
                found[place] = IndexedLattice(
                    **{**vars(other), "split_deg": angle if math.isnan(other.split_deg) else other.split_deg}
                )
                return False
            if self._is_pseudo_mate(a, other.a_primitive):
                return False
        found.append(IndexedLattice(a, log10_e, int(solutions.matched[0]), n_offered, solutions.gap))
        return True

    def _misorientation_deg(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return misorientation_deg(first, second, self.lattice.b, self.lattice.rotations)

    def _is_pseudo_mate(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        """Whether one is the other, mapped onto itself by a rotation that is nearly a symmetry."""
        lattice = self.lattice
        turned = [second @ self.to_hkl_crystal @ r @ lattice.b for r in lattice.pseudo_rotations]
        return any(self._misorientation_deg(first, mate) <= SAME_ORIENTATION_DEG for mate in turned)

    def _explained(self, q: NDArray[np.float64], a: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
        """Which spots the lattice explains, generously."""
        squares, _ = squared_deviations(q, self.s0, a, self.errors)
        return (squares < limit) | (index_distance(q, real_space(a)) < EXPLAINED)

    def _solve(self, q: NDArray[np.float64], snr: NDArray[np.float64], *, is_first: bool) -> Solutions:
        """Different orientations for these spots, best first."""
        order = np.argsort(np.einsum("ij,ij->i", q, q))
        q = np.ascontiguousarray(q[order])
        columns = spot_columns(q)
        solutions = self._refined(q, columns, *self._by_pairs(q, columns, snr[order], is_first=is_first))
        n = len(q)
        is_sure = _is_sure(-float(solutions.log10_e[0]), int(solutions.matched[0]), n)
        if not solutions.is_half and (is_sure or not (is_first or n >= FEWEST_FOR_AXIS)):
            return solutions
        others = self._refined(q, columns, *self._by_axis(q, columns))
        return others if others.log10_e[0] < solutions.log10_e[0] else solutions

    def _refined(
        self,
        q: NDArray[np.float64],
        columns: NDArray[np.float32],
        scores: NDArray[np.float64],
        rotations: NDArray[np.float64],
    ) -> Solutions:
        lattice = self.lattice
        found = refine_proposals(
            q, columns, self.weights, self.s0, lattice.b, lattice.strains, lattice.rotations,
            lattice.pseudo_rotations, self.errors, self.apart_rad, scores, rotations,
        )  # fmt: skip
        return Solutions(*found)

    def _by_pairs(
        self,
        q: NDArray[np.float64],
        columns: NDArray[np.float32],
        snr: NDArray[np.float64],
        *,
        is_first: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scores, rotations = np.full(PROPOSALS, -1.0), np.zeros((PROPOSALS, 3, 3))
        n_seeds, max_trials = (SEEDS, MAX_TRIALS) if is_first else (SEEDS_OF_REST, MAX_TRIALS_OF_REST)
        if not is_first and len(q) < FEWEST_FOR_AXIS:
            max_trials = MAX_TRIALS_OF_FEW
        pair_search(
            q, columns, pair_seeds(q, snr, n_seeds), self.points, self.lattice.lengths, self.first,
            self.first_lengths, self.to_hkl_crystal, self.weights, self.sigma_q, CELL_TOLERANCE,
            max_trials, scores, rotations,
        )  # fmt: skip
        return scores, rotations

    def _by_axis(
        self, q: NDArray[np.float64], columns: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scores, rotations = np.full(PROPOSALS, -1.0), np.zeros((PROPOSALS, 3, 3))
        lattice = self.lattice
        length = np.linalg.norm(q, axis=1)
        longest = float(max(np.linalg.norm(self.to_hkl_crystal, axis=1)))
        n_low = max(min(len(q), 8), int(np.searchsorted(length, self.q_max_axis)))
        axis_search(
            q, columns, n_low, self.directions, lattice.axis, lattice.axis_order, lattice.axis_flips,
            self.to_hkl_crystal, self.weights, float(0.30 / (longest * length[-1])), scores, rotations,
        )  # fmt: skip
        return scores, rotations

    def _is_enough(self, log10_e: float, matched: int, n_offered: int) -> bool:
        """Beyond chance, and explaining enough: spots of crowded frames are not independent, hence both."""
        return -log10_e >= self.min_significance + 0.02 * n_offered and matched >= max(
            self.min_spots, self.min_fraction * n_offered
        )

    def _misfit(self, solutions: Solutions, n_offered: int) -> Misfit | None:
        """Why the best solution is none: chance, too few spots of crowded frames, or another as good."""
        if not self._is_enough(float(solutions.log10_e[0]), int(solutions.matched[0]), n_offered):
            return Misfit.NO_SOLUTION
        if solutions.gap < self.min_gap:
            return Misfit.AMBIGUOUS
        return None


def _is_sure(significance: float, matched: int, n: int) -> bool:
    """Whether none better need be sought: one that explains few spots, or these badly, may coincide."""
    per_spot = 0.6 if matched >= SURE_FRACTION * n else 1.0
    return matched >= 0.15 * n and significance >= 8.0 + 0.02 * n + per_spot * matched
