"""A lattice that may be the one sought: its cell measured, its symmetry decided, tried on all hits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.cell_clusters import CellCluster
from ssx_processing.kernels.cell_search import ROUNDS, log10_chance_of_cell, reduced, refine_freely
from ssx_processing.kernels.indexing import Indexer
from ssx_processing.kernels.lattice_comparison import LENGTH_TOLERANCE, metric_of, same_lattice
from ssx_processing.kernels.lattice_type import LatticeType, lattice_type
from ssx_processing.kernels.unit_cell import (
    SearchLattice,
    cell_of,
    misorientation_deg,
    real_space,
    search_lattice,
)
from ssx_processing.models import UnitCell

AS_GOOD = 0.9
"""A higher symmetry is taken if it keeps this part of the significance of the lower one."""
FOR_ONE_ORIENTATION = 0.25
"""Less of it where all crystals lie alike: a free cell then fits the errors of the geometry."""
MIN_SETTLED = 3
"""Hits needed to measure a cell."""
MIN_SPOTS = 10
MAX_SETTLED = 60
"""Hits used to measure the candidate's cell without constraints."""
DIFFERENT_DEG = 3.0
"""Misorientation from which two crystals do not share the errors that the geometry makes in their cells."""
USUAL_STRAIN = 0.005
"""Relative standard deviation of the cells of one crystal form; decides between forms that are alike."""


@dataclass(frozen=True)
class SpotVectors:
    """Spots of one hit."""

    q: NDArray[np.float64]
    """(n, 3) scattering vectors, 1/Å."""
    snr: NDArray[np.float64]
    """(n,)."""


@dataclass(frozen=True)
class Candidate:
    """A lattice that is tried on all hits."""

    type: LatticeType
    n_seeds: int
    log10_e: NDArray[np.float64]
    """(n_hits,) 0 where it does not index."""
    fraction: NDArray[np.float64]
    """(n_hits,) of the spots."""
    cells: NDArray[np.float64]
    """(n_hits, 6) nan where it does not index."""


@dataclass(frozen=True)
class _Found:
    """A lattice found on one hit with the cell known."""

    a_primitive: NDArray[np.float64]
    log10_e: float
    """Of the cell, not of the orientation."""
    fraction: float


def settled(
    cluster: CellCluster, hits: Sequence[SpotVectors], s0: NDArray[np.float64], sigma_q: float
) -> Candidate | None:
    """Measure a cluster's cell on more frames without constraints, decide on its symmetry, try it on all."""
    triclinic = _indexer(cluster.cell, gemmi.SpaceGroup("P 1"), s0, sigma_q)
    best = sorted(hits, key=lambda hit: -len(hit.q))[:MAX_SETTLED]
    free = [a for a in (_freely_fitted(triclinic, hit) for hit in best) if a is not None]
    if len(free) < MIN_SETTLED:
        return None
    n = len(cluster.members)
    types = _types_of(free, _reduced_median(np.array([cluster.cell])), triclinic.lattice)
    different = {found.bravais: found for found in types}
    tried = [_tried(found, n, s0, sigma_q, hits) for found in different.values()]
    best = min(candidate.log10_e.sum() for candidate in tried)
    enough = AS_GOOD - FOR_ONE_ORIENTATION / n_orientations(free, triclinic.lattice)
    as_good = [candidate for candidate in tried if candidate.log10_e.sum() <= enough * best]
    return max(as_good, key=lambda candidate: len(candidate.type.space_group.operations().sym_ops))


def _indexer(
    cell: UnitCell, space_group: gemmi.SpaceGroup, s0: NDArray[np.float64], sigma_q: float
) -> Indexer:
    """For one lattice of a frame, in any of the ways in which a nearly symmetric cell may be taken."""
    return Indexer(search_lattice(cell, space_group), s0, sigma_q, max_lattices=1, min_gap=-math.inf)


