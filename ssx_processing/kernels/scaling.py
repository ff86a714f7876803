"""Scale and B factor of every lattice against the merged intensities of all others.

Model (level L1, unity partiality): E[I_fl] = g_f exp(-2 B_f s²) I_l with s = sin(theta)/lambda, so
B is the conventional one. Alternation of merging and Gauss-Newton steps per lattice, after
Hamilton, Rollett & Sparks (1965), Acta Cryst. 18, 129.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.error_model import estimate_error_model
from ssx_processing.kernels.merging import (
    ACCEPTED,
    BAD_SCALE,
    FASTMATH,
    OUTLIER_SIGMA,
    ErrorModel,
    Observations,
    Reference,
    Scales,
    accumulate,
)

STUDENT_NU = 10.0
"""Degrees of freedom of the robust weights; partialities are heavy tailed, but not that heavy."""
MIN_SHARED_FOR_CC = 60
"""With fewer reflections seen elsewhere the correlation errs by 0.13 and more: no lattice is judged by it."""

_CONVERGED = 0.005
_MIN_CYCLES = 3
_FIRST_VERDICT = 2  # the first references are crude: nothing is left out before this cycle
_FALLOFF_BINS = 20
_STRONGEST = 8.0  # an intensity above 8 times the mean of its shell has the probability exp(-8)


@dataclass(frozen=True)
class Scaling:
    """What `scale_lattices` found."""

    scales: Scales
    reference: Reference
    """Merged intensities at these scales, without outliers."""
    outlier: NDArray[np.bool_]
    """(n_observations,) further than OUTLIER_SIGMA from all others."""
    error_model: ErrorModel
    n_cycles: int
    """Cycles that were run."""
    converged: bool
    """The last cycle moved ln g by less than 0.005, root mean square."""


def scale_lattices(
    observations: Observations,
    *,
    s_squared: NDArray[np.float64],
    n_cycles: int = 8,
    b_restraint: float = 15.0,
    min_cc: float = 0.1,
    on_cycle: Callable[[int, int], None] | None = None,
) -> Scaling:
    """Scales of all lattices, and the merged intensities they lead to.

    Parameters
    ----------
    observations
        Sorted by lattice.
    s_squared : (n_unique,) array
        (sin(theta)/lambda)² of the unique reflections in 1/Å².
    n_cycles
        At most so many alternations.
    b_restraint
        Standard deviation in Å² to which B is held at 0.
    min_cc
        Lattices that correlate less with the reference are left out from the second cycle on.
    on_cycle
        Called with the number of the cycle (from 1) and of the lattices in it.
    """
    model = ErrorModel()
    scales = start_scales(observations, s_squared=s_squared)
    reference = accumulate(observations, scales, s_squared=s_squared, error_model=model)
    scales = log_line_scales(observations, scales, reference, s_squared=s_squared, b_restraint=b_restraint)
    outlier = np.zeros(len(observations.uid), np.bool_)
    cycle, converged = 0, False
    while cycle < n_cycles and not (converged and cycle >= _MIN_CYCLES):
        cycle += 1
        if on_cycle is not None:
            on_cycle(cycle, int(scales.accepted.sum()))
        reference = accumulate(
            observations,
            scales,
            s_squared=s_squared,
            error_model=model,
            expected=reference.mean,
            outlier=outlier,
        )
        model = estimate_error_model(observations, scales, reference, s_squared=s_squared, start=model)
        before = scales
        scales, outlier = refine_scales(
            observations, scales, reference,
            s_squared=s_squared, error_model=model, b_restraint=b_restraint,
            min_cc=min_cc if cycle >= _FIRST_VERDICT else -np.inf,
        )  # fmt: skip
        converged = _rms_shift(before, scales) < _CONVERGED
    reference = accumulate(
        observations, scales, s_squared=s_squared, error_model=model, expected=reference.mean, outlier=outlier
    )
    return Scaling(scales, reference, outlier, model, cycle, converged)


def _rms_shift(before: Scales, after: Scales) -> float:
    shift = (after.log_g - before.log_g)[after.accepted]
    return float(np.sqrt(np.mean(shift**2))) if len(shift) else 0.0


def _with_gauge(scales: Scales) -> Scales:
    """The same scales with mean ln g = 0 and mean B = 0 over accepted lattices."""
    accepted = scales.accepted
    if not accepted.any():
        return scales
    return replace(
        scales,
        log_g=scales.log_g - scales.log_g[accepted].mean(),
        b_factor=scales.b_factor - scales.b_factor[accepted].mean(),
    )


def _resolution_bin(s_squared: NDArray[np.float64]) -> NDArray[np.int64]:
    fraction = s_squared / max(float(s_squared.max()), 1e-30)
    return np.minimum((fraction * _FALLOFF_BINS).astype(np.int64), _FALLOFF_BINS - 1)


def start_scales(observations: Observations, *, s_squared: NDArray[np.float64]) -> Scales:
    """Scales from each lattice's total intensity against the mean fall-off of all lattices."""
    bins = _resolution_bin(s_squared)[observations.uid]
    n = np.bincount(bins, minlength=_FALLOFF_BINS)
    falloff = np.bincount(bins, observations.intensity, _FALLOFF_BINS) / np.maximum(n, 1)
    falloff = np.maximum(falloff, 1e-6 * np.abs(falloff).max() + 1e-300)
    lattice, n_lattices = observations.lattice_of_observation(), observations.n_lattices
    expected = np.bincount(lattice, falloff[bins], n_lattices)
    total = np.bincount(lattice, observations.intensity, n_lattices)
    positive = (total > 0) & (expected > 0)
    log_g = np.zeros(n_lattices)
    log_g[positive] = np.log(total[positive] / expected[positive])
    verdict = np.where(positive, ACCEPTED, BAD_SCALE).astype(np.uint8)
    undetermined = np.full(n_lattices, np.nan)
    return _with_gauge(
        Scales(log_g, np.zeros(n_lattices), undetermined, np.zeros(n_lattices, np.int64), verdict)
    )


