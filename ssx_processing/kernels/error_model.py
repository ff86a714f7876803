"""Whether repeats scatter as much as their variances say, and by how much these have to be corrected.

Partialities are no Gaussian noise: even the variances that `observation_model` learns are right on
average only. So they are corrected as a function of the merged intensity.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.merging import Observations, Reference

N_BINS = 12
_RANGE = (0.2, 5.0)


@dataclass(frozen=True)
class RepeatScatter:
    """Reduced chi-square of repeats in bins of merged intensity, from weak to strong."""

    intensity: NDArray[np.float64]
    """(n_bins,) median merged intensity of the observations in the bin."""
    chi_square: NDArray[np.float64]
    """(n_bins,) mean of (y - mean of the others)² over its variance."""
    n: NDArray[np.int64]
    """(n_bins,) observations of reflections that were seen more than once."""

    def variance_factor(self, merged: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much the variances at these merged intensities are too small; 1 where nothing is known."""
        known = self.n > 0
        if not known.any():
            return np.ones(len(merged))
        factor = np.interp(merged, self.intensity[known], self.chi_square[known])
        return np.where(np.isfinite(factor), np.clip(factor, *_RANGE), 1.0)


def repeat_scatter(
    observations: Observations,
    reference: Reference,
    *,
    n_bins: int = N_BINS,
    factor: NDArray[np.float64] | None = None,
) -> RepeatScatter:
    """Chi-square of repeats, in bins with equal numbers of observations.

    Parameters
    ----------
    factor : (n_unique,) array
        Variances are this many times those of the reference.
    """
    mean, n = reference.mean, np.where(reference.n > 1, reference.n, 0)
    order = np.argsort(np.where(n > 0, mean, np.inf), kind="stable")
    cumulative = np.cumsum(n[order])
    total = int(cumulative[-1]) if len(cumulative) else 0
    bin_of = np.empty(len(mean), np.int64)
    bin_of[order] = np.minimum((cumulative - 1) * n_bins // max(total, 1), n_bins - 1)
    sums = _chi_sums(
        observations.uid, reference.scaled, reference.weight, reference.table, bin_of,
        np.ones(len(mean)) if factor is None else factor, n_bins,
    )  # fmt: skip
    middle = np.searchsorted(cumulative, (np.arange(n_bins) + 0.5) * total / n_bins)
    intensity = mean[order[np.minimum(middle, len(order) - 1)]]
    chi_square = np.divide(sums[:, 1], sums[:, 0], out=np.ones(n_bins), where=sums[:, 0] > 0)
    return RepeatScatter(intensity, chi_square, sums[:, 0].astype(np.int64))


@njit(cache=True, nogil=True)
def _chi_sums(uid, scaled, weight, table, bin_of, factor, n_bins):
    """(n_bins, 2): number of repeats and sum of their chi-squares."""
    out = np.zeros((n_bins, 2))
    for i in range(len(uid)):
        w, q = np.float64(weight[i]), uid[i]
        if w == 0.0:
            continue
        rest = table[q, 0] - w
        if rest <= 1e-9 * table[q, 0]:
            continue
        r = np.float64(scaled[i]) - (table[q, 1] - w * np.float64(scaled[i])) / rest
        out[bin_of[q], 0] += 1.0
        out[bin_of[q], 1] += r * r / ((1.0 / w + 1.0 / rest) * factor[q])
    return out
