"""Merging statistics in resolution shells."""

import math
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.agreement import Repeats, RFactors, cc_half, cc_half_error, r_factors_of_sums
from ssx_processing.kernels.anomalous import AnomalousHalves
from ssx_processing.models import ShellStatistics

WILSON_D_MAX = 4.0
"""Å; at lower resolution solvent and secondary structure bend the Wilson plot."""
_MIN_WILSON_SHELLS = 4
_MIN_PER_WILSON_SHELL = 20
_ATOMS_PER_RESIDUE = {"C": 5.0, "N": 1.35, "O": 1.5, "S": 0.04}


@dataclass(frozen=True)
class MergedReflections:
    """All possible unique reflections with what was measured; arrays of n_unique elements.

    nan where nothing was measured.
    """

    d: NDArray[np.float64]
    """Å."""
    n: NDArray[np.int64]
    """Observations merged."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    half_1: NDArray[np.float64]
    """Intensity from one half of the lattices."""
    half_2: NDArray[np.float64]
    """Intensity from the other."""
    repeats: Repeats | None = None
    """Scatter of the observations; without it there are no R factors."""
    anomalous: AnomalousHalves | None = None
    """Friedel mates apart; without it there are no anomalous statistics."""


def shell_edges(d_max: float, d_min: float, n_shells: int) -> NDArray[np.float64]:
    """Limits in Å, from low to high resolution, of shells of equal reciprocal volume.

    Examples
    --------
    >>> shell_edges(np.inf, 2.0, 2).round(3).tolist()
    [inf, 2.52, 2.0]
    """
    cubes = np.linspace(d_max**-3, d_min**-3, n_shells + 1)
    with np.errstate(divide="ignore"):
        edges = cubes ** (-1 / 3)
    edges[0], edges[-1] = d_max, d_min
    return edges


def shell_of(d: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Shell of each reflection; outside the limits -1. Limits belong to the shell of lower resolution."""
    tolerance = 1 + 1e-9  # equivalent reflections differ by rounding
    shell = np.clip(np.searchsorted(-edges, -d, side="left") - 1, 0, len(edges) - 2)
    return np.where((d <= edges[0] * tolerance) & (d * tolerance >= edges[-1]), shell, -1)


def cc_star(cc: float) -> float:
    """Estimated correlation of the full data with the truth, from CC1/2 (Karplus & Diederichs 2012).

    Examples
    --------
    >>> cc_star(1.0), cc_star(-0.1)
    (1.0, nan)
    """
    return float(np.sqrt(2 * cc / (1 + cc))) if cc >= 0 else math.nan


def r_split(half_1: NDArray[np.float64], half_2: NDArray[np.float64]) -> float:
    """Half-set residual sum |I1 - I2| / (sqrt(2) * 0.5 sum (I1 + I2)) over common reflections.

    White et al. (2012), J. Appl. Cryst. 45, 335; nan without common reflections.

    Examples
    --------
    >>> round(r_split(np.array([90.0, 45.0]), np.array([110.0, 55.0])), 4)
    0.1414
    """
    both = np.isfinite(half_1) & np.isfinite(half_2)
    total = 0.5 * float((half_1[both] + half_2[both]).sum())
    if total <= 0:
        return math.nan
    return float(np.abs(half_1[both] - half_2[both]).sum() / (np.sqrt(2.0) * total))


def statistics_of(
    merged: MergedReflections, inside: NDArray[np.bool_], limits: tuple[float, float]
) -> ShellStatistics:
    """Statistics of the reflections ``inside``, whose possible number is how many there are."""
    n = merged.n[inside]
    measured = n > 0
    n_observations, n_reflections, n_possible = int(n.sum()), int(measured.sum()), len(n)
    ratio = merged.intensity[inside][measured] / merged.sigma[inside][measured]
    half_1, half_2 = merged.half_1[inside], merged.half_2[inside]
    cc = cc_half(half_1, half_2)
    r = r_factors_of_sums(n, merged.repeats.inside(inside)) if merged.repeats else RFactors()
    anomalous = merged.anomalous.inside(inside) if merged.anomalous else None
    return ShellStatistics(
        d_max=float(limits[0]),
        d_min=float(limits[1]),
        n_observations=n_observations,
        n_reflections=n_reflections,
        n_possible=n_possible,
        completeness=n_reflections / n_possible if n_possible else 0.0,
        multiplicity=n_observations / n_reflections if n_reflections else 0.0,
        mean_i_over_sigma=float(np.mean(ratio)) if n_reflections else math.nan,
        cc_half=cc,
        cc_star=cc_star(cc),
        r_split=r_split(half_1, half_2),
        r_merge=r.r_merge,
        r_meas=r.r_meas,
        r_pim=r.r_pim,
        n_pairs=int((np.isfinite(half_1) & np.isfinite(half_2)).sum()),
        cc_half_error=cc_half_error(half_1, half_2),
        cc_anomalous=anomalous.cc if anomalous else math.nan,
        anomalous_completeness=anomalous.completeness if anomalous else math.nan,
    )


def shell_statistics(
    merged: MergedReflections, *, d_max: float, d_min: float, n_shells: int
) -> tuple[tuple[ShellStatistics, ...], ShellStatistics]:
    """Statistics per shell, from low to high resolution, and of all shells together."""
    edges = shell_edges(d_max, d_min, n_shells)
    shell = shell_of(merged.d, edges)
    shells = tuple(statistics_of(merged, shell == i, (edges[i], edges[i + 1])) for i in range(n_shells))
    return shells, statistics_of(merged, shell >= 0, (d_max, d_min))


def wilson_b(d: NDArray[np.float64], intensity: NDArray[np.float64], epsilon: NDArray[np.integer]) -> float:
    """B in Å² from ln(<I / epsilon> / sum f²) = const - 2 B s², between 4 Å and the last shell.

    Scattering factors of an average protein (gemmi, International Tables C). nan with fewer than four
    shells of 20 reflections and a positive mean. Wilson (1942), Nature 150, 152.
    """
    used = np.isfinite(intensity) & (d <= WILSON_D_MAX)
    n_shells = min(20, int(used.sum()) // _MIN_PER_WILSON_SHELL)
    if n_shells < _MIN_WILSON_SHELLS:
        return math.nan
    s_squared, value = 0.25 / d[used] ** 2, intensity[used] / epsilon[used]
    order = np.argsort(s_squared, kind="stable")
    parts = np.array_split(order, n_shells)
    x = np.array([s_squared[part].mean() for part in parts])
    y = np.array([value[part].mean() for part in parts])
    positive = y > 0
    if positive.sum() < _MIN_WILSON_SHELLS:
        return math.nan
    log_ratio = np.log(y[positive] / _protein_f_squared(x[positive]))
    return float(-0.5 * np.polyfit(x[positive], log_ratio, 1)[0])


def _protein_f_squared(s_squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean sum of f² of one residue."""
    return np.array(
        [
            sum(n * gemmi.Element(e).it92.calculate_sf(float(s2)) ** 2 for e, n in _ATOMS_PER_RESIDUE.items())
            for s2 in s_squared
        ]
    )
