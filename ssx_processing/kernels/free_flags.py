"""Which reflections are kept out of refinement: the same ones in every merge of a crystal form."""

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_hash import splitmix
from ssx_processing.kernels.symmetry import known_space_group, symmetrised_cell
from ssx_processing.models import UnitCell

N_SETS = 20
"""Flags are 0 to 19, as CCP4's freerflag draws them by default."""
TEST_SET = 0
"""The set that CCP4 programs keep out of refinement; a twentieth of the reflections."""
MAX_OBLIQUITY_DEG = 2.0
"""As `symmetry.indexing_ambiguity_operators`."""

_ONE_AXIS = np.int64(1 << 20)  # indices of a reflection fit into 20 bits each


def free_flags(hkl: NDArray[np.integer], unit_cell: UnitCell, space_group: str) -> NDArray[np.int32]:
    """Flag of each reflection, 0 to 19, drawn by a hash of its indices.

    Reflections that the symmetry of the lattice relates share a flag, whether or not the space group
    relates them: Friedel mates, twins, and what another choice of indexing would make of them. The
    flag of a reflection depends on nothing else, so data to a higher resolution, or of a crystal of
    the same form, only add reflections to each set.

    Parameters
    ----------
    hkl : (n, 3) array
    unit_cell
        Å and degrees; tells which lattice it is, so that pseudo-symmetry within 2 degrees counts.

    Returns
    -------
    (n,) array

    Examples
    --------
    >>> cell = (61.0, 61.0, 110.0, 90.0, 90.0, 120.0)
    >>> hkl = np.array([[1, 2, 3], [-1, -2, -3], [-3, 2, -3]])  # the last by the twin law of P 63
    >>> len(set(free_flags(hkl, cell, "P 63").tolist()))
    1
    """
    key = np.full(len(hkl), -1, np.int64)
    for rotation in lattice_rotations(unit_cell, space_group):
        related = np.rint(hkl @ rotation).astype(np.int64)
        for mate in (related, -related):
            h, k, l = (mate + _ONE_AXIS // 2).T  # noqa: E741
            key = np.maximum(key, (h * _ONE_AXIS + k) * _ONE_AXIS + l)
    return (splitmix(key.astype(np.uint64)) % np.uint64(N_SETS)).astype(np.int32)


def lattice_rotations(unit_cell: UnitCell, space_group: str) -> NDArray[np.float64]:
    """(n, 3, 3) R such that hkl (a row) times R is a node that the lattice cannot tell from hkl."""
    group = known_space_group(space_group)
    cell = gemmi.UnitCell(*symmetrised_cell(unit_cell, space_group))
    lattice = gemmi.find_lattice_symmetry(cell, group.centring_type(), MAX_OBLIQUITY_DEG)
    return np.array([op.rot for op in lattice.sym_ops], np.float64) / gemmi.Op.DEN
