"""One step of refinement of each lattice against the merged intensities of all others."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.merging import FASTMATH
from ssx_processing.kernels.observation_model import (
    KNOT_STEP,
    N_KNOTS,
    NOISE_SPREAD,
    SIGNAL,
    SPREAD_EXCESS,
    SPREAD_SPREAD,
    SQUARE,
    at_knots,
    slope_at_knots,
)
from ssx_processing.kernels.refinement import solve_positive
from ssx_processing.kernels.still_sweep import (
    ACCEPTED,
    B_FACTOR,
    BAD_SCALE,
    LOG_G,
    LOG_WIDTH,
    LOW_CC,
    N_PARAMETERS,
    N_SCALE,
    TURN_X,
    TURN_Y,
    Block,
    Law,
    Means,
    State,
    lattice_terms,
    turned_error,
)

OUTLIER_SIGMA = 6.0
"""Further than so many expected standard deviations from all others, an observation is left out."""
MIN_OTHERS = 3
"""...but only if so many others have seen the reflection."""
STUDENT_NU = 10.0
"""Degrees of freedom of the robust weights; partialities are heavy tailed, but not that heavy."""
MIN_SHARED_FOR_CC = 60
"""With fewer reflections seen elsewhere the correlation errs by 0.13 and more: no lattice is judged by it."""
MIN_SHARED = 5
"""With fewer a lattice's parameters stay what they are."""
STRONGEST = 8.0
"""An intensity above 8 times the mean of its shell has the probability exp(-8)."""
_LARGEST_STEP = np.array([1.0, 20.0, 1e-3, 1e-3, 0.5])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def refine(
    block: Block, state: State, means: Means, law: Law,
    precision: NDArray[np.float64], n_parameters: int, min_cc: float, every: int,
    moments: NDArray[np.float64], found: NDArray[np.float64],
) -> None:  # fmt: skip
    """One robust Gauss-Newton step for each lattice against the means of all others.

    Minimises sum w (I - k P(u) J)² + sum precision parameter². J is the mean without the observation
    itself (exact: its own term is subtracted), w the inverse of the variance expected for J, its own
    error included, times Student's (nu + 1) / (nu + w r²).

    Parameters
    ----------
    precision : (N_PARAMETERS,) array
        Of the restraints to 0; that of ln g is not used.
    min_cc
        Lattices that correlate less are left out from now on; -inf: nobody is judged.
    every
        The moments are those of every so-manieth lattice.
    moments
        Added to, see `observation_model.empty_moments`.
    found : (3,) array
        Added to: number of lattices, their squared turns and squared ln widths, variances included.
    """
    longest = 1
    for f in range(len(block.offsets) - 1):
        longest = max(longest, block.offsets[f + 1] - block.offsets[f])
    work = np.empty((N_WORK, longest))
    normal, vector = np.zeros((N_PARAMETERS, N_PARAMETERS)), np.zeros(N_PARAMETERS)
    variance = np.zeros(N_PARAMETERS)
    for f in range(len(block.offsets) - 1):
        if state.verdict[f] != ACCEPTED:
            continue
        first, last, parameters = block.offsets[f], block.offsets[f + 1], state.parameters[f]
        shared = _compare(block, first, last, parameters, means, law, n_parameters > N_SCALE, work)
        state.n_shared[f] = shared
        if f % every == 0:
            _add_moments(block.intensity[first:last], work, moments)
        if shared < MIN_SHARED:
            continue  # too little in common: the parameters stay
        if not _normal_equations(work[:, : last - first], n_parameters, normal, vector):
            state.verdict[f] = BAD_SCALE
            continue
        if min_cc > -np.inf:
            state.cc[f] = _correlation(block, first, last, means, law, work, state.cc[f])
            if shared >= MIN_SHARED_FOR_CC and state.cc[f] < min_cc:
                state.verdict[f] = LOW_CC
        for a in range(1, n_parameters):
            normal[a, a] += precision[a]
            vector[a] -= precision[a] * parameters[a]
        if solve_positive(normal[:n_parameters, :n_parameters], vector[:n_parameters]):
            for a in range(n_parameters):
                parameters[a] += min(max(vector[a], -_LARGEST_STEP[a]), _LARGEST_STEP[a])
            if n_parameters > N_SCALE:
                _inverse_diagonal(normal, variance)
                found[0] += 1.0
                found[1] += parameters[TURN_X] ** 2 + parameters[TURN_Y] ** 2
                found[1] += variance[TURN_X] + variance[TURN_Y]
                found[2] += parameters[LOG_WIDTH] ** 2 + variance[LOG_WIDTH]


