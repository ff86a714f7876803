"""Other ways to index the same lattice, applied to reflections.

An operator is a triplet such as "k,h,-l" that acts on hkl. A space group S and the lattice's rotations
give one operator g per coset g S; where S is not a normal subgroup, as of P 4 in a lattice that is
nearly cubic, equivalent reflections do not stay equivalent under g. So operators are applied to the
indices of an observation, never to its unique reflection.
"""

from collections.abc import Sequence

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.symmetry import AsymmetricUnit, known_space_group, rotations

IDENTITY = "h,k,l"
"""The operator of a lattice that stays as it was indexed."""


def reindexing_matrix(operator: str) -> NDArray[np.int64]:
    """(3, 3) R times 24, with hkl (a row) times R the reindexed one; fractions occur in centred lattices.

    Examples
    --------
    >>> (reindexing_matrix("-h-k,k,-l") // 24).tolist()
    [[-1, 0, 0], [-1, 1, 0], [0, 0, -1]]
    """
    return np.array(gemmi.Op(operator).rot, np.int64)


def reindexed(hkl: NDArray[np.integer], operator: str) -> NDArray[np.int32]:
    """(n, 3) indices under an operator.

    Examples
    --------
    >>> reindexed(np.array([[1, 2, 3]]), "-h-k,k,-l").tolist()
    [[-3, 2, -3]]
    """
    return _applied(hkl, reindexing_matrix(operator))


def inverse_reindexed(hkl: NDArray[np.integer], operator: str) -> NDArray[np.int32]:
    """(n, 3) indices that the operator turns into ``hkl``.

    Examples
    --------
    >>> inverse_reindexed(reindexed(np.array([[1, 2, 3]]), "k,l,h"), "k,l,h").tolist()
    [[1, 2, 3]]
    """
    return _applied(hkl, np.array(gemmi.Op(operator).inverse().rot, np.int64))


def _applied(hkl: NDArray[np.integer], matrix: NDArray[np.int64]) -> NDArray[np.int32]:
    return (hkl.astype(np.int64) @ matrix // gemmi.Op.DEN).astype(np.int32)


def uid_by_operator(
    hkl: NDArray[np.integer], unit: AsymmetricUnit, operators: Sequence[str]
) -> NDArray[np.int32]:
    """Unique reflection of each observation under each operator.

    Parameters
    ----------
    hkl : (n, 3) array
        As indexed.
    operators
        K of them.

    Returns
    -------
    (n, K) array
        Rows of the asymmetric unit's table; -1 where absent or beyond its resolution.
    """
    matrices = np.array([reindexing_matrix(operator) for operator in operators])
    return _uid_by_operator(np.ascontiguousarray(hkl, np.int32), matrices, unit.uid_table)


@njit(cache=True, nogil=True)
def _uid_by_operator(hkl, matrices, uid_table):
    n_operators = len(matrices)
    uid = np.full((len(hkl), n_operators), -1, np.int32)
    n_h, n_k, n_l = uid_table.shape
    for i in range(len(hkl)):
        h, k, l = hkl[i, 0], hkl[i, 1], hkl[i, 2]  # noqa: E741
        for j in range(n_operators):
            m = matrices[j]
            # floor division is exact: an allowed reflection of a centred lattice has no fractions left
            x = (h * m[0, 0] + k * m[1, 0] + l * m[2, 0]) // 24 + (n_h >> 1)
            y = (h * m[0, 1] + k * m[1, 1] + l * m[2, 1]) // 24 + (n_k >> 1)
            z = (h * m[0, 2] + k * m[1, 2] + l * m[2, 2]) // 24 + (n_l >> 1)
            if 0 <= x < n_h and 0 <= y < n_k and 0 <= z < n_l:
                uid[i, j] = uid_table[x, y, z]
    return uid


def composition_table(operators: Sequence[str], space_group: str) -> NDArray[np.int64]:
    """What a lattice's operator becomes if all merged reflections are reindexed afterwards.

    Returns
    -------
    (K, K) array
        Element [i, r]: the operator equivalent to i followed by r; -1 in the columns of an r that does
        not keep the space group, so that merged reflections cannot be reindexed by it.

    Examples
    --------
    >>> composition_table(["h,k,l", "k,h,-l"], "P 4").tolist()
    [[0, 1], [1, 0]]
    """
    matrices = [reindexing_matrix(operator) / gemmi.Op.DEN for operator in operators]
    group = [
        rotation.astype(np.float64) for rotation in rotations(known_space_group(space_group).operations())
    ]
    members = {_rounded(rotation) for rotation in group}
    coset = {_rounded(matrix @ s): k for k, matrix in enumerate(matrices) for s in group}
    table = np.full((len(matrices), len(matrices)), -1, np.int64)
    for r, after in enumerate(matrices):
        inverse = np.linalg.inv(after)
        if all(_rounded(inverse @ s @ after) in members for s in group):
            table[:, r] = [coset.get(_rounded(matrix @ after), -1) for matrix in matrices]
            if (table[:, r] < 0).any():
                table[:, r] = -1
    return table


def product_table(
    first: Sequence[str], second: Sequence[str], among: Sequence[str], space_group: str
) -> NDArray[np.int64]:
    """Which operator of ``among`` is equivalent to one of ``first`` followed by one of ``second``.

    Returns
    -------
    (len(first), len(second)) array
        -1 where none is.

    Examples
    --------
    >>> product_table(["h,k,l", "k,h,-l"], ["k,h,-l"], ["h,k,l", "k,h,-l"], "P 4").tolist()
    [[1], [0]]
    """
    group = [
        rotation.astype(np.float64) for rotation in rotations(known_space_group(space_group).operations())
    ]
    firsts, seconds, all_of_them = (
        [reindexing_matrix(operator) / gemmi.Op.DEN for operator in operators]
        for operators in (first, second, among)
    )
    coset = {_rounded(matrix @ s): k for k, matrix in enumerate(all_of_them) for s in group}
    return np.array([[coset.get(_rounded(a @ b), -1) for b in seconds] for a in firsts], np.int64)


def _rounded(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((np.round(matrix, 4) + 0.0).ravel().tolist())
