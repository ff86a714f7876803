"""Which lattices are merged, and why the others are not."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.kernels.merging import BAD_SCALE, LOW_CC
from ssx_processing.pipeline.chunk_tables import CELL_COLUMNS

CELL_OUTLIER = "cell far from the median"
TOO_FEW = "too few observations"
REASON_OF_VERDICT = {BAD_SCALE: "scale not positive", LOW_CC: "low correlation"}

_MIN_FOR_CELLS = 5  # a median and a robust deviation of fewer say nothing
_LENGTH_FLOOR = 5e-4
_ANGLE_FLOOR_DEG = 0.03


def cell_deviation(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest deviation of each cell's parameters from their medians, in robust standard deviations.

    1.4826 times the median absolute deviation, but never less than 0.05 % of a length or 0.03 degrees,
    so that parameters which are fixed by symmetry or hardly vary exclude nothing.

    Parameters
    ----------
    cells : (n, 6) array
        a b c in Å, alpha beta gamma in degrees.

    Examples
    --------
    >>> cells = np.tile([79.0, 79.0, 38.0, 90.0, 90.0, 90.0], (6, 1))
    >>> cells[0, 2] = 38.19
    >>> cell_deviation(cells).round(3).tolist()
    [10.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    median = np.median(cells, axis=0)
    robust = 1.4826 * np.median(np.abs(cells - median), axis=0)
    floor = np.concatenate([_LENGTH_FLOOR * median[:3], np.full(3, _ANGLE_FLOOR_DEG)])
    return np.max(np.abs(cells - median) / np.maximum(robust, floor), axis=1)


def is_cell_outlier(lattices: pd.DataFrame, max_deviation: float) -> NDArray[np.bool_]:
    """Lattices whose cell is further from the median than allowed; none among fewer than five."""
    if len(lattices) < _MIN_FOR_CELLS:
        return np.zeros(len(lattices), np.bool_)
    return cell_deviation(lattices[CELL_COLUMNS].to_numpy(np.float64)) > max_deviation
