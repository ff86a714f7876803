"""What an observation of a lattice is compared with, and the sums over a block of lattices.

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
from ssx_processing.kernels.observation_model import at_knots

LOG_G, B_FACTOR, TURN_X, TURN_Y, LOG_WIDTH = range(5)
"""Columns of the parameters; the last three are refined or not."""
N_PARAMETERS, N_SCALE = 5, 2
ACCEPTED, BAD_SCALE, LOW_CC, EXCLUDED = range(4)
"""Verdicts on a lattice: merged; its best scale is not positive; it correlates less than asked for; left
out beforehand."""


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
    """Written by `lattice_step.refine`."""


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
    n: NDArray[np.int64]
    """Observations in them."""
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
        b, log_g, tx, ty, per_width = lattice_terms(state.parameters[f])
        for i in range(first, last):
            q = uid[i]
            if q < 0 or block.outlier[i]:
                continue
            inverse_sigma = 1.0 / block.sigma[i]
            u = abs(turned_error(block, i, tx, ty)) * inverse_sigma * per_width
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
def lattice_terms(parameters: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    """2 B, ln g, turns and 1 / width of a lattice."""
    return (
        2.0 * parameters[B_FACTOR],
        parameters[LOG_G],
        parameters[TURN_X],
        parameters[TURN_Y],
        math.exp(-parameters[LOG_WIDTH]),
    )


@njit(cache=True, nogil=True, inline="always")
def turned_error(block: Block, i: int, turn_x: float, turn_y: float) -> float:
    """Excitation error of an observation with the lattice's turns applied."""
    if len(block.slopes) == 0:
        return block.error[i]
    return block.error[i] + block.slopes[i, 0] * turn_x + block.slopes[i, 1] * turn_y


@njit(cache=True, nogil=True)
def write_partialities(
    block: Block, parameters: NDArray[np.float64], law: Law, out: NDArray[np.float32]
) -> None:
    """Partiality P of each observation into ``out``."""
    for f in range(len(block.offsets) - 1):
        _, _, tx, ty, per_width = lattice_terms(parameters[f])
        for i in range(block.offsets[f], block.offsets[f + 1]):
            u = abs(turned_error(block, i, tx, ty)) / block.sigma[i] * per_width
            out[i] = at_knots(law.partiality, u)
