"""One sweep over a block of lattices: refine each against all others, or add its observations up.

The parameters of a lattice are ln g, B, two turns across the beam and ln of its rocking width
relative to the stated one: k = g exp(-2 B s²) L, u = |e + turns . slopes| / (width sigma). L is the
median stated sigma over that of the observation: what a reciprocal lattice node holds is spread over
its width, so the wider it is, the less of it is in the cut (Kabsch 2014, Acta Cryst. D70, 2204).
"""

import math
from typing import NamedTuple

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

OUTLIER_SIGMA = 6.0
"""Further than so many expected standard deviations from all others, an observation is left out."""
STUDENT_NU = 10.0
"""Degrees of freedom of the robust weights; partialities are heavy tailed, but not that heavy."""
MIN_SHARED_FOR_CC = 60
"""With fewer reflections seen elsewhere the correlation errs by 0.13 and more: no lattice is judged by it."""
MIN_SHARED = 5
"""With fewer a lattice's parameters stay what they are."""
STRONGEST = 8.0
"""An intensity above 8 times the mean of its shell has the probability exp(-8)."""

LOG_G, B_FACTOR, TURN_X, TURN_Y, LOG_WIDTH = range(5)
"""Columns of the parameters; the last three are refined or not."""
N_PARAMETERS, N_SCALE = 5, 2
ACCEPTED, BAD_SCALE, LOW_CC, EXCLUDED = range(4)
"""Verdicts on a lattice: merged; its best scale is not positive; it correlates less than asked for; left
out beforehand."""

_LARGEST_STEP = np.array([1.0, 20.0, 1e-3, 1e-3, 0.5])


class Block(NamedTuple):
    """Observations of some lattices; arrays of n_observations unless said otherwise."""

    offsets: NDArray[np.int64]
    """(n_lattices + 1,) of which observations are a lattice's."""
    uid: NDArray[np.int32]
    """-1: not to be merged."""
    intensity: NDArray[np.float32]
    noise: NDArray[np.float32]
    error: NDArray[np.float32]
    sigma: NDArray[np.float32]
    slopes: NDArray[np.float32]
    """(n_observations, 2), or (0, 2) where nothing turns."""
    scaled: NDArray[np.float32]
    """Written by `add_up`: the scaled intensity..."""
    weight: NDArray[np.float32]
    """...and its weight; 0 where not merged."""
    outlier: NDArray[np.bool_]
    """Written by `refine`."""


class State(NamedTuple):
    """Of the same lattices, changed in place."""

    parameters: NDArray[np.float64]
    """(n_lattices, N_PARAMETERS)."""
    verdict: NDArray[np.uint8]
    cc: NDArray[np.float64]
    n_shared: NDArray[np.int64]


class Means(NamedTuple):
    """Of the unique reflections, arrays of n_unique."""

    s_squared: NDArray[np.float64]
    table: NDArray[np.float64]
    """(n_unique, 2): sums of w and w y."""
    expected: NDArray[np.float64]
    """Their mean; nan where nothing was seen."""
    falloff: NDArray[np.float64]
    """Mean intensity at the resolution of each."""


class Law(NamedTuple):
    """`ObservationModel` as the compiled code wants it."""

    noise_factor: float
    partiality: NDArray[np.float64]
    variance: NDArray[np.float64]
    """Spread squared."""
    sigma_reference: float
    """Rocking width, 1/Å, at which L is 1."""


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def add_up(
    block: Block, state: State, means: Means, law: Law, table: NDArray[np.float64], n: NDArray[np.int64]
) -> None:
    """Write weight and scaled intensity of each observation, add them to ``table`` and count in ``n``."""
    uid, weight, scaled = block.uid, block.weight, block.scaled
    for f in range(len(block.offsets) - 1):
        first, last = block.offsets[f], block.offsets[f + 1]
        weight[first:last] = 0.0
        if state.verdict[f] != ACCEPTED:
            continue
        b, log_g, tx, ty, per_width = _lattice(state.parameters[f])
        for i in range(first, last):
            q = uid[i]
            if q < 0 or block.outlier[i]:
                continue
            inverse_sigma = 1.0 / block.sigma[i]
            u = abs(_error(block, i, tx, ty)) * inverse_sigma * per_width
            p, j = at_knots(law.partiality, u), means.expected[q]
            k = p * math.exp(log_g - b * means.s_squared[q]) * law.sigma_reference * inverse_sigma
            inverse_k = 1.0 / k
            v = block.noise[i] * inverse_k * inverse_k
            if j == j:  # not nan
                j = max(j, 0.0)
                v = law.noise_factor * (v + j * inverse_k) + at_knots(law.variance, u) / (p * p) * j * j
            y, w = np.float32(block.intensity[i] * inverse_k), np.float32(1.0 / v)
            scaled[i], weight[i] = y, w
            table[q, 0] += w
            table[q, 1] += w * np.float64(y)
            n[q] += 1


@njit(cache=True, nogil=True, inline="always")
def _lattice(parameters: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    """2 B, ln g, turns and 1 / width of a lattice."""
    return (
        2.0 * parameters[B_FACTOR],
        parameters[LOG_G],
        parameters[TURN_X],
        parameters[TURN_Y],
        math.exp(-parameters[LOG_WIDTH]),
    )


@njit(cache=True, nogil=True, inline="always")
def _error(block: Block, i: int, turn_x: float, turn_y: float) -> float:
    """Excitation error of an observation with the lattice's turns applied."""
    if len(block.slopes) == 0:
        return block.error[i]
    return block.error[i] + block.slopes[i, 0] * turn_x + block.slopes[i, 1] * turn_y


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
    b, log_g, tx, ty, per_width = _lattice(parameters)
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
        e = _error(block, i, tx, ty)
        u = abs(e) * inverse_sigma * per_width
        p = at_knots(law.partiality, u)
        k = math.exp(log_g - b * means.s_squared[q]) * law.sigma_reference * inverse_sigma
        x = k * (means.table[q, 1] - w * np.float64(block.scaled[i])) * inverse_rest
        mean, own = p * x, p * p * k * k * inverse_rest
        counting = block.noise[i] + max(mean, 0.0)
        inverse = 1.0 / (law.noise_factor * counting + at_knots(law.variance, u) * x * x + own)
        r = block.intensity[i] - mean
        chi = inverse * r * r
        block.outlier[i] = chi > OUTLIER_SIGMA * OUTLIER_SIGMA
        work[FULL, c], work[MEAN, c], work[RESIDUAL, c], work[INVERSE, c] = x, mean, r, inverse
        work[ROBUST, c] = inverse * (STUDENT_NU + 1.0) / (STUDENT_NU + chi)
        work[OWN, c], work[COUNTING, c], work[U, c], work[SCALE, c] = own, counting, u, k
        work[GRADIENT + LOG_G, c] = mean
        work[GRADIENT + B_FACTOR, c] = -2.0 * means.s_squared[q] * mean
        if with_partiality:
            slope = x * slope_at_knots(law.partiality, u)
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
