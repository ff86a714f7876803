"""Reduced cells of many frames, gathered to those that are the same lattice."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_comparison import cell_of_metric, metric_of, same_lattice
from ssx_processing.models import UnitCell


@dataclass
class CellCluster:
    """Cells that are the same lattice, brought to the setting of the first."""

    members: list[int] = field(default_factory=list)
    """Places in the list of cells."""
    metrics: list[NDArray[np.float64]] = field(default_factory=list)
    """(3, 3) of each member, Å²."""

    @property
    def metric(self) -> NDArray[np.float64]:
        """(3, 3) element by element median."""
        return np.median(self.metrics, axis=0)

    @property
    def cell(self) -> UnitCell:
        """Primitive cell of the median metric."""
        return cell_of_metric(self.metric)


def cluster_cells(cells: Sequence[UnitCell]) -> list[CellCluster]:
    """Gather cells to clusters, the largest first; the earlier of a list are the more trustworthy.

    Each cell joins the first cluster whose median it fits, in whichever setting.

    Parameters
    ----------
    cells
        Reduced primitive cells.
    """
    clusters: list[CellCluster] = []
    for i, cell in enumerate(cells):
        metric = metric_of(cell)
        for cluster in clusters:
            basis = same_lattice(metric, cluster.metric)
            if basis is not None:
                cluster.members.append(i)
                cluster.metrics.append(basis @ metric @ basis.T)
                break
        else:
            clusters.append(CellCluster([i], [metric]))
    return sorted(clusters, key=lambda cluster: -len(cluster.members))
