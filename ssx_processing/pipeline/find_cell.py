"""The cell of a crystal that nobody knows, from the spots of some hits.

`find_cells` proposes a primitive cell for each of the best frames, gathers those that agree, and then
indexes all hits with each candidate as if it were known: what it explains there is its figure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.cell_clusters import CellCluster, cluster_cells
from ssx_processing.kernels.cell_search import ProposedCell, log10_chance_of_cell, propose_cell, reduced
from ssx_processing.kernels.indexing import Indexer, strongest_by_resolution
from ssx_processing.kernels.lattice_comparison import metric_of, multiple_of, same_lattice
from ssx_processing.kernels.lattice_type import LatticeType, lattice_type
from ssx_processing.kernels.symmetry import symmetrised_cell
from ssx_processing.kernels.unit_cell import cell_of, real_space, search_lattice
from ssx_processing.models import UnitCell

Progress = Callable[[int, int], None]
MIN_SIGNIFICANCE = 22.0
"""-log10 E from which a frame's cell is believed; noise reaches 18."""
MAX_SEARCHED = 80
"""Best frames on which a cell is sought."""
ENOUGH_ALIKE = 30
"""With so many frames that agree the search ends."""
MAX_SPOTS = 150
"""Strongest spots used of a frame."""
MIN_SPOTS = 10
MAX_CANDIDATES = 12
"""Clusters, the largest first, that are tried on all hits."""
MAX_SETTLED = 60
"""Hits used to measure the candidate's cell without constraints."""
MIN_FRAMES, MIN_SHARE = 3, 0.03
"""A cell that explains fewer hits better than any other is no proposal."""


@dataclass(frozen=True)
class SpotVectors:
    """Spots of one hit."""

    q: NDArray[np.float64]
    """(n, 3) scattering vectors, 1/Å."""
    snr: NDArray[np.float64]
    """(n,)."""


@dataclass(frozen=True)
class CellProposal:
    """A cell, and how much of the data it explains."""

    cell: UnitCell
    """Conventional, median over the hits it indexes, obeying the lattice's symmetry."""
    lattice: str
    """Bravais type as Pearson's symbol."""
    space_group: str
    """The highest symmetry that the lattice allows, without screw axes."""
    n_frames: int
    """Hits that it indexes, and explains better than other proposals."""
    share: float
    """n_frames / hits."""
    explained: float
    """Median fraction of the spots of these hits."""
    spread: UnitCell
    """Robust standard deviation of each parameter over these hits."""
    n_seeds: int
    """Frames on which the search found it without knowing it."""
    cells: NDArray[np.float64]
    """(n_frames, 6) of each of these hits."""
    note: str = ""
    """What a person should think of: a multiple of another cell, a symmetry nearly there."""

    @property
    def figure(self) -> float:
        """Share of hits times fraction of spots: 1 where every spot of every hit is explained."""
        return self.share * self.explained

    @property
    def volume(self) -> float:
        """Of the conventional cell, Å³."""
        return float(np.sqrt(np.linalg.det(metric_of(self.cell))))


@dataclass(frozen=True)
class CellSearch:
    """What a search found."""

    n_hits: int
    n_searched: int
    """Hits on which a cell was sought."""
    n_found: int
    """Of these, ones with a significant cell."""
    proposals: tuple[CellProposal, ...]
    """The one that explains most hits first."""


@dataclass(frozen=True)
class _Candidate:
    """A lattice that is tried on all hits."""

    type: LatticeType
    indexer: Indexer
    n_seeds: int
    log10_e: NDArray[np.float64]
    """(n_hits,) 0 where it does not index."""
    fraction: NDArray[np.float64]
    """(n_hits,) of the spots."""
    cells: NDArray[np.float64]
    """(n_hits, 6) nan where it does not index."""


def find_cells(
    hits: Sequence[SpotVectors],
    s0: NDArray[np.float64],
    sigma_q: float,
    *,
    min_edge: float = 20.0,
    max_edge: float = 350.0,
    progress: Progress | None = None,
) -> CellSearch:
    """Find the cells that explain the hits.

    Parameters
    ----------
    s0 : (3,) array
        Incident wave vector, 1/Å.
    sigma_q
        Standard error of a spot across its ray, 1/Å.
    min_edge, max_edge
        Shortest and longest edge of the primitive cell, Å.
    progress
        Called with steps done and steps to do.
    """
    usable = [_strongest(hit) for hit in hits if len(hit.q) >= MIN_SPOTS]
    found, n_searched = _seeds(usable, s0, sigma_q, (min_edge, max_edge), progress)
    clusters = cluster_cells([seed.cell for seed in found])[:MAX_CANDIDATES]
    candidates: list[_Candidate] = []
    for cluster in clusters:
        candidate = _settled(cluster, usable, s0, sigma_q)
        if candidate is not None and not any(_same(candidate, other) for other in candidates):
            candidates.append(candidate)
    kept, owner = _compete(candidates, len(hits))
    proposals = [_proposal(candidate, owner == n, len(hits)) for n, candidate in enumerate(kept)]
    proposals.sort(key=lambda proposal: -proposal.figure)
    return CellSearch(len(hits), n_searched, len(found), tuple(_with_notes(proposals)))


def _strongest(hit: SpotVectors) -> SpotVectors:
    chosen = strongest_by_resolution(hit.q, hit.snr, MAX_SPOTS)
    return SpotVectors(np.ascontiguousarray(hit.q[chosen], np.float64), hit.snr[chosen])


