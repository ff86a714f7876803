"""The scale and B between two sets of intensities."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_N_SHELLS = 10
_MIN_PER_SHELL = 20
_N_CYCLES = 3


@dataclass(frozen=True)
class RelativeScale:
    """What one set must be multiplied by to be on the other's scale: k exp(-2 B s²)."""

    k: float
    b_factor: float
    """Å²; 0 where there are too few reflections to tell."""

    def factor(self, d: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factor of each intensity; ``d`` in Å."""
        return self.k * np.exp(-2 * self.b_factor * 0.25 / d**2)


def relative_scale(
    d: NDArray[np.float64], target: NDArray[np.float64], intensity: NDArray[np.float64]
) -> RelativeScale:
    """Scale ``intensity`` to ``target`` by the means of shells, which noise does not bias as it does ratios.

    A line through ln(sum target / sum intensity) against s² of shells with equal numbers of reflections.

    Parameters
    ----------
    d : (n,) array
        Spacings in Å.
    target, intensity : (n,) arrays
        nan where not measured; only reflections in both count.

    Returns
    -------
    RelativeScale
        k is nan where the two have nothing in common that is positive on average.

    Examples
    --------
    >>> d = np.linspace(1.5, 20.0, 500)
    >>> found = relative_scale(d, 3.0 * np.exp(-2 * 7.0 * 0.25 / d**2), np.ones(500))
    >>> round(found.k, 2), round(found.b_factor, 1)
    (3.0, 7.0)
    """
    both = np.isfinite(target) & np.isfinite(intensity)
    s_squared, x, y = 0.25 / d[both] ** 2, intensity[both], target[both]
    log_k, b_factor = 0.0, 0.0
    for _ in range(_N_CYCLES):  # within a shell the two fall off alike only once they are scaled
        change, change_b = _line(s_squared, x * np.exp(log_k - 2 * b_factor * s_squared), y)
        log_k, b_factor = log_k + change, b_factor + change_b
    return RelativeScale(float(np.exp(log_k)), b_factor)


def _line(
    s_squared: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[float, float]:
    """Logarithm of the scale, and B, from the sums of shells."""
    n_shells = max(min(_N_SHELLS, len(x) // _MIN_PER_SHELL), 1)
    shells = np.array_split(np.argsort(s_squared, kind="stable"), n_shells)
    ratio = np.array([_log_ratio(y[shell].sum(), x[shell].sum()) for shell in shells])
    usable = np.isfinite(ratio)
    if usable.sum() < 2:
        return _log_ratio(y.sum(), x.sum()), 0.0
    middle = np.array([s_squared[shell].mean() for shell in shells])
    slope, intercept = np.polyfit(middle[usable], ratio[usable], 1)
    return float(intercept), float(-0.5 * slope)


def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log(numerator / denominator) if numerator > 0 and denominator > 0 else math.nan