def log_line_scales(
    observations: Observations,
    scales: Scales,
    reference: Reference,
    *,
    s_squared: NDArray[np.float64],
    b_restraint: float,
) -> Scales:
    """Ln g and B of each lattice from a straight line through ln(I / reference).

    Uses observations above 3 sigma of reflections seen at least twice, as CrystFEL's partialator
    does (libcrystfel/src/scaling.c); it favours strong observations, hence is a start only.
    """
    log_g, b_factor = _log_lines(
        observations.offsets, observations.uid, observations.intensity, observations.noise_variance,
        s_squared, reference.mean, reference.n, scales.log_g, 1.0 / b_restraint**2,
    )  # fmt: skip
    return _with_gauge(replace(scales, log_g=log_g, b_factor=b_factor))


@njit(cache=True, nogil=True, error_model="numpy")
def _log_lines(offsets, uid, intensity, noise_variance, s_squared, mean, n, start, b_weight):
    log_g, b_factor = start.copy(), np.zeros(len(start))
    for f in range(len(offsets) - 1):
        m00, m01, m11, v0, v1 = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            u, value = uid[i], intensity[i]
            if n[u] < 2 or not mean[u] > 0.0 or value < 3.0 * np.sqrt(noise_variance[i] + max(value, 0.0)):
                continue
            # partialities scatter ln I by about 1, so that each observation has the weight 1
            x, y = -2.0 * s_squared[u], np.log(value / mean[u])
            m00 += 1.0
            m01 += x
            m11 += x * x
            v0 += y
            v1 += x * y
        m11 += b_weight
        determinant = m00 * m11 - m01 * m01
        if m00 >= 5.0 and determinant > 1e-12 * m00 * m11:
            log_g[f] = (m11 * v0 - m01 * v1) / determinant
            b_factor[f] = (m00 * v1 - m01 * v0) / determinant
    return log_g, b_factor


def refine_scales(
    observations: Observations,
    scales: Scales,
    reference: Reference,
    *,
    s_squared: NDArray[np.float64],
    error_model: ErrorModel,
    b_restraint: float,
    min_cc: float,
) -> tuple[Scales, NDArray[np.bool_]]:
    """One robust Gauss-Newton step per lattice on ln g and B; also which observations are outliers.

    Minimises sum w (I - g exp(-2 B s²) J)² + (B / b_restraint)². J is the merged intensity without
    the observation itself (exact: its own term is subtracted), w the inverse of the variance
    expected for J, its own error included, times Student's (nu + 1) / (nu + w r²).
    """
    log_g, b_factor, cc, n_shared, verdict, outlier = _refine(
        observations.offsets, observations.uid, observations.intensity, observations.noise_variance,
        observations.factor, s_squared, _falloff(reference, s_squared),
        reference.table, reference.scaled, reference.weight,
        scales.log_g, scales.b_factor, scales.verdict,
        error_model.noise_factor, error_model.spread**2, 1.0 / b_restraint**2, min_cc,
    )  # fmt: skip
    return _with_gauge(Scales(log_g, b_factor, cc, n_shared, verdict)), outlier