def _seeds(
    hits: Sequence[SpotVectors],
    s0: NDArray[np.float64],
    sigma_q: float,
    edges: tuple[float, float],
    progress: Progress | None,
) -> tuple[list[ProposedCell], int]:
    """Cells of the frames with most spots, until enough of them agree; the most significant first."""
    order = sorted(range(len(hits)), key=lambda i: -len(hits[i].q))[:MAX_SEARCHED]
    found: list[ProposedCell] = []
    n_searched = 0
    for i in order:
        n_searched += 1
        proposal = propose_cell(hits[i].q, s0, sigma_q, *edges)
        if progress is not None:
            progress(n_searched, len(order))
        if proposal is None or -proposal.log10_e < MIN_SIGNIFICANCE:
            continue
        found.append(proposal)
        if len(found) >= ENOUGH_ALIKE and n_searched % 10 == 0:
            largest = cluster_cells([seed.cell for seed in found])[0]
            if len(largest.members) >= ENOUGH_ALIKE:
                break
    return sorted(found, key=lambda seed: seed.log10_e), n_searched


def _settled(
    cluster: CellCluster, hits: Sequence[SpotVectors], s0: NDArray[np.float64], sigma_q: float
) -> _Candidate | None:
    """Measure a cluster's cell on more frames without constraints, decide on its symmetry, try it on all."""
    triclinic = Indexer(search_lattice(cluster.cell, gemmi.SpaceGroup("P 1")), s0, sigma_q, max_lattices=1)
    best = sorted(hits, key=lambda hit: -len(hit.q))[:MAX_SETTLED]
    cells = [cell for cell in (_indexed(triclinic, hit)[2] for hit in best) if np.isfinite(cell[0])]
    if len(cells) < MIN_FRAMES:
        return None
    metrics = np.array([metric_of((c[0], c[1], c[2], c[3], c[4], c[5])) for c in cells])
    median = np.median(metrics, axis=0)
    error = _robust_sigma(np.array(cells)) / np.sqrt(len(cells))
    found = _type_of(median, float((error[:3] / np.array(cells)[0, :3]).max()), float(error[3:].max()))
    indexer = Indexer(search_lattice(found.cell, found.space_group), s0, sigma_q, max_lattices=1)
    rows = [_indexed(indexer, hit) for hit in hits]
    return _Candidate(
        found,
        indexer,
        len(cluster.members),
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
    )


def _type_of(metric: NDArray[np.float64], length_error: float, angle_error: float) -> LatticeType:
    """Bravais type of a primitive metric, its symmetry judged against the errors of the cell."""
    basis = np.linalg.cholesky(metric)  # rows are vectors with this metric
    cell = cell_of(real_space(reduced(basis)))
    return lattice_type(cell, max(0.003, 4.0 * length_error), max(0.25, 4.0 * angle_error))


def _indexed(indexer: Indexer, hit: SpotVectors) -> tuple[float, float, NDArray[np.float64]]:
    """log10 E of the cell (not of the orientation), fraction of spots, and conventional cell; 0, 0, nan."""
    nothing = 0.0, 0.0, np.full(6, np.nan)
    found = indexer.index(hit.q, hit.snr)
    if not found:
        return nothing
    a = found[0].a_primitive
    log10_e, n = log10_chance_of_cell(hit.q, indexer.s0, indexer.sigma_q, real_space(a))
    return log10_e, n / len(hit.q), np.array(cell_of(a @ indexer.lattice.to_conventional))


def _same(first: _Candidate, second: _Candidate) -> bool:
    """Whether two candidates settled to the same cell."""
    metrics = [_primitive_metric(c.type) for c in (first, second)]
    return same_lattice(*metrics, length_tolerance=0.01, angle_tolerance_deg=1.0) is not None


def _primitive_metric(found: LatticeType) -> NDArray[np.float64]:
    to_primitive = np.linalg.inv(found.basis)
    return to_primitive @ metric_of(found.cell) @ to_primitive.T


def _compete(candidates: Sequence[_Candidate], n_hits: int) -> tuple[list[_Candidate], NDArray[np.int64]]:
    """Candidates that explain enough hits better than the others, and which of them each hit belongs to."""
    kept = list(candidates)
    while kept:
        log10_e = np.array([candidate.log10_e for candidate in kept])
        owner = np.where(log10_e.min(axis=0) < 0.0, log10_e.argmin(axis=0), -1)
        own = np.bincount(owner[owner >= 0], minlength=len(kept))
        if own.min() >= max(MIN_FRAMES, MIN_SHARE * n_hits):
            return kept, owner
        del kept[int(np.argmin(own))]
    return [], np.empty(0, np.int64)


def _proposal(candidate: _Candidate, mine: NDArray[np.bool_], n_hits: int) -> CellProposal:
    cells = candidate.cells[mine]
    name = candidate.type.space_group.xhm()
    a, b, c, alpha, beta, gamma = (float(x) for x in np.median(cells, axis=0))
    s = _robust_sigma(cells)
    return CellProposal(
        cell=symmetrised_cell((a, b, c, alpha, beta, gamma), name),
        lattice=candidate.type.bravais,
        space_group=name,
        n_frames=int(mine.sum()),
        share=float(mine.sum() / n_hits),
        explained=float(np.median(candidate.fraction[mine])),
        spread=(float(s[0]), float(s[1]), float(s[2]), float(s[3]), float(s[4]), float(s[5])),
        n_seeds=candidate.n_seeds,
        cells=cells,
    )


def _robust_sigma(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)


def _with_notes(proposals: Sequence[CellProposal]) -> list[CellProposal]:
    return list(proposals)
