"""Crystal forms among the cells of many indexed lattices.

All cells are split in two, again and again, as long as the halves lie further apart than one normal
population that was cut could make them, and as long as few cells lie between them. So one population
stays one, whatever its number, and the cost grows with n log n.
"""

import numpy as np
from numpy.typing import NDArray

MIN_SEPARATION = 3.2
"""Distance of two populations in their mean standard deviations..."""
FEW_SEPARATION = 8.0
"""...and this over the square root of the members of the smaller one, which has to be further off."""
CYCLES = 40
"""Of the fit of two normal distributions."""
MIN_MEMBERS, MIN_SHARE = 10, 0.02
"""A population has at least so many cells, and this share of all."""
MAX_BETWEEN = 0.7
"""Density between two populations, relative to that of the thinner one."""
FAR = 8.0
"""A cell further from its population, in robust standard deviations, belongs to none."""
FLOOR = np.array([5e-4, 5e-4, 5e-4, 0.03, 0.03, 0.03])
"""Spread below which cells count as equal: relative for lengths, degrees for angles."""


def cell_populations(cells: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) number of the population of each cell: 1 is the largest, 0 is none.

    Parameters
    ----------
    cells : (n, 6) array
        a b c in Å, alpha beta gamma in degrees, all in one setting.
    """
    n = len(cells)
    label = np.zeros(n, np.int64)
    if n == 0:
        return label
    centre = np.median(cells, axis=0)
    scaled = (cells - centre) / np.concatenate([centre[:3], np.ones(3)]) / FLOOR
    fewest = max(MIN_MEMBERS, int(np.ceil(MIN_SHARE * n)))
    groups, whole = [np.arange(n)], []
    while groups:
        group = groups.pop()
        halves = _halves(scaled[group], fewest)
        if halves is None:
            whole.append(group)
        else:
            groups += [group[halves], group[~halves]]
    whole.sort(key=lambda group: -len(group))
    for number, group in enumerate(whole, start=1):
        values = scaled[group]
        off = np.abs(values - np.median(values, axis=0)) / _spread(values)
        label[group[off.max(axis=1) <= FAR]] = number
    return label


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Robust standard deviation of each column, at least 1."""
    return np.maximum(1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0), 1.0)


def _halves(values: NDArray[np.float64], fewest: int) -> NDArray[np.bool_] | None:
    """(n,) which values belong to the first of two populations; None if there is one only."""
    if len(values) < 2 * fewest:
        return None
    middle, spread = np.median(values, axis=0), _spread(values)
    standard = np.clip((values - middle) / spread, -20.0, 20.0)
    moving = np.abs(values - middle).max(axis=0) > 3.0
    if not moving.any():
        return None
    _, _, axes = np.linalg.svd(standard[:, moving] - standard[:, moving].mean(axis=0), full_matrices=False)
    directions = [*np.eye(values.shape[1])[moving]]
    main = np.zeros(values.shape[1])
    main[moving] = axes[0] / spread[moving]
    directions.append(main)
    best, widest = None, 0.0
    for direction in directions:
        along = values @ direction
        low = along < _two_normals(along, _best_cut(along, fewest))
        smaller = min(int(low.sum()), int((~low).sum()))
        if smaller < fewest:
            continue
        separation = _separation(along[low], along[~low])
        needed = max(widest, MIN_SEPARATION + FEW_SEPARATION / np.sqrt(smaller))
        if separation > needed and _is_gap(along, low):
            best, widest = low, separation
    return best


def _best_cut(values: NDArray[np.float64], fewest: int) -> float:
    """Return the value that divides best (Otsu: the largest variance between the halves)."""
    ordered = np.sort(values)
    n = len(ordered)
    k = np.arange(fewest, n - fewest + 1)
    sums = np.cumsum(ordered)
    means = sums[k - 1] / k, (sums[-1] - sums[k - 1]) / (n - k)
    between = k * (n - k) * (means[0] - means[1]) ** 2
    return float(ordered[k[int(np.argmax(between))]])


def _two_normals(values: NDArray[np.float64], cut: float) -> float:
    """Return the value at which two normal distributions fitted to the values are equally likely.

    Expectation maximisation with one width for both, from a cut to start with.
    """
    share = (values < cut).astype(np.float64)
    first = second = 0.0
    for _ in range(CYCLES):
        n = share.sum()
        if n < 2.0 or n > len(values) - 2.0:
            return cut
        first, second = float(share @ values / n), float((1 - share) @ values / (len(values) - n))
        variance = share @ (values - first) ** 2 + (1 - share) @ (values - second) ** 2
        variance = max(float(variance / len(values)), 1e-12)
        if second - first < 1e-9:
            return cut
        cut = 0.5 * (first + second) + variance / (second - first) * np.log(n / (len(values) - n))
        exponent = np.clip((values - cut) * (second - first) / variance, -50.0, 50.0)
        share = 1.0 / (1.0 + np.exp(exponent))
    return float(cut)


def _separation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Distance of two medians in mean standard deviations, robust (Ashman's D)."""
    if len(first) == 0 or len(second) == 0:
        return 0.0
    spreads = [1.4826 * np.median(np.abs(part - np.median(part))) for part in (first, second)]
    floor = 1e-9 + 1e-3 * float(np.ptp(np.concatenate([first, second])))
    mean = max(float(np.sqrt(np.mean(np.square(spreads)))), floor)
    return float(abs(np.median(first) - np.median(second)) / mean)


def _is_gap(values: NDArray[np.float64], low: NDArray[np.bool_]) -> bool:
    """Whether values are rare between the halves, compared with the middle of the thinner half."""
    centres = np.median(values[low]), np.median(values[~low])
    width = 0.15 * abs(centres[1] - centres[0])

    def count(x: float) -> int:
        return int((np.abs(values - x) < width).sum())

    thinner = min(count(float(c)) for c in centres)
    steps = np.linspace(centres[0], centres[1], 15)[3:-3]
    return min(count(float(x)) for x in steps) < MAX_BETWEEN * thinner
