"""Whether two primitive cells describe the same lattice, or one a part of the other's.

Reduced cells jump between settings when a parameter passes a boundary, so cells are not compared
number by number: a basis of the second lattice is sought among the short vectors of the first.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import UnitCell

LENGTH_TOLERANCE = 0.015
ANGLE_TOLERANCE_DEG = 1.5
_COEFFICIENTS = np.array([n for n in itertools.product(range(-2, 3), repeat=3) if any(n)])
MULTIPLES = (2, 3, 4)


def metric_of(cell: UnitCell) -> NDArray[np.float64]:
    """(3, 3) array: scalar products of a, b, c in Å².

    Examples
    --------
    >>> metric_of((10.0, 20.0, 40.0, 90.0, 90.0, 90.0)).round(6).tolist()
    [[100.0, 0.0, 0.0], [0.0, 400.0, 0.0], [0.0, 0.0, 1600.0]]
    """
    lengths = np.array(cell[:3])
    alpha, beta, gamma = np.cos(np.deg2rad(cell[3:]))
    cosines = np.array([[1.0, gamma, beta], [gamma, 1.0, alpha], [beta, alpha, 1.0]])
    return cosines * np.outer(lengths, lengths)


def cell_of_metric(metric: NDArray[np.float64]) -> UnitCell:
    """Unit cell of a metric.

    Examples
    --------
    >>> [round(x, 6) for x in cell_of_metric(metric_of((50.0, 60.0, 70.0, 90.0, 100.0, 90.0)))]
    [50.0, 60.0, 70.0, 90.0, 100.0, 90.0]
    """
    lengths = np.sqrt(np.diag(metric))
    cosines = np.clip(metric / np.outer(lengths, lengths), -1.0, 1.0)
    angles = np.rad2deg(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    a, b, c, alpha, beta, gamma = (float(x) for x in (*lengths, *angles))
    return a, b, c, alpha, beta, gamma


def same_lattice(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    length_tolerance: float = LENGTH_TOLERANCE,
    angle_tolerance_deg: float = ANGLE_TOLERANCE_DEG,
) -> NDArray[np.int64] | None:
    """Return the (3, 3) rows of whole numbers that make the second basis from the first; None if none do.

    Parameters
    ----------
    first, second : (3, 3) array
        Metrics of primitive cells, reduced or nearly so.
    length_tolerance
        Largest relative difference of lengths.
    angle_tolerance_deg
        Largest difference of angles.
    """
    volumes = np.sqrt(np.linalg.det(first)), np.sqrt(np.linalg.det(second))
    if abs(volumes[0] / volumes[1] - 1.0) > 3.5 * length_tolerance + 0.02:
        return None
    products = _COEFFICIENTS @ first @ _COEFFICIENTS.T
    lengths = np.sqrt(np.diag(products))
    wanted = np.sqrt(np.diag(second))
    angles = np.rad2deg(np.arccos(np.clip(products / np.outer(lengths, lengths), -1.0, 1.0)))
    alpha, beta, gamma = cell_of_metric(second)[3:]
    i_, j_, k_ = (np.flatnonzero(np.abs(lengths / w - 1.0) < length_tolerance) for w in wanted)
    fits_ij = np.abs(angles[np.ix_(i_, j_)] - gamma) < angle_tolerance_deg
    fits_ik = np.abs(angles[np.ix_(i_, k_)] - beta) < angle_tolerance_deg
    fits_jk = np.abs(angles[np.ix_(j_, k_)] - alpha) < angle_tolerance_deg
    best, least = None, np.inf
    for i, j in np.argwhere(fits_ij):
        for k in np.flatnonzero(fits_ik[i] & fits_jk[j]):
            chosen = [i_[i], j_[j], k_[k]]
            basis = _COEFFICIENTS[chosen]
            if abs(round(float(np.linalg.det(basis)))) != 1:
                continue
            off = float(np.abs(products[np.ix_(chosen, chosen)] - second).max())
            if off < least:
                best, least = basis, off
    return best


def multiple_of(larger: NDArray[np.float64], smaller: NDArray[np.float64]) -> int | None:
    """How many cells of the smaller lattice make one of the larger, if the larger is a part of its vectors.

    Parameters
    ----------
    larger, smaller : (3, 3) array
        Metrics of primitive cells.

    Examples
    --------
    >>> multiple_of(metric_of((40, 50, 120, 90, 90, 90)), metric_of((40, 50, 60, 90, 90, 90)))
    2
    """
    ratio = float(np.sqrt(np.linalg.det(larger) / np.linalg.det(smaller)))
    for n in MULTIPLES:
        if abs(ratio / n - 1.0) < 0.06 and any(
            same_lattice(reduced_metric(h @ smaller @ h.T), larger) is not None for h in _sublattices(n)
        ):
            return n
    return None


def reduced_metric(metric: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metric of a basis of short vectors of the same lattice, made by subtraction while that shortens."""
    basis = np.eye(3, dtype=np.int64)
    steps = _COEFFICIENTS[np.abs(_COEFFICIENTS).max(axis=1) == 1]
    for _ in range(30):
        changed = False
        for i in range(3):
            options = [s @ basis for s in steps if abs(s[i]) == 1]
            lengths = [o @ metric @ o for o in options]
            shortest = int(np.argmin(lengths))
            if lengths[shortest] < (basis[i] @ metric @ basis[i]) * (1 - 1e-9):
                basis[i] = options[shortest]
                changed = True
        if not changed:
            break
    return basis @ metric @ basis.T


def _sublattices(n: int) -> list[NDArray[np.int64]]:
    """Hermite normal forms of determinant n: every sublattice of index n once."""
    forms = []
    for a, b, c in itertools.product(range(1, n + 1), repeat=3):
        if a * b * c == n:
            forms += [
                np.array([[a, x, y], [0, b, z], [0, 0, c]])
                for x, y, z in itertools.product(range(b), range(c), range(c))
            ]
    return forms
