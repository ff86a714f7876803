"""Which lattices are merged, and why the others are not."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.kernels.cell_populations import cell_populations
from ssx_processing.kernels.still_sweep import BAD_SCALE, LOW_CC
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS

CELL_OUTLIER = "cell far from the median"
OTHER_CLUSTER = "other_cell_cluster"
TOO_FEW = "too few observations"
LOWERS_CC_HALF = "lowers CC1/2"
REASON_OF_VERDICT = {BAD_SCALE: "scale not positive", LOW_CC: "low correlation"}

_MIN_FOR_CELLS = 5  # a median and a robust deviation of fewer say nothing
_WORTH_SAYING = 0.05  # Å or degrees
_LENGTH_FLOOR = 5e-4
_ANGLE_FLOOR_DEG = 0.03


def cell_deviation(
    cells: NDArray[np.float64], reference: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Largest deviation of each cell's parameters from the medians, in robust standard deviations.

    1.4826 times the median absolute deviation, but never less than 0.05 % of a length or 0.03 degrees,
    so that parameters which are fixed by symmetry or hardly vary exclude nothing.

    Parameters
    ----------
    cells : (n, 6) array
        a b c in Å, alpha beta gamma in degrees.
    reference : (m, 6) array
        Cells whose medians and deviations count; by default the same.

    Examples
    --------
    >>> cells = np.tile([79.0, 79.0, 38.0, 90.0, 90.0, 90.0], (6, 1))
    >>> cells[0, 2] = 38.19
    >>> cell_deviation(cells).round(3).tolist()
    [10.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    reference = cells if reference is None else reference
    median = np.median(reference, axis=0)
    robust = 1.4826 * np.median(np.abs(reference - median), axis=0)
    floor = np.concatenate([_LENGTH_FLOOR * median[:3], np.full(3, _ANGLE_FLOOR_DEG)])
    return np.max(np.abs(cells - median) / np.maximum(robust, floor), axis=1)


def cell_verdicts(
    lattices: pd.DataFrame, cluster: int | None, max_deviation: float, expected: UnitCell
) -> tuple[NDArray[np.object_], NDArray[np.int64], int]:
    """Why each lattice is left out for its cell, empty where it is not; its cluster; the cluster merged.

    Lattices of the cluster wanted, and those of no cluster, must not be further from the median of that
    cluster than allowed; among fewer than five none is left out.

    Parameters
    ----------
    cluster
        Number of the cluster that is merged, 1 the largest; None: the nearest to the expected cell.
    max_deviation
        In robust standard deviations.
    expected
        Cell that the lattices were indexed with.

    Raises
    ------
    MergeError
        There is no such cluster.
    """
    cells = lattices[CELL_COLUMNS].to_numpy(np.float64)
    clusters = cell_populations(cells)
    reasons = np.full(len(lattices), "", object)
    if cluster is None:
        cluster = nearest_cluster(cells, clusters, expected)
    if len(lattices) < _MIN_FOR_CELLS and cluster == 1:
        return reasons, clusters, cluster
    wanted = clusters == cluster
    if not wanted.any():
        raise MergeError(
            f"there is no cell cluster {cluster}: the cells of {len(lattices)} lattices form "
            f"{clusters.max(initial=0)}; choose another with merging.cell_cluster"
        )
    others = (clusters > 0) & ~wanted
    reasons[others] = OTHER_CLUSTER
    mine = np.flatnonzero(~others)
    deviation = cell_deviation(cells[mine], cells[wanted])
    reasons[mine[deviation > max_deviation]] = CELL_OUTLIER
    return reasons, clusters, cluster


def nearest_cluster(cells: NDArray[np.float64], clusters: NDArray[np.int64], expected: UnitCell) -> int:
    """Number of the cluster whose median cell is nearest to the expected one; 1 % counts like one degree."""
    distances = [
        np.abs(
            (np.median(cells[clusters == k], axis=0) - expected) / [*(0.01 * np.array(expected[:3])), 1, 1, 1]
        )
        for k in range(1, int(clusters.max(initial=0)) + 1)
    ]
    return 1 + int(np.argmin([distance.max() for distance in distances])) if distances else 1


def cluster_words(cells: pd.DataFrame, clusters: NDArray[np.int64], merged: int) -> str:
    """One sentence on the crystal forms there are; empty if there is one only.

    Parameters
    ----------
    cells
        Columns `CELL_COLUMNS`, one row per lattice.
    clusters : (n,) array
        Their clusters.
    merged
        Number of the cluster that is merged.
    """
    n = int(clusters.max(initial=0))
    if n < 2:
        return ""
    medians = [cells.loc[clusters == k, CELL_COLUMNS].median() for k in range(1, n + 1)]
    differing = [name for name in CELL_COLUMNS if np.ptp([m[name] for m in medians]) > _WORTH_SAYING]
    forms = "; ".join(
        f"{k}: {int((clusters == k).sum())} lattices "
        + " ".join(f"{name} {median[name]:.2f}" for name in differing)
        for k, median in enumerate(medians, start=1)
    )
    others = ", ".join(f"--cell-cluster {k}" for k in range(1, n + 1) if k != merged)
    return f"{n} cell clusters ({forms}); number {merged} is merged; the others: ssx merge with {others}"
