"""How much the cells of the merged lattices differ: standard deviations, and numbers written with them."""

import math

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS

_NOT_VARIED = 1e-6  # of a length or an angle that symmetry holds


def cell_spread(lattices: pd.DataFrame) -> tuple[float, ...]:
    """Standard deviation of a, b, c (Å), alpha, beta, gamma (degrees) over the merged lattices.

    Of the population: how the crystals differ, which is more than the error of their mean. 0 for
    what the symmetry holds, nan with fewer than two lattices.

    Parameters
    ----------
    lattices
        lattices.parquet of a merge; rows with a filter_reason are not counted. Cells are taken in the
        setting that the lattice was merged in.
    """
    merged = lattices[lattices["filter_reason"] == ""]
    cells = merged[CELL_COLUMNS].to_numpy(np.float64)
    if "reindexing" in merged:
        cells = _reindexed(cells, merged["reindexing"].astype(str).to_numpy())
    if len(cells) < 2:
        return (math.nan,) * 6
    spread = np.std(cells, axis=0, ddof=1)
    return tuple(float(value) if value > _NOT_VARIED else 0.0 for value in spread)


def _reindexed(cells: NDArray[np.float64], triplets: NDArray[np.object_]) -> NDArray[np.float64]:
    cells = cells.copy()
    for i in np.flatnonzero(triplets != "h,k,l"):
        # a change of basis that acts on hkl acts on the axes alike
        cells[i] = gemmi.UnitCell(*cells[i]).changed_basis_backward(gemmi.Op(triplets[i]), False).parameters
    return cells


def with_spread(value: float, spread: float, decimals: int) -> str:
    """Number with its standard deviation in brackets, in units of the last digit.

    Two digits of the deviation where the first is a 1, else one; where there is none, ``decimals``
    decimals, or none of a whole number.

    Examples
    --------
    >>> with_spread(79.1234, 0.0841, 2), with_spread(79.1234, 0.134, 2), with_spread(90.0, 0.0, 2)
    ('79.12(8)', '79.12(13)', '90')
    >>> with_spread(79.1234, 2.4, 2), with_spread(79.1234, 0.096, 2), with_spread(791.2, 24, 2)
    ('79(2)', '79.12(10)', '790(20)')
    """
    if not (math.isfinite(spread) and spread > 0):
        return f"{value:.0f}" if value == round(value) else f"{value:.{decimals}f}"
    power = math.floor(math.log10(spread))
    last = power - 1 if round(spread / 10**power, 1) < 2 else power  # power of ten of the last digit
    shown = round(spread / 10**last)
    if last > 0:
        return f"{round(value, -last):.0f}({shown * 10**last})"
    return f"{value:.{-last}f}({shown})"
