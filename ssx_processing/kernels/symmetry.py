"""The asymmetric unit as a table: any hkl to its unique reflection by one look-up."""

from dataclasses import dataclass

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.models import UnitCell

MAX_TABLE_ENTRIES = 200_000_000
"""(2H+1)(2K+1)(2L+1) may not exceed this (1 GB); a 210 x 450 x 620 Å cell at 1.4 Å still fits."""


@dataclass(frozen=True)
class AsymmetricUnit:
    """Unique reflections to a resolution, CCP4's asymmetric unit, absences left out."""

    unit_cell: UnitCell
    space_group: str
    """Hermann-Mauguin symbol with setting, as gemmi's ``xhm``."""
    d_min: float
    """Å."""
    hkl: NDArray[np.int32]
    """(n_unique, 3), sorted by h, then k, then l."""
    d: NDArray[np.float64]
    """(n_unique,) spacing in Å."""
    centric: NDArray[np.bool_]
    """(n_unique,)."""
    epsilon: NDArray[np.int32]
    """(n_unique,) how many operators, centring apart, map the reflection onto itself."""
    uid_table: NDArray[np.int32]
    """(2H+1, 2K+1, 2L+1) row of `hkl` at [h + H, k + K, l + L]; -1 for absent or beyond d_min."""
    minus_table: NDArray[np.uint8]
    """Same shape; 1 where only Friedel's law maps hkl into the asymmetric unit; 0 for centric ones."""

    @property
    def s_squared(self) -> NDArray[np.float64]:
        """(n_unique,) (sin(theta)/lambda)² in 1/Å²."""
        return 0.25 / self.d**2

    def __len__(self) -> int:
        """Number of unique reflections that are possible."""
        return len(self.hkl)

    def find(
        self,
        h: NDArray[np.integer],
        k: NDArray[np.integer],
        l: NDArray[np.integer],  # noqa: E741
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Row of the unique reflection, -1 if there is none, and 1 for Friedel mates; (n,) arrays."""
        return _find(h, k, l, self.uid_table, self.minus_table)


@njit(cache=True, nogil=True)
def _find(h, k, l, uid_table, minus_table):  # noqa: E741
    uid, minus = np.full(len(h), -1, np.int32), np.zeros(len(h), np.uint8)
    n_h, n_k, n_l = uid_table.shape
    for i in range(len(h)):
        x, y, z = h[i] + (n_h >> 1), k[i] + (n_k >> 1), l[i] + (n_l >> 1)
        if 0 <= x < n_h and 0 <= y < n_k and 0 <= z < n_l:
            uid[i], minus[i] = uid_table[x, y, z], minus_table[x, y, z]
    return uid, minus


def asymmetric_unit(unit_cell: UnitCell, space_group: str, d_min: float) -> AsymmetricUnit:
    """Table of the unique reflections of a cell and space group.

    Examples
    --------
    >>> unit = asymmetric_unit((40.0, 40.0, 60.0, 90.0, 90.0, 90.0), "P 43 21 2", 4.0)
    >>> h, k, l = np.array([[3, 1, -2], [-1, 3, 2], [0, 0, 2]]).T
    >>> uid, minus = unit.find(h, k, l)
    >>> unit.hkl[uid[:2]].tolist(), int(uid[2])  # 0 0 2 is absent
    ([[3, 1, 2], [3, 1, 2]], -1)
    """
    cell, group = gemmi.UnitCell(*unit_cell), known_space_group(space_group)
    limit = np.array(cell.get_hkl_limits(d_min), np.int64)
    _check_size(2 * limit + 1)
    operations = group.operations()
    hkl = np.ascontiguousarray(gemmi.make_miller_array(cell, group, d_min), dtype=np.int32)
    if len(hkl) == 0:
        raise MergeError(f"no reflection of cell {unit_cell} lies below resolution {d_min} Å; check both")
    hkl = hkl[np.lexsort((hkl[:, 2], hkl[:, 1], hkl[:, 0]))]
    centric = np.asarray(operations.centric_flag_array(hkl), np.bool_)
    uid_table, minus_table = _tables(hkl, centric, operations, limit)
    return AsymmetricUnit(
        unit_cell=unit_cell,
        space_group=group.xhm(),
        d_min=d_min,
        hkl=hkl,
        d=np.asarray(cell.calculate_d_array(hkl), np.float64),
        centric=centric,
        epsilon=np.asarray(operations.epsilon_factor_without_centering_array(hkl), np.int32),
        uid_table=uid_table,
        minus_table=minus_table,
    )


def known_space_group(name: str) -> gemmi.SpaceGroup:
    """The space group of a Hermann-Mauguin symbol, gemmi's object."""
    group = gemmi.find_spacegroup_by_name(name)
    if group is None:
        raise MergeError(f"space group {name!r} is not known; give a Hermann-Mauguin symbol")
    return group


def rotations(operations: gemmi.GroupOps) -> NDArray[np.int32]:
    """(n_ops, 3, 3) R such that hkl (a row) times R is an equivalent reflection."""
    return np.array([op.rot for op in operations.sym_ops], np.int32) // gemmi.Op.DEN


def _check_size(shape: NDArray[np.int64]) -> None:
    if np.prod(shape) > MAX_TABLE_ENTRIES:
        raise MergeError(
            f"reflection table of {shape[0]} x {shape[1]} x {shape[2]} entries exceeds {MAX_TABLE_ENTRIES}; "
            "cut the resolution (merging.d_min)"
        )


def _tables(
    hkl: NDArray[np.int32],
    centric: NDArray[np.bool_],
    operations: gemmi.GroupOps,
    limit: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Table of unique reflections and of Friedel signs, indexed by hkl + limit."""
    equivalents = [hkl @ rotation for rotation in rotations(operations)]
    shape = tuple(int(n) for n in 2 * limit + 1)
    uid_table, minus_table = np.full(shape, -1, np.int32), np.zeros(shape, np.uint8)
    uid = np.arange(len(hkl), dtype=np.int32)
    for mate in (-1, 1):  # plus last: it wins where a reflection is its own Friedel mate's equivalent
        for equivalent in equivalents:
            place = tuple((mate * equivalent + limit).T)
            uid_table[place] = uid
            minus_table[place] = (mate < 0) & ~centric
    return uid_table, minus_table


def indexing_ambiguity_operators(
    unit_cell: UnitCell, space_group: str, max_obliquity_deg: float = 2.0
) -> tuple[str, ...]:
    """Reindexing operators that the lattice cannot tell from a symmetry; one per way of indexing.

    Triplets that act on hkl. Empty if there is one way only.

    Examples
    --------
    >>> indexing_ambiguity_operators((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P 43 21 2")
    ()
    >>> indexing_ambiguity_operators((61.0, 61.0, 110.0, 90.0, 90.0, 120.0), "P 63")
    ('-h-k,k,-l',)
    """
    laws = gemmi.find_twin_laws(
        gemmi.UnitCell(*unit_cell), known_space_group(space_group), max_obliquity_deg, False
    )
    return tuple(law.as_hkl().triplet() for law in laws)


def symmetrised_cell(unit_cell: UnitCell, space_group: str) -> UnitCell:
    """The cell whose metric is the mean over the rotations of the space group.

    Examples
    --------
    >>> symmetrised_cell((79.2, 78.8, 38.0, 90.0, 90.0, 90.1), "P 43 21 2")
    (79.0003, 79.0003, 38.0, 90.0, 90.0, 90.0)
    """
    a, b, c, alpha, beta, gamma = unit_cell
    cos_alpha, cos_beta, cos_gamma = np.cos(np.deg2rad([alpha, beta, gamma]))
    metric = np.array(
        [
            [a * a, a * b * cos_gamma, a * c * cos_beta],
            [a * b * cos_gamma, b * b, b * c * cos_alpha],
            [a * c * cos_beta, b * c * cos_alpha, c * c],
        ]
    )
    turned = rotations(known_space_group(space_group).operations()).astype(np.float64)
    mean = np.einsum("nji,jk,nkl->il", turned, metric, turned) / len(turned)
    lengths = np.sqrt(np.diag(mean))
    cosines = mean / np.outer(lengths, lengths)
    angles = np.rad2deg(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    x, y, z, u, v, w = (float(np.round(value, 4)) for value in (*lengths, *angles))
    return (x, y, z, u, v, w)
