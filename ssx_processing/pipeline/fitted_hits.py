"""The calibration's hits with their lattices under one geometry, and whether another one fits better."""

import math
from dataclasses import dataclass

import numpy as np

from ssx_processing.models import Lattice, SpotList
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.population import Population


@dataclass
class FittedHits:
    """Lattices of all hits under one geometry."""

    hits: list[SpotList]
    lattices: list[tuple[Lattice, ...]]

    @property
    def every(self) -> list[Lattice]:
        """All lattices."""
        return [lattice for of_frame in self.lattices for lattice in of_frame]

    @property
    def n_frames(self) -> int:
        """Frames with a lattice."""
        return sum(bool(lattices) for lattices in self.lattices)

    @property
    def n_used(self) -> int:
        """Spots that took part in the refinement of a lattice."""
        return sum(int((x.fit.residuals[:, 3] > 0).sum()) for x in self.every)

    @property
    def rmsd_px(self) -> float:
        """Median over the lattices, of the spots that took part."""
        return float(np.median([used_rmsd_px(x) for x in self.every])) if self.every else math.nan


def used_rmsd_px(lattice: Lattice) -> float:
    """Root mean square distance of the spots that took part in a lattice's refinement."""
    used = lattice.fit.residuals[lattice.fit.residuals[:, 3] > 0, :2]
    return float(np.sqrt(np.mean(np.sum(used**2, axis=1)))) if len(used) else math.nan


def judged(processor: FrameProcessor, fitted: FittedHits) -> FittedHits:
    """The lattices refined as if nothing were known of the population, as they were at the start."""
    learnt = processor.population
    processor.set_population(Population())
    lattices = [
        processor.refine_again(lattices, spots).lattices
        for spots, lattices in zip(fitted.hits, fitted.lattices, strict=True)
    ]
    processor.set_population(learnt)
    return FittedHits(fitted.hits, lattices)


def is_worse(start: FittedHits, fitted: FittedHits) -> bool:
    """Fewer frames or spots than before the refinement, or a clearly worse fit where there was one.

    Not fewer lattices: a wrong geometry leaves spots over, in which a second one may be seen.
    """
    ratios = [
        used_rmsd_px(_first(after)) / used_rmsd_px(_first(before))
        for before, after in zip(start.lattices, fitted.lattices, strict=True)
        if before and after
    ]
    fewer = fitted.n_frames < 0.97 * start.n_frames or fitted.n_used < 0.97 * start.n_used
    return fewer or float(np.median(ratios)) > 1.1


def _first(lattices: tuple[Lattice, ...]) -> Lattice:
    """The lattice that explains most."""
    return max(lattices, key=lambda lattice: lattice.n_indexed)
