"""The highest symmetry that a primitive cell allows, its Bravais type and conventional cell.

The two-fold axes that the lattice has within a tolerance (Le Page, as gemmi finds them) generate its
symmetry; the conventional axes are the shortest lattice vectors along the symmetry axes.
"""

import itertools
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_comparison import cell_of_metric, metric_of
from ssx_processing.models import UnitCell

MAX_OBLIQUITY_DEG = 2.0
"""Obliquity up to which an axis of symmetry is considered at all."""
SYMMORPHIC = {
    "aP": "P 1",
    "mP": "P 1 2 1",
    "mC": "C 1 2 1",
    "oP": "P 2 2 2",
    "oC": "C 2 2 2",
    "oI": "I 2 2 2",
    "oF": "F 2 2 2",
    "tP": "P 4 2 2",
    "tI": "I 4 2 2",
    "hP": "P 6 2 2",
    "hR": "R 3 2:H",
    "cP": "P 4 3 2",
    "cI": "I 4 3 2",
    "cF": "F 4 3 2",
}
"""Bravais type to the highest symmetry of a chiral crystal, without screw axes."""
_SYSTEM_OF_ORDER = {1: "a", 2: "m", 4: "o", 6: "h", 8: "t", 12: "h", 24: "c"}
_SMALL = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class LatticeType:
    """Bravais type and conventional cell of a lattice."""

    bravais: str
    """Pearson's symbol: aP mP mC oP oC oI oF tP tI hP hR cP cI cF."""
    cell: UnitCell
    """Conventional, obeying the symmetry exactly."""
    basis: NDArray[np.int64]
    """(3, 3) rows: conventional a, b, c in the primitive basis."""

    @property
    def space_group(self) -> gemmi.SpaceGroup:
        """The highest symmetry, without screw axes."""
        return gemmi.SpaceGroup(SYMMORPHIC[self.bravais])


def lattice_type(
    cell: UnitCell, max_length_change: float = 0.003, max_angle_change_deg: float = 0.3
) -> LatticeType:
    """Return the highest symmetry that changes the cell by less than the tolerances.

    Parameters
    ----------
    cell
        Niggli-reduced primitive cell.
    max_length_change, max_angle_change_deg
        Largest change, relative or in degrees, of a parameter of the primitive cell when it is made to obey
        the symmetry.

    Examples
    --------
    >>> lattice_type((70.8, 70.7, 70.6, 60.1, 60.0, 59.9)).bravais
    'cF'
    """
    reduced = gemmi.UnitCell(*cell)
    metric = metric_of(cell)
    obliquities = {round(o, 6) for _, o in gemmi.find_lattice_2fold_ops(reduced, MAX_OBLIQUITY_DEG)}
    for limit in sorted(obliquities, reverse=True):
        ops = gemmi.find_lattice_symmetry(reduced, "P", limit + 1e-5)
        rotations = np.array([np.array(op.rot) // gemmi.Op.DEN for op in ops.sym_ops])
        mean = np.einsum("nji,jk,nkl->il", rotations, metric, rotations) / len(rotations)
        change = np.abs(np.array(cell_of_metric(mean)) - cell)
        if (change[:3] / cell[:3]).max() > max_length_change or change[3:].max() > max_angle_change_deg:
            continue
        found = _conventional(rotations, mean)
        if found is not None:
            return found
    return LatticeType("aP", cell, np.eye(3, dtype=np.int64))


def _conventional(rotations: NDArray[np.int64], metric: NDArray[np.float64]) -> LatticeType | None:
    """Conventional basis of a lattice with these rotations; None where they are no lattice's symmetry."""
    system = _SYSTEM_OF_ORDER.get(len(rotations))
    if system is None:
        return None
    axes = _axes(rotations, metric)
    if system == "a":
        return LatticeType("aP", cell_of_metric(metric), np.eye(3, dtype=np.int64))
    if system == "m":
        return _monoclinic(axes[2][0], rotations, metric)
    if system == "o":
        basis = np.array(axes[2])
    elif system == "c":
        basis = np.array(axes[4])
    elif system == "t":
        basis = _about(axes[4][0], axes[2], rotations, 1)
    else:
        main = axes[6][0] if 6 in axes else axes[3][0]
        basis = _about(main, axes[2], rotations, 0)
    if len(basis) != 3:
        return None
    if system == "o":
        basis = _standard_order(basis, metric)
    if np.linalg.det(basis) < 0:
        basis = basis * np.array([[1], [1], [-1]])
    if system == "h" and len(rotations) == 6 and np.any((2 * basis[0] + basis[1] + basis[2]) % 3):
        basis = basis * np.array([[-1], [-1], [1]])  # the obverse setting
    centring = _centring(basis)
    if centring is None or system + centring not in SYMMORPHIC:
        return None
    return LatticeType(system + centring, cell_of_metric(basis @ metric @ basis.T), basis)


def _axes(rotations: NDArray[np.int64], metric: NDArray[np.float64]) -> dict[int, list[NDArray[np.int64]]]:
    """Order of rotation to shortest lattice vectors along its axes, each axis once, the shortest first."""
    order_of_trace = {-1: 2, 0: 3, 1: 4, 2: 6}
    axes: dict[int, list[NDArray[np.int64]]] = {}
    for rotation in rotations:
        order = order_of_trace.get(int(np.trace(rotation)))
        if order is None:
            continue
        power, total = np.eye(3, dtype=np.int64), np.zeros((3, 3), np.int64)
        for _ in range(order):
            total += power
            power = power @ rotation
        column = total[:, np.argmax(np.abs(total).sum(axis=0))]
        axis = column // np.gcd.reduce(column)
        known = axes.setdefault(order, [])
        if not any(np.array_equal(axis, k) or np.array_equal(axis, -k) for k in known):
            known.append(axis)
    for order, known in axes.items():
        axes[order] = sorted(known, key=lambda u: float(u @ metric @ u))
    four_fold = axes.get(4, [])  # their squares are two-fold about the same axes
    if 2 in axes and four_fold:
        axes[2] = [u for u in axes[2] if not any(not np.any(np.cross(u, f)) for f in four_fold)]
    main = axes.get(6, [])
    if main:
        axes[2] = [u for u in axes[2] if np.any(np.cross(u, main[0]))]
    return axes


def _about(
    main: NDArray[np.int64], two_folds: list[NDArray[np.int64]], rotations: NDArray[np.int64], trace: int
) -> NDArray[np.int64]:
    """Basis with c along the main axis, a along the shortest two-fold across it, b turned from a about c."""
    turn = next(r for r in rotations if int(np.trace(r)) == trace and np.array_equal(r @ main, main))
    return np.array([two_folds[0], turn @ two_folds[0], main])


def _standard_order(basis: NDArray[np.int64], metric: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ascending lengths; where one face is centred that is C."""
    basis = np.array(sorted(basis, key=lambda u: float(u @ metric @ u)))
    if round(abs(float(np.linalg.det(basis)))) == 2:
        for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            if not np.any((basis[i] + basis[j]) % 2):
                return basis[[i, j, k]]
    return basis


def _centring(basis: NDArray[np.int64]) -> str | None:
    """Return the letter of the centring from the lattice points inside the conventional cell."""
    multiplicity = round(abs(float(np.linalg.det(basis))))
    if multiplicity == 2:
        if not np.any((basis[0] + basis[1]) % 2):
            return "C"
        return "I" if not np.any(basis.sum(axis=0) % 2) else None
    return {1: "P", 3: "R", 4: "F"}.get(multiplicity)


def _monoclinic(
    unique: NDArray[np.int64], rotations: NDArray[np.int64], metric: NDArray[np.float64]
) -> LatticeType | None:
    """Return the basis with b along the two-fold axis; a and c are short, or near 90 degrees if C-centred."""
    two_fold = next(r for r in rotations if int(np.trace(r)) == -1)
    across = [n for n in _SMALL if np.any(n) and not np.any(two_fold @ n + n)]
    across = sorted(across, key=lambda n: float(n @ metric @ n))[:14]
    best: tuple[float, LatticeType] | None = None
    for a, c, b in itertools.product(across, across, (unique, -unique)):
        basis = np.array([a, b, c])
        volume = round(float(np.linalg.det(basis)))
        if volume not in (1, 2):
            continue
        cell = cell_of_metric(basis @ metric @ basis.T)
        is_centred = volume == 2
        if cell[4] < 90 - 1e-6 or (is_centred and np.any((a + b) % 2)):
            continue
        # primitive: the shortest a and c, a before c; centred: the least oblique
        rank = abs(cell[4] - 90) if is_centred else cell[0] + cell[2] + 1e-3 * (cell[0] > cell[2])
        if best is None or rank < best[0] - 1e-6:
            best = rank, LatticeType("mC" if is_centred else "mP", cell, basis)
    return None if best is None else best[1]
