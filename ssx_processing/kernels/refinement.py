"""Least-squares fit of orientation and cell to the spots of one frame.

A = R (1 + e) B: R a rotation, e a strain that respects the lattice's symmetry, B the expected
cell. The residual along the diffracted ray is excitation error, not measurement, and has an error
of its own; isotropic least squares would pull the orientation by it.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_score import determinant, inverse

SCALES = np.array([3.5, 2.5, 1.8, 1.3, 1.0, 1.0])
"""Times the expected errors, round by round: from where a search may be off to what is expected."""
RIGID_ROUNDS = 2
"""Rounds before the cell is set free."""
SHARE = 0.5
"""Of the spots that belong to the lattice, as far as is known."""
STRAIN_SIGMA = 0.003
"""Relative deviations of a crystal's cell from the expected one that are not surprising: its restraint."""


@njit(cache=True, nogil=True)
def compose(
    rotation: NDArray[np.float64],
    strain: NDArray[np.float64],
    strains: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write A = R (1 + sum_j strain_j E_j) B into ``out``."""
    eb = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            total = b[i, j]
            for k in range(3):
                e = 0.0
                for m in range(strain.shape[0]):
                    e += strain[m] * strains[m, i, k]
                total += e * b[k, j]
            eb[i, j] = total
    for i in range(3):
        for j in range(3):
            out[i, j] = rotation[i, 0] * eb[0, j] + rotation[i, 1] * eb[1, j] + rotation[i, 2] * eb[2, j]


@njit(cache=True, nogil=True)
def solve_positive(n: NDArray[np.float64], rhs: NDArray[np.float64]) -> bool:
    """Solve n x = rhs in place by Cholesky; False where n is not positive definite."""
    m = rhs.shape[0]
    for i in range(m):
        for j in range(i + 1):
            total = n[i, j]
            for k in range(j):
                total -= n[i, k] * n[j, k]
            if i == j:
                if total <= 0.0:
                    return False
                n[i, i] = math.sqrt(total)
            else:
                n[i, j] = total / n[j, j]
    for i in range(m):
        for k in range(i):
            rhs[i] -= n[i, k] * rhs[k]
        rhs[i] /= n[i, i]
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            rhs[i] -= n[k, i] * rhs[k]
        rhs[i] /= n[i, i]
    return True


@njit(cache=True, nogil=True)
def rotate(rotation: NDArray[np.float64], omega: NDArray[np.float64]) -> None:
    """Replace R by exp(omega) R, omega the first three elements in radians (Rodrigues)."""
    x, y, z = omega[0], omega[1], omega[2]
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-15:
        return
    x, y, z = x / angle, y / angle, z / angle
    s, c = math.sin(angle), math.cos(angle)
    for j in range(3):
        u, v, w = rotation[0, j], rotation[1, j], rotation[2, j]
        dot = (x * u + y * v + z * w) * (1.0 - c)
        rotation[0, j] = c * u + s * (y * w - z * v) + dot * x
        rotation[1, j] = c * v + s * (z * u - x * w) + dot * y
        rotation[2, j] = c * w + s * (x * v - y * u) + dot * z


@njit(cache=True, nogil=True)
def refine_lattice(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    b: NDArray[np.float64],
    strains: NDArray[np.float64],
    rotation: NDArray[np.float64],
    strain: NDArray[np.float64],
    errors: tuple[float, float, float],
    scales: NDArray[np.float64],
    rigid_rounds: int,
    a_matrix: NDArray[np.float64],
) -> float:
    """Fit ``rotation`` and ``strain`` in place; return the weight of the spots in the last round.

    Each spot counts with the probability that it belongs to the lattice and not to anything else
    (expectation maximisation of the mixture that `lattice_score.log10_chance` judges by), so no
    spot is in or out, and none jumps from round to round.

    Parameters
    ----------
    q : (n, 3) array
        Observed spots, 1/Å.
    s0 : (3,) array
        Incident wave vector, 1/Å.
    b : (3, 3) array
        Expected B matrix.
    strains : (m, 3, 3) array
        Strains that the lattice allows.
    rotation : (3, 3) array
        Start and result.
    strain : (m,) array
        Start and result.
    errors
        As in `lattice_score.squared_deviations`.
    scales : (r,) array
        Times these errors, in each round.
    rigid_rounds
        So many rounds turn only; then the cell is free too, restrained to the expected one.
    a_matrix : (3, 3) array
        The fitted A.
    """
    n_strains = strains.shape[0]
    generators = np.empty((n_strains, 3, 3))
    normal, rhs = np.empty((3 + n_strains, 3 + n_strains)), np.empty(3 + n_strains)
    jacobian = np.empty((3 + n_strains, 3))
    weight = 0.0
    compose(rotation, strain, strains, b, a_matrix)
    for r in range(scales.shape[0]):
        n_free = 3 + n_strains if r >= rigid_rounds else 3
        for j in range(n_free - 3):
            rotated_strain(rotation, strains[j], b, generators[j])
        weight = _normal_equations(
            q, s0, a_matrix, generators[: n_free - 3], errors, scales[r], normal, rhs, jacobian
        )
        if weight < 2.0:
            break
        for j in range(3):  # directions that no spot determines stay as they are
            normal[j, j] *= 1.0 + 1e-9
        for j in range(3, n_free):
            normal[j, j] += 1.0 / STRAIN_SIGMA**2
            rhs[j] -= strain[j - 3] / STRAIN_SIGMA**2
        if not solve_positive(normal[:n_free, :n_free], rhs[:n_free]):
            break
        rotate(rotation, rhs)
        for j in range(3, n_free):
            strain[j - 3] += rhs[j]
        compose(rotation, strain, strains, b, a_matrix)
    return weight


@njit(cache=True, nogil=True)
def rotated_strain(
    rotation: NDArray[np.float64],
    strain: NDArray[np.float64],
    b: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write R E B into ``out``: how A changes with one strain."""
    for i in range(3):
        for j in range(3):
            total = 0.0
            for k in range(3):
                for m in range(3):
                    total += rotation[i, k] * strain[k, m] * b[m, j]
            out[i, j] = total


@njit(cache=True, nogil=True)
def _normal_equations(
    q: NDArray[np.float64],
    s0: NDArray[np.float64],
    a: NDArray[np.float64],
    generators: NDArray[np.float64],
    errors: tuple[float, float, float],
    scale: float,
    normal: NDArray[np.float64],
    rhs: NDArray[np.float64],
    jacobian: NDArray[np.float64],
) -> float:
    """Accumulate the normal equations of all spots; return the sum of their weights."""
    n_free = 3 + generators.shape[0]
    normal[:n_free, :n_free] = 0.0
    rhs[:n_free] = 0.0
    to_hkl, hkl, p = np.empty((3, 3)), np.empty(3), np.empty(3)
    residual, ray = np.empty(3), np.empty(3)
    inverse(a, to_hkl)
    volume = abs(determinant(a))
    across_variance = (scale * errors[0]) ** 2
    total_weight = 0.0
    for i in range(q.shape[0]):
        along = length = qq = square = 0.0
        for r in range(3):
            hkl[r] = np.rint(to_hkl[r, 0] * q[i, 0] + to_hkl[r, 1] * q[i, 1] + to_hkl[r, 2] * q[i, 2])
        for r in range(3):
            p[r] = a[r, 0] * hkl[0] + a[r, 1] * hkl[1] + a[r, 2] * hkl[2]
            residual[r] = q[i, r] - p[r]
            ray[r] = s0[r] + q[i, r]
            length += ray[r] * ray[r]
            qq += q[i, r] * q[i, r]
            square += residual[r] * residual[r]
            along += residual[r] * ray[r]
        length = math.sqrt(length)
        along /= length
        along_variance = scale**2 * (errors[1] ** 2 + errors[2] ** 2 * qq)
        square = (square - along * along) / across_variance + along * along / along_variance
        if square > 40.0:
            continue
        odds = SHARE / (1.0 - SHARE) * volume / (15.7496 * across_variance * math.sqrt(along_variance))
        odds *= math.exp(-0.5 * square)
        weight = odds / (1.0 + odds)
        if weight < 1e-3:
            continue
        total_weight += weight
        w_across, w_along = weight / across_variance, weight / along_variance
        for r in range(3):
            ray[r] /= length
        jacobian[0, 0], jacobian[0, 1], jacobian[0, 2] = 0.0, -p[2], p[1]
        jacobian[1, 0], jacobian[1, 1], jacobian[1, 2] = p[2], 0.0, -p[0]
        jacobian[2, 0], jacobian[2, 1], jacobian[2, 2] = -p[1], p[0], 0.0
        for j in range(generators.shape[0]):
            for r in range(3):
                g = generators[j, r]
                jacobian[3 + j, r] = g[0] * hkl[0] + g[1] * hkl[1] + g[2] * hkl[2]
        for j in range(n_free):
            part = (w_along - w_across) * (
                jacobian[j, 0] * ray[0] + jacobian[j, 1] * ray[1] + jacobian[j, 2] * ray[2]
            )
            for r in range(3):  # W j, with W = w_across + (w_along - w_across) ray ray^T
                p[r] = w_across * jacobian[j, r] + part * ray[r]
            rhs[j] += p[0] * residual[0] + p[1] * residual[1] + p[2] * residual[2]
            for k in range(j + 1):
                normal[j, k] += p[0] * jacobian[k, 0] + p[1] * jacobian[k, 1] + p[2] * jacobian[k, 2]
    for j in range(n_free):
        for k in range(j):
            normal[k, j] = normal[j, k]
    return total_weight
