"""How two merged sets differ, and whether the differences are more than noise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.agreement import cc_half, cc_half_error
from ssx_processing.kernels.relative_scale import RelativeScale, relative_scale
from ssx_processing.kernels.statistics import MergedReflections, shell_edges, shell_of


@dataclass(frozen=True)
class DifferenceStatistics:
    """Differences between two sets in one resolution shell, or of all data; nan where there are none."""

    d_max: float
    """Å."""
    d_min: float
    """Å."""
    n_common: int
    """Reflections measured in both sets."""
    r_iso: float
    """sum |F1 - F2| / (0.5 sum (F1 + F2)), with F = sqrt(max(I, 0))."""
    cc_iso: float
    """Pearson correlation of the intensities."""
    rms_over_sigma: float
    """Root mean square of (I1 - I2) / sigma; 1 if the sets differ by their errors alone."""
    n_pairs: int
    """Reflections in both halves of both sets."""
    cc_difference: float
    """Pearson correlation of I1 - I2 from one half of the lattices with that from the other: 0 for noise."""
    cc_difference_error: float
    """Its standard error."""


@dataclass(frozen=True)
class Differences:
    """Differences between two sets, the second on the scale of the first."""

    shells: tuple[DifferenceStatistics, ...]
    """From low to high resolution."""
    overall: DifferenceStatistics
    scale: RelativeScale
    """What the second set was multiplied by."""


def differences(
    first: MergedReflections, second: MergedReflections, *, d_max: float, d_min: float, n_shells: int
) -> Differences:
    """Compare two sets merged on the same table of unique reflections.

    The half sets must be of separate lattices in both sets, so that noise of one half is not in the other.
    The second set is first brought to the scale of the first: a difference in scale would look like a
    signal, as it is in both halves.
    """
    scale = relative_scale(first.d, first.intensity, second.intensity)
    factor = scale.factor(first.d)
    edges = shell_edges(d_max, d_min, n_shells)
    shell = shell_of(first.d, edges)
    shells = tuple(
        _statistics(first, second, factor, shell == i, (float(edges[i]), float(edges[i + 1])))
        for i in range(n_shells)
    )
    return Differences(shells, _statistics(first, second, factor, shell >= 0, (d_max, d_min)), scale)


def _statistics(
    first: MergedReflections,
    second: MergedReflections,
    factor: NDArray[np.float64],
    inside: NDArray[np.bool_],
    limits: tuple[float, float],
) -> DifferenceStatistics:
    k = factor[inside]
    a, b = first.intensity[inside], k * second.intensity[inside]
    both = np.isfinite(a) & np.isfinite(b)
    sigma = np.hypot(first.sigma[inside], k * second.sigma[inside])
    half_1 = first.half_1[inside] - k * second.half_1[inside]
    half_2 = first.half_2[inside] - k * second.half_2[inside]
    return DifferenceStatistics(
        d_max=limits[0],
        d_min=limits[1],
        n_common=int(both.sum()),
        r_iso=r_iso(a[both], b[both]),
        cc_iso=cc_half(a, b),
        rms_over_sigma=_rms((a - b)[both] / sigma[both]),
        n_pairs=int((np.isfinite(half_1) & np.isfinite(half_2)).sum()),
        cc_difference=cc_half(half_1, half_2),
        cc_difference_error=cc_half_error(half_1, half_2),
    )


def r_iso(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Sum |F1 - F2| / (0.5 sum (F1 + F2)) of intensities on one scale; nan without any.

    Examples
    --------
    >>> round(r_iso(np.array([100.0, 400.0]), np.array([121.0, 361.0])), 4)
    0.0667
    """
    f1, f2 = np.sqrt(np.maximum(first, 0.0)), np.sqrt(np.maximum(second, 0.0))
    total = 0.5 * float((f1 + f2).sum())
    return float(np.abs(f1 - f2).sum()) / total if total > 0 else math.nan


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan
