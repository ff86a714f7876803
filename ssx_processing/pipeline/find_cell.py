"""The cell of a crystal that nobody knows, from the spots of some hits.

`find_cells` proposes a primitive cell for each of the best frames, gathers those that agree, and then
indexes all hits with each candidate as if it were known: what it explains there is its figure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.cell_clusters import cluster_cells
from ssx_processing.kernels.cell_search import ProposedCell, propose_cell, reduced
from ssx_processing.kernels.indexing import strongest_by_resolution
from ssx_processing.kernels.lattice_comparison import cell_of_metric, metric_of, multiple_of
from ssx_processing.kernels.lattice_type import lattice_type
from ssx_processing.kernels.symmetry import symmetrised_cell
from ssx_processing.kernels.unit_cell import b_matrix, primitive_transform, real_space
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.cell_candidates import (
    MIN_SPOTS,
    Candidate,
    SpotVectors,
    is_same,
    robust_sigmas,
    settled,
)

Progress = Callable[[int, int], None]
MIN_SIGNIFICANCE = 22.0
"""-log10 E from which a frame's cell is believed; noise reaches 18."""
MIN_SEEDS = 2
"""Frames on which the same cell is found without knowing it; one alone proves nothing."""
MAX_SEARCHED = 80
"""Best frames on which a cell is sought."""
ENOUGH_ALIKE = 30
"""With so many frames that agree the search ends."""
MAX_SPOTS = 150
"""Strongest spots used of a frame."""
MAX_CANDIDATES = 12
"""Clusters, the largest first, that are tried on all hits."""
NEARLY = 0.02, 2.0
"""Change of lengths and angles (degrees) up to which a symmetry is nearly there."""
MIN_FRAMES, MIN_SHARE = 3, 0.03
"""A cell that explains fewer hits better than any other is no proposal."""


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
    clusters = [c for c in cluster_cells([seed.cell for seed in found]) if len(c.members) >= MIN_SEEDS]
    candidates: list[Candidate] = []
    for cluster in clusters[:MAX_CANDIDATES]:
        candidate = settled(cluster, usable, s0, sigma_q)
        if candidate is not None and not any(is_same(candidate, other) for other in candidates):
            candidates.append(candidate)
    kept, owner = _compete(candidates, len(hits))
    proposals = [_proposal(candidate, owner == n, len(hits)) for n, candidate in enumerate(kept)]
    proposals.sort(key=lambda proposal: -proposal.n_frames)
    proposals = _without_multiples(proposals)
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


def _compete(candidates: Sequence[Candidate], n_hits: int) -> tuple[list[Candidate], NDArray[np.int64]]:
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


def _proposal(candidate: Candidate, mine: NDArray[np.bool_], n_hits: int) -> CellProposal:
    cells = candidate.cells[mine]
    name = candidate.type.space_group.xhm()
    a, b, c, alpha, beta, gamma = (float(x) for x in np.median(cells, axis=0))
    s = robust_sigmas(cells)
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


def _without_multiples(proposals: Sequence[CellProposal]) -> list[CellProposal]:
    """Leave out what is a part or a multiple of a cell that explains more than twice as many hits."""
    kept: list[CellProposal] = []
    for proposal in proposals:
        metric = _reduced_metric_of(proposal)
        for other in kept:
            of_other = _reduced_metric_of(other)
            related = multiple_of(metric, of_other) or multiple_of(of_other, metric)
            if related and proposal.n_frames < 0.5 * other.n_frames:
                break
        else:
            kept.append(proposal)
    return kept


def _with_notes(proposals: Sequence[CellProposal]) -> list[CellProposal]:
    """Say where a cell is a multiple of another, or nearly more symmetric than it was taken for."""
    metrics = [_reduced_metric_of(proposal) for proposal in proposals]
    noted: list[CellProposal] = []
    for i, proposal in enumerate(proposals):
        notes: list[str] = []
        for j, other in enumerate(proposals):
            n = multiple_of(metrics[i], metrics[j]) if j != i else None
            if n:
                notes.append(f"its primitive cell is {n} times that of proposal {j + 1} ({other.lattice})")
        wider = lattice_type(cell_of_metric(metrics[i]), *NEARLY)
        if wider.bravais != proposal.lattice:
            cell = " ".join(f"{x:.1f}" for x in wider.cell)
            notes.append(f"nearly {wider.bravais} {cell}")
        noted.append(replace(proposal, note="; ".join(notes)))
    return noted


def _reduced_metric_of(proposal: CellProposal) -> NDArray[np.float64]:
    """Metric of the Niggli-reduced primitive cell."""
    group = gemmi.SpaceGroup(proposal.space_group)
    to_primitive = primitive_transform(proposal.cell, group)
    basis = reduced(to_primitive.T @ real_space(b_matrix(proposal.cell)))
    return basis @ basis.T