def _falloff(reference: Reference, s_squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean merged intensity at the resolution of each unique reflection, kept positive."""
    bins, seen = _resolution_bin(s_squared), reference.n > 0
    n = np.bincount(bins[seen], minlength=_FALLOFF_BINS)
    falloff = np.bincount(bins[seen], reference.mean[seen], _FALLOFF_BINS) / np.maximum(n, 1)
    return np.maximum(falloff, 1e-3 * falloff.max() + 1e-300)[bins]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _refine(
    offsets, uid, intensity, noise_variance, factor, s_squared, falloff, table, scaled, weight,
    log_g, b_factor, verdict, noise_factor, spread_squared, b_weight, min_cc,
):  # fmt: skip
    n_lattices = len(offsets) - 1
    new_log_g, new_b, new_verdict = log_g.copy(), b_factor.copy(), verdict.copy()
    cc, n_shared = np.full(n_lattices, np.nan), np.zeros(n_lattices, np.int64)
    outlier = np.zeros(len(uid), np.bool_)
    for f in range(n_lattices):
        g, b = np.exp(log_g[f]), b_factor[f]
        m00, m01, m11, v0, v1, linear = 0.0, 0.0, b_weight, 0.0, -b_weight * b, 0.0
        s, sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(offsets[f], offsets[f + 1]):
            u = uid[i]
            rest = table[u, 0] - weight[i]
            if rest <= 1e-9 * table[u, 0]:
                continue  # nobody else has seen it
            n_shared[f] += 1
            k = g * np.exp(-2.0 * b * s_squared[u])
            m = k * (table[u, 1] - weight[i] * scaled[i]) / rest
            noise = noise_factor * (noise_variance[i] + max(m, 0.0))
            w = 1.0 / (noise + spread_squared * m * m + k * k / rest)
            r = intensity[i] - m
            outlier[i] = w * r * r > OUTLIER_SIGMA * OUTLIER_SIGMA
            w *= factor[i] * (STUDENT_NU + 1.0) / (STUDENT_NU + w * r * r)
            slope = -2.0 * s_squared[u] * m
            m00 += w * m * m
            m01 += w * m * slope
            m11 += w * slope * slope
            v0 += w * m * r
            v1 += w * slope * r
            linear += w * m * intensity[i]
            # correlation of fall-off-free intensities; limit and weight know nothing of this reflection
            mean = k * falloff[u]
            noise = noise_factor * (noise_variance[i] + mean) / (mean * mean)
            limit = _STRONGEST + OUTLIER_SIGMA * np.sqrt(noise)
            x, y = m / mean, min(max(intensity[i] / mean, -limit), limit)
            w = 1.0 / (noise + spread_squared)
            s += w
            sx += w * x
            sy += w * y
            sxx += w * x * x
            syy += w * y * y
            sxy += w * x * y
        determinant = m00 * m11 - m01 * m01
        if n_shared[f] < 5 or not determinant > 0.0:
            continue  # too little in common: the start scale stays
        if linear <= 0.0:
            new_verdict[f] = 1
            continue
        new_log_g[f] += min(max((m11 * v0 - m01 * v1) / determinant, -1.0), 1.0)
        new_b[f] += min(max((m00 * v1 - m01 * v0) / determinant, -20.0), 20.0)
        square = (s * sxx - sx * sx) * (s * syy - sy * sy)
        if square > 0.0:
            cc[f] = (s * sxy - sx * sy) / np.sqrt(square)
        if new_verdict[f] == 0 and n_shared[f] >= MIN_SHARED_FOR_CC and cc[f] < min_cc:
            new_verdict[f] = 2
    return new_log_g, new_b, cc, n_shared, new_verdict, outlier
