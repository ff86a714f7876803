"""Down-sampling, so that the page stays small however many frames there are."""

import numpy as np
from numpy.typing import NDArray

TARGET_BINS = 60
MIN_PER_BIN = 25
COUNT_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def frames_per_bin(n_frames: int) -> int:
    """Width 1, 2, 5, 10, 20 ... that gives at most 60 bins, of 25 frames or more unless there are few.

    Examples
    --------
    >>> [frames_per_bin(n) for n in (0, 1, 19, 2000, 100_000)]
    [1, 1, 5, 50, 2000]
    """
    wanted = max(n_frames / TARGET_BINS, min(MIN_PER_BIN, n_frames / 5), 1.0)
    decade = 10 ** int(np.floor(np.log10(wanted)))
    return next(int(step * decade) for step in (1, 2, 5, 10) if step * decade >= wanted)


def on_count_axis(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where counts lie on a logarithmic axis that has room for zero.

    Examples
    --------
    >>> on_count_axis(np.array([0, 1, 10])).round(2).tolist()
    [-0.3, 0.0, 1.0]
    """
    return np.log10(np.maximum(n, 0.5))


def count_bins(largest: int, n_bins: int = 36) -> NDArray[np.int64]:
    """Edges of bins for counts: one for zero, then about equal on a logarithmic axis.

    Examples
    --------
    >>> count_bins(4).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    grown = np.unique(np.geomspace(1, max(largest, 1) + 1, n_bins).round().astype(np.int64))
    return np.concatenate([[0], grown])


def even_sample(n: int, at_most: int) -> NDArray[np.int64]:
    """Rows spread evenly over a table of ``n``.

    Examples
    --------
    >>> even_sample(5, 3).tolist()
    [0, 2, 4]
    """
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).astype(np.int64)) if n else np.empty(0, np.int64)


def value_bins(values: NDArray[np.float64], also: tuple[float, ...] = ()) -> NDArray[np.float64]:
    """Edges of a histogram over the bulk of the values and the values ``also``.

    The bulk is median +- 8 robust standard deviations, so that an outlier does not squeeze the rest.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.linspace(0.0, 1.0, 2)
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    low, high = float(values.min()), float(values.max())
    if spread > 0:
        low, high = max(low, middle - 8 * spread), min(high, middle + 8 * spread)
    low, high = min(low, *also, high), max(high, *also, low)
    if high - low <= 1e-9 * max(abs(middle), 1e-3):  # all the same
        half = max(abs(middle) * 1e-3, 1e-3)
        low, high = low - half, high + half
    n_bins = int(np.clip(2 * np.sqrt(len(values)), 8, 50))
    return np.linspace(low, high, n_bins + 1)