def _tried(
    found: LatticeType,
    n_seeds: int,
    s0: NDArray[np.float64],
    sigma_q: float,
    hits: Sequence[SpotVectors],
) -> Candidate:
    """A candidate with what it makes of each hit; a cell that had to be strained to fit counts less."""
    indexer = _indexer(found.cell, found.space_group, s0, sigma_q)
    log10_e, fraction, cells = np.zeros(len(hits)), np.zeros(len(hits)), np.full((len(hits), 6), np.nan)
    for i, hit in enumerate(hits):
        row = _indexed(indexer, hit)
        if row is not None:
            cells[i] = cell_of(row.a_primitive @ indexer.lattice.to_conventional)
            strain = np.abs(cells[i, :3] / np.array(found.cell[:3]) - 1.0).max()
            log10_e[i] = min(0.0, row.log10_e + 0.5 * np.log10(np.e) * (strain / USUAL_STRAIN) ** 2)
            fraction[i] = row.fraction
    return Candidate(found, n_seeds, log10_e, fraction, cells)


def _types_of(
    a_matrices: Sequence[NDArray[np.float64]], seed: UnitCell, lattice: SearchLattice
) -> tuple[LatticeType, ...]:
    """Bravais types of the median cell: the highest that its errors leave possible, and safe ones.

    Of the ways to index a crystal that is nearly symmetric the one is taken that fits its errors, which
    so have the same sign on all frames and do not average out: the spread counts, not the error of the
    mean. An error of the geometry distorts the cells of crystals that lie alike in the same way, so it
    counts how many orientations there are.
    """
    cells = np.array([cell_of(a) for a in a_matrices])
    n = n_orientations(a_matrices, lattice)
    spread = max(1.5, 4.0 / np.sqrt(n)) * robust_sigmas(cells)
    median = _reduced_median(cells)
    length, angle = 0.003 * (1 + 3 / n), 0.25 * (1 + 3 / n)
    wide = max(length, float((spread[:3] / cells[0, :3]).max())), max(angle, float(spread[3:].max()))
    narrow = length, angle
    return lattice_type(median, *wide), lattice_type(median, *narrow), lattice_type(seed, *narrow)


def n_orientations(a_matrices: Sequence[NDArray[np.float64]], lattice: SearchLattice) -> int:
    """How many of the orientations differ, other settings of a nearly symmetric lattice not counted."""
    nearly = np.concatenate([lattice.rotations, lattice.pseudo_rotations])
    different: list[NDArray[np.float64]] = []
    for a in a_matrices:
        if all(misorientation_deg(a, other, lattice.b, nearly) > DIFFERENT_DEG for other in different):
            different.append(a)
    return len(different)


def _reduced_median(cells: NDArray[np.float64]) -> UnitCell:
    """Niggli-reduced cell of the median metric."""
    median = np.median([metric_of((c[0], c[1], c[2], c[3], c[4], c[5])) for c in cells], axis=0)
    return cell_of(real_space(reduced(np.linalg.cholesky(median).astype(np.float64))))


def _indexed(indexer: Indexer, hit: SpotVectors) -> _Found | None:
    found, _ = indexer.index(hit.q, hit.snr)
    if not found:
        return None
    a = found[0].a_primitive
    log10_e, n = log10_chance_of_cell(hit.q, indexer.s0, indexer.sigma_q, real_space(a))
    return _Found(a, log10_e, n / len(hit.q))


def _freely_fitted(indexer: Indexer, hit: SpotVectors) -> NDArray[np.float64] | None:
    """A of the primitive cell, fitted to the spots of a hit that it indexes without any restraint."""
    found, _ = indexer.index(hit.q, hit.snr)
    if not found:
        return None
    a = found[0].a_primitive.copy()
    n = refine_freely(hit.q, indexer.s0, indexer.sigma_q, ROUNDS, a)
    before, after = (np.linalg.norm(real_space(m), axis=1) for m in (found[0].a_primitive, a))
    is_near = np.all(np.abs(after / before - 1.0) < LENGTH_TOLERANCE)
    return a if n >= MIN_SPOTS and is_near else None


def is_same(first: Candidate, second: Candidate) -> bool:
    """Whether two candidates settled to the same cell."""
    metrics = [_primitive_metric(c.type) for c in (first, second)]
    return same_lattice(*metrics, length_tolerance=0.01, angle_tolerance_deg=1.0) is not None


def _primitive_metric(found: LatticeType) -> NDArray[np.float64]:
    to_primitive = np.linalg.inv(found.basis)
    return to_primitive @ metric_of(found.cell) @ to_primitive.T


def robust_sigmas(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each column from the median of absolute deviations."""
    return 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
