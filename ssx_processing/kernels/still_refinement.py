"""Refinement of one lattice on a still: spot positions and excitation errors together.

A = R (1 + e) B as in `refinement`, and the crystal is a little off the place from which the
detector's distance is measured. Each spot gives two residuals on its panel and one along the ray,
the excitation error, which is no measurement but is known to be small: within the rocking width.
Positions alone leave turns about axes across the beam to second order, excitation errors alone
leave the turn about the beam free.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import inverse
from ssx_processing.kernels.prediction import rocking_sigma
from ssx_processing.kernels.refinement import compose, rotate, rotated_strain, solve_positive
from ssx_processing.kernels.still_model import model_spot

DEGREES_OF_FREEDOM = 15.0
"""Of Student's distribution, which weighs down what fits badly."""
CUT = 4.0
"""A spot whose residuals together exceed so many standard deviations takes no part."""
PRIOR_SPOTS = 15.0
"""Expected widths count like so many spots of the lattice itself."""
SMALL_SHIFT = 0.03
"""The fit has converged when all shifts are below this part of their standard deviation, in rms."""
MAX_CYCLES = 10
RESIDUALS = ("dx_px", "dy_px", "excitation_error", "weight", "h", "k", "l")
"""Columns of what `refine_still` says of each spot; observed minus calculated position."""


@njit(cache=True, nogil=True)
def refine_still(
    q: NDArray[np.float64],
    observed: NDArray[np.float64],
    panel: NDArray[np.int32],
    quality: NDArray[np.float64],
    s0: NDArray[np.float64],
    inverses: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    expected: NDArray[np.float64],
    b: NDArray[np.float64],
    strains: NDArray[np.float64],
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
    rotation: NDArray[np.float64],
    strain: NDArray[np.float64],
    displacement: NDArray[np.float64],
    a: NDArray[np.float64],
    residuals: NDArray[np.float64],
    widths: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> int:
    """Fit rotation, strain and displacement in place by Gauss-Newton; return the number of spots used.

    Spots are paired with lattice points anew, and the widths estimated anew, every second cycle. A
    step that makes the fit worse is halved, three times at most, then refused.

    Parameters
    ----------
    q : (n, 3) array
        Observed spots, 1/Å: for pairing.
    observed : (n, 2) array
        From `still_model.surface_positions`.
    panel : (n,) array
        Panel of each spot.
    quality : (n, 2) array
        From `still_model.spot_quality`.
    inverses : (p, 3, 3) array
        From `still_model.panel_inverses`.
    rocking
        See `prediction.rocking_sigma`.
    expected : (2,) array
        Expected error of a strong spot's centroid, px; rocking width relative to ``rocking``.
    b : (3, 3) array
        Expected B matrix.
    strains : (m, 3, 3) array
        Strains that the lattice allows.
    mean : (m + 2,) array
        Of strains and displacements in the population.
    precision : (m + 2, m + 2) array
        Inverse of their covariance in the population.
    rotation, strain, displacement : (3, 3), (m,), (2,) array
        Start and result.
    a : (3, 3) array
        The fitted A.
    residuals : (n, 7) array
        Columns as in `RESIDUALS`; weight is 0 for spots that took no part.
    widths : (2,) array
        As ``expected``, fitted.
    covariance : (5 + m, 5 + m) array
        Of turns (radians), strains and displacements (mm).
    """
    n, n_strains = q.shape[0], strains.shape[0]
    n_free = 5 + n_strains
    generators, to_hkl = np.empty((n_strains, 3, 3)), np.empty((3, 3))
    normal, rhs, step = np.empty((n_free, n_free)), np.empty(n_free), np.zeros(n_free)
    hkl, white = np.empty((n, 3)), np.zeros((n, 4))
    best_rotation, best_rest = rotation.copy(), np.empty(n_strains + 2)
    rest = np.concatenate((strain, displacement))
    best_rest[:] = rest
    widths[:] = expected
    best, n_used, halvings = np.inf, 0, 0
    for cycle in range(MAX_CYCLES + 1):
        compose(rotation, rest[:n_strains], strains, b, a)
        for j in range(n_strains):
            rotated_strain(rotation, strains[j], b, generators[j])
        if cycle % 2 == 0 and halvings == 0:
            _pair(q, a, to_hkl, hkl)
            if cycle > 0:
                _rescale(white, expected, widths)
            best = np.inf
        cost, n_used = _accumulate(
            observed, panel, quality, hkl, a, generators, rest[n_strains:], s0, rocking, inverses, widths,
            normal, rhs, white,
        )  # fmt: skip
        if n_used < 3:
            return 0
        cost += _restrain(normal, rhs, rest, mean, precision)
        if cost <= best * (1.0 + 1e-9):
            best, halvings = cost, 0
            best_rotation[:], best_rest[:] = rotation, rest
            covariance[:], step[:] = normal, rhs
            if not solve_positive(normal, step):
                return 0
            if cycle >= 3 and np.sum(rhs * step) < n_free * SMALL_SHIFT**2:
                break
        else:
            halvings += 1
            step *= 0.5 if halvings <= 3 else 0.0
        rotation[:], rest[:] = best_rotation, best_rest
        if cycle < MAX_CYCLES:
            rotate(rotation, step)
            rest += step[3:]
    rotation[:], strain[:], displacement[:] = best_rotation, best_rest[:n_strains], best_rest[n_strains:]
    compose(rotation, strain, strains, b, a)
    _in_pixels(observed, panel, hkl, a, generators, displacement, s0, rocking, inverses, white, residuals)
    _invert(covariance)
    return n_used


@njit(cache=True, nogil=True)
def _pair(
    q: NDArray[np.float64], a: NDArray[np.float64], to_hkl: NDArray[np.float64], hkl: NDArray[np.float64]
) -> None:
    """Write the nearest lattice point of each spot into ``hkl``; nan where that is the origin."""
    inverse(a, to_hkl)
    for i in range(q.shape[0]):
        for r in range(3):
            hkl[i, r] = np.rint(to_hkl[r, 0] * q[i, 0] + to_hkl[r, 1] * q[i, 1] + to_hkl[r, 2] * q[i, 2])
        if hkl[i, 0] == 0.0 and hkl[i, 1] == 0.0 and hkl[i, 2] == 0.0:
            hkl[i, 0] = np.nan


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _accumulate(
    observed: NDArray[np.float64],
    panel: NDArray[np.int32],
    quality: NDArray[np.float64],
    hkl: NDArray[np.float64],
    a: NDArray[np.float64],
    generators: NDArray[np.float64],
    displacement: NDArray[np.float64],
    s0: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    inverses: NDArray[np.float64],
    widths: NDArray[np.float64],
    normal: NDArray[np.float64],
    rhs: NDArray[np.float64],
    white: NDArray[np.float64],
) -> tuple[float, int]:
    """Write normal equations, and residuals over their errors with weights; robust cost, spots used."""
    n_free = rhs.shape[0]
    normal[:], rhs[:] = 0.0, 0.0
    value, jacobian = np.empty(4), np.empty((n_free, 3))
    cost, n_used = 0.0, 0
    for i in range(observed.shape[0]):
        white[i, 3] = 0.0
        if math.isnan(hkl[i, 0]):
            continue
        model_spot(hkl[i], a, generators, displacement, s0, rocking, inverses[panel[i]], value, jacobian)
        per_px = 1.0 / (widths[0] * quality[i, 0])
        per_error = 1.0 / (widths[1] * quality[i, 1] * rocking_sigma(value[3], rocking))
        x, y, z = (
            (observed[i, 0] - value[0]) * per_px,
            (observed[i, 1] - value[1]) * per_px,
            -value[2] * per_error,
        )
        white[i, 0], white[i, 1], white[i, 2] = x, y, z
        chi2 = x * x + y * y + z * z
        cost += (DEGREES_OF_FREEDOM + 3.0) * math.log(1.0 + min(chi2, CUT * CUT) / DEGREES_OF_FREEDOM)
        if chi2 > CUT * CUT:
            continue
        white[i, 3] = (DEGREES_OF_FREEDOM + 3.0) / (DEGREES_OF_FREEDOM + chi2)
        n_used += 1
        for j in range(n_free):
            gx, gy = white[i, 3] * per_px**2 * jacobian[j, 0], white[i, 3] * per_px**2 * jacobian[j, 1]
            gz = white[i, 3] * per_error**2 * jacobian[j, 2]
            rhs[j] += (gx * x + gy * y) / per_px + gz * z / per_error
            for k in range(j + 1):
                normal[j, k] += gx * jacobian[k, 0] + gy * jacobian[k, 1] + gz * jacobian[k, 2]
    for j in range(n_free):
        for k in range(j):
            normal[k, j] = normal[j, k]
    return cost, n_used


@njit(cache=True, nogil=True)
def _rescale(white: NDArray[np.float64], expected: NDArray[np.float64], widths: NDArray[np.float64]) -> None:
    """Fit the widths of positions and of excitation errors to the residuals of the spots used."""
    n = white.shape[0]
    positions, errors = np.empty(2 * n), np.empty(n)
    m = 0
    for i in range(n):
        if white[i, 3] > 0.0:
            positions[2 * m], positions[2 * m + 1] = abs(white[i, 0]), abs(white[i, 1])
            errors[m] = abs(white[i, 2])
            m += 1
    for width, middle in ((0, np.median(positions[: 2 * m])), (1, np.median(errors[:m]))):
        own = widths[width] * 1.4826 * middle / expected[width]
        widths[width] = expected[width] * math.sqrt((m * own * own + PRIOR_SPOTS) / (m + PRIOR_SPOTS))


@njit(cache=True, nogil=True)
def _restrain(
    normal: NDArray[np.float64],
    rhs: NDArray[np.float64],
    rest: NDArray[np.float64],
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> float:
    """Add the restraint of strains and displacements to their population; return its cost."""
    cost = 0.0
    for j in range(rest.shape[0]):
        for k in range(rest.shape[0]):
            pull = precision[j, k] * (rest[k] - mean[k])
            normal[3 + j, 3 + k] += precision[j, k]
            rhs[3 + j] -= pull
            cost += (rest[j] - mean[j]) * pull
    return cost


@njit(cache=True, nogil=True)
def _in_pixels(
    observed: NDArray[np.float64],
    panel: NDArray[np.int32],
    hkl: NDArray[np.float64],
    a: NDArray[np.float64],
    generators: NDArray[np.float64],
    displacement: NDArray[np.float64],
    s0: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    inverses: NDArray[np.float64],
    white: NDArray[np.float64],
    residuals: NDArray[np.float64],
) -> None:
    """Write the residuals of each spot, columns as in `RESIDUALS`."""
    value, jacobian = np.empty(4), np.empty((5 + generators.shape[0], 3))
    for i in range(observed.shape[0]):
        if math.isnan(hkl[i, 0]):
            residuals[i, :3] = np.nan
            residuals[i, 3:] = 0.0
            continue
        model_spot(hkl[i], a, generators, displacement, s0, rocking, inverses[panel[i]], value, jacobian)
        residuals[i, 0], residuals[i, 1] = observed[i, 0] - value[0], observed[i, 1] - value[1]
        residuals[i, 2], residuals[i, 3] = value[2], white[i, 3]
        residuals[i, 4:] = hkl[i]


@njit(cache=True, nogil=True)
def _invert(matrix: NDArray[np.float64]) -> None:
    """Replace a positive definite matrix by its inverse; by nan where it is none."""
    n = matrix.shape[0]
    out, column, work = np.empty((n, n)), np.empty(n), np.empty((n, n))
    for j in range(n):
        column[:] = 0.0
        column[j] = 1.0
        work[:] = matrix
        if not solve_positive(work, column):
            column[:] = np.nan
        out[:, j] = column
    matrix[:] = out