FULL, MEAN, RESIDUAL, INVERSE, ROBUST, OWN, COUNTING, U, SCALE, GRADIENT = *range(9), 9
"""Rows of the work space, of one lattice: k J, P k J, I - P k J, 1 over its variance, that times Student's
weight (0 where nobody else has seen the reflection), variance from the error of J, noise + P k J, u, k."""
N_WORK = GRADIENT + N_PARAMETERS
"""After them how P k J changes with each parameter."""


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _compare(
    block: Block, first: int, last: int, parameters: NDArray[np.float64], means: Means, law: Law,
    with_partiality: bool, work: NDArray[np.float64],
) -> int:  # fmt: skip
    """Fill the work space from each observation and the mean of all others; how many have one."""
    b, log_g, tx, ty, per_width = lattice_terms(parameters)
    shared = 0
    for i in range(first, last):
        q, w, c = block.uid[i], np.float64(block.weight[i]), i - first
        total = means.table[q, 0] if q >= 0 else 0.0
        rest = total - w
        block.outlier[i] = False
        if rest <= 1e-9 * total:
            work[:, c] = 0.0
            continue
        shared += 1
        inverse_rest, inverse_sigma = 1.0 / rest, 1.0 / block.sigma[i]
        e = turned_error(block, i, tx, ty)
        u = abs(e) * inverse_sigma * per_width
        p = at_knots(law.partiality, u)
        k = math.exp(log_g - b * means.s_squared[q]) * law.sigma_reference * inverse_sigma
        x = k * (means.table[q, 1] - w * np.float64(block.scaled[i])) * inverse_rest
        mean, own = p * x, p * p * k * k * inverse_rest
        counting = block.noise[i] + max(mean, 0.0)
        inverse = 1.0 / (law.noise_factor * counting + at_knots(law.variance, u) * x * x + own)
        r = block.intensity[i] - mean
        chi = inverse * r * r
        work[FULL, c], work[MEAN, c], work[RESIDUAL, c], work[INVERSE, c] = x, mean, r, inverse
        if chi > OUTLIER_SIGMA * OUTLIER_SIGMA and means.n[q] - (w > 0.0) >= MIN_OTHERS:
            # where the mean with it is larger, so may be the spread: few weak partials condemn no strong one
            x = max(x, k * means.expected[q])
            v = law.noise_factor * (block.noise[i] + p * x) + at_knots(law.variance, u) * x * x + own
            block.outlier[i] = r * r > OUTLIER_SIGMA * OUTLIER_SIGMA * v
        work[ROBUST, c] = inverse * (STUDENT_NU + 1.0) / (STUDENT_NU + chi)
        work[OWN, c], work[COUNTING, c], work[U, c], work[SCALE, c] = own, counting, u, k
        work[GRADIENT + LOG_G, c] = mean
        work[GRADIENT + B_FACTOR, c] = -2.0 * means.s_squared[q] * mean
        if with_partiality:
            slope = work[FULL, c] * slope_at_knots(law.partiality, u)
            work[GRADIENT + LOG_WIDTH, c] = -slope * u
            work[GRADIENT + TURN_X, c] = work[GRADIENT + TURN_Y, c] = 0.0
            if len(block.slopes) > 0:
                slope *= per_width * inverse_sigma * (1.0 if e >= 0.0 else -1.0)
                work[GRADIENT + TURN_X, c] = slope * block.slopes[i, 0]
                work[GRADIENT + TURN_Y, c] = slope * block.slopes[i, 1]
    return shared


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _normal_equations(
    work: NDArray[np.float64], n_parameters: int, normal: NDArray[np.float64], vector: NDArray[np.float64]
) -> bool:
    """Normal equations of one lattice; False if its best linear scale is not positive."""
    weight, residual = work[ROBUST], work[RESIDUAL]
    linear = 0.0
    for i in range(work.shape[1]):
        linear += weight[i] * work[MEAN, i] * (residual[i] + work[MEAN, i])
    for a in range(n_parameters):
        left = work[GRADIENT + a]
        total = 0.0
        for i in range(work.shape[1]):
            total += weight[i] * left[i] * residual[i]
        vector[a] = total
        for c in range(a + 1):
            right = work[GRADIENT + c]
            total = 0.0
            for i in range(work.shape[1]):
                total += weight[i] * left[i] * right[i]
            normal[a, c] = total
    return linear > 0.0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _add_moments(
    intensity: NDArray[np.float32], work: NDArray[np.float64], moments: NDArray[np.float64]
) -> None:
    for i in range(len(intensity)):
        inverse, x, own = work[INVERSE, i], work[FULL, i], work[OWN, i]
        if inverse == 0.0:
            continue
        row = min(int(work[U, i] / KNOT_STEP + 0.5), N_KNOTS - 1)
        square, squared, counting = x * x, inverse * inverse, work[COUNTING, i]
        r = work[RESIDUAL, i]
        excess = min(r * r, OUTLIER_SIGMA * OUTLIER_SIGMA / inverse) - own
        p = work[MEAN, i] / x if x != 0.0 else 1.0
        moments[row, SIGNAL] += inverse * x * intensity[i]
        moments[row, SQUARE] += inverse * (square - own / max(p * p, 1e-3))
        moments[row, NOISE_SPREAD] += squared * counting * square
        moments[row, SPREAD_SPREAD] += squared * square * square
        moments[row, SPREAD_EXCESS] += squared * square * excess
        moments[N_KNOTS, 0] += squared * counting * counting
        moments[N_KNOTS, 1] += squared * counting * excess


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _correlation(
    block: Block, first: int, last: int, means: Means, law: Law, work: NDArray[np.float64], before: float
) -> float:
    """Weighted correlation of fall-off-free intensities with those of all others; ``before`` if undefined.

    Limit and weight of an observation know nothing of its reflection.
    """
    s, sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(first, last):
        c = i - first
        if work[INVERSE, c] == 0.0:
            continue
        typical = work[SCALE, c] * means.falloff[block.uid[i]]
        noise = law.noise_factor * (block.noise[i] + typical) / (typical * typical)
        limit = STRONGEST + OUTLIER_SIGMA * math.sqrt(noise)
        x, y = work[MEAN, c] / typical, min(max(block.intensity[i] / typical, -limit), limit)
        w = 1.0 / (noise + at_knots(law.variance, work[U, c]))
        s += w
        sx += w * x
        sy += w * y
        sxx += w * x * x
        syy += w * y * y
        sxy += w * x * y
    product = (s * sxx - sx * sx) * (s * syy - sy * sy)
    return (s * sxy - sx * sy) / math.sqrt(product) if product > 0.0 else before


@njit(cache=True, nogil=True)
def _inverse_diagonal(triangle: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the diagonal of the inverse of m, whose Cholesky factor is the lower triangle."""
    n = len(triangle)
    column = np.zeros(n)
    out[:] = 0.0
    for c in range(n):
        for a in range(c, n):
            t = 1.0 if a == c else 0.0
            for z in range(c, a):
                t -= triangle[a, z] * column[z]
            column[a] = t / triangle[a, a]
            out[c] += column[a] ** 2
