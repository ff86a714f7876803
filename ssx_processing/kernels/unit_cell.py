"""Cell <-> B matrix, the lattice's symmetry, and the strains that it allows.

The search works on the primitive lattice, so that a centred cell's absent points are no lattice
points; A matrices leave here in the conventional setting.
"""

import math
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.symmetry import symmetrised_cell
from ssx_processing.models import UnitCell

TABLE_POINTS = 60_000
"""Reciprocal lattice points of the pair search at most: of large cells those of low angle only."""
METRIC_TOLERANCE_DEG = 0.25
"""Obliquity up to which a rotation counts as a symmetry of the expected lattice: a still does not tell."""
PSEUDO_TOLERANCE_DEG = 5.0
"""Up to which it is nearly one: the spots of one orientation then nearly fit another."""
MAX_PSEUDO_ROTATIONS = 23


def b_matrix(cell: UnitCell) -> NDArray[np.float64]:
    """(3, 3) array: columns a*, b*, c* in 1/Å, in gemmi's Cartesian frame of the crystal (a along x).

    Examples
    --------
    >>> b_matrix((10.0, 20.0, 40.0, 90.0, 90.0, 90.0)).round(6)
    array([[0.1  , 0.   , 0.   ],
           [0.   , 0.05 , 0.   ],
           [0.   , 0.   , 0.025]])
    """
    return np.array(gemmi.UnitCell(*cell).frac.mat.tolist()).T + 0.0


def real_space(a_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) array: rows a, b, c in Å; times q it gives the fractional hkl."""
    return np.linalg.inv(a_matrix).astype(np.float64)


def cell_of(a_matrix: NDArray[np.float64]) -> UnitCell:
    """Unit cell of an A (or B) matrix.

    Examples
    --------
    >>> [round(x, 6) for x in cell_of(b_matrix((50.0, 60.0, 70.0, 90.0, 100.0, 90.0)))]
    [50.0, 60.0, 70.0, 90.0, 100.0, 90.0]
    """
    vectors = real_space(a_matrix)
    a, b, c = (float(np.linalg.norm(v)) for v in vectors)

    def angle(i: int, j: int, lengths: float) -> float:
        return math.degrees(math.acos(max(-1.0, min(1.0, float(vectors[i] @ vectors[j]) / lengths))))

    return a, b, c, angle(1, 2, b * c), angle(0, 2, a * c), angle(0, 1, a * b)


def primitive_transform(cell: UnitCell, space_group: gemmi.SpaceGroup) -> NDArray[np.float64]:
    """(3, 3) array M with A_conventional = A_primitive M.T, M's columns being the primitive vectors."""
    crystal = gemmi.UnitCell(*cell)
    primitive = np.array(crystal.primitive_orth_matrix(space_group.centring_type()).tolist())
    return np.linalg.inv(np.array(crystal.orth.mat.tolist())) @ primitive


def lattice_rotations(cell: UnitCell, space_group: gemmi.SpaceGroup) -> NDArray[np.float64]:
    """(n, 3, 3) array of the lattice's proper rotations, Cartesian frame of the crystal, identity first."""
    crystal = gemmi.UnitCell(*cell)
    return _cartesian_rotations(
        crystal, gemmi.find_lattice_symmetry(crystal, space_group.centring_type(), METRIC_TOLERANCE_DEG)
    )


def pseudo_rotations(
    cell: UnitCell, space_group: gemmi.SpaceGroup, rotations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 3, 3) array of rotations that map the lattice nearly onto itself, one per way of doing so.

    Parameters
    ----------
    rotations : (r, 3, 3) array
        Those that do so exactly, from `lattice_rotations`.
    """
    crystal = gemmi.UnitCell(*cell)
    nearly = _cartesian_rotations(
        crystal, gemmi.find_lattice_symmetry(crystal, space_group.centring_type(), PSEUDO_TOLERANCE_DEG)
    )
    different: list[NDArray[np.float64]] = [np.eye(3)]
    for rotation in nearly:
        traces = [np.einsum("ij,njk,ik->n", rotation, rotations, other).max() for other in different]
        if max(traces) < 1.0 + 2.0 * math.cos(math.radians(10.0)):
            different.append(rotation)
    return np.array(different[1 : 1 + MAX_PSEUDO_ROTATIONS]).reshape(-1, 3, 3)


def point_group_rotations(cell: UnitCell, space_group: gemmi.SpaceGroup) -> NDArray[np.float64]:
    """(n, 3, 3) array of the rotations of the space group, Cartesian frame of the crystal, identity first.

    Fewer than the lattice's where the cell happens to look more symmetric than the crystal is.
    """
    return _cartesian_rotations(gemmi.UnitCell(*cell), space_group.operations())


def _cartesian_rotations(crystal: gemmi.UnitCell, ops: gemmi.GroupOps) -> NDArray[np.float64]:
    """Proper rotations of the operations, each once."""
    orth = np.array(crystal.orth.mat.tolist())
    rotations = [orth @ (np.array(op.rot) / gemmi.Op.DEN) @ np.linalg.inv(orth) for op in ops.sym_ops]
    # the nearest rotation: a cell may deviate a little from its lattice's metric
    proper = []
    for rotation in rotations:
        u, _, vt = np.linalg.svd(rotation if np.linalg.det(rotation) > 0 else -rotation)
        proper.append(u @ vt)
    unique: list[NDArray[np.float64]] = [np.eye(3)]
    unique.extend(
        r
        for i, r in enumerate(proper)
        if not any(np.allclose(r, s, atol=1e-3) for s in [np.eye(3), *proper[:i]])
    )
    return np.array(unique)


def allowed_strains(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) array of the symmetric strains that leave the lattice's symmetry whole.

    n is 1 for cubic, 2 for tetragonal, trigonal and hexagonal, 3 for orthorhombic, 4 for
    monoclinic, 6 for triclinic lattices: the invariants under averaging over the group.
    """
    strains: list[NDArray[np.float64]] = []
    for i in range(3):
        for j in range(i, 3):
            strain = np.zeros((3, 3))
            strain[i, j] = strain[j, i] = 1.0
            mean = np.mean([r @ strain @ r.T for r in rotations], axis=0)
            for other in strains:  # Gram-Schmidt
                mean = mean - np.sum(mean * other) * other
            size = float(np.linalg.norm(mean))
            if size > 1e-6:
                strains.append(mean / size)
    return np.array(strains)


@dataclass(frozen=True)
class SearchLattice:
    """All that indexing needs of the expected cell; computed once, read by every frame."""

    cell: UnitCell
    """Conventional cell expected."""
    b: NDArray[np.float64]
    """(3, 3) B matrix of the primitive cell, Cartesian frame of the conventional one."""
    to_conventional: NDArray[np.float64]
    """(3, 3) matrix T with A_conventional = A_primitive T."""
    rotations: NDArray[np.float64]
    """(n, 3, 3) proper rotations of the lattice, Cartesian."""
    pseudo_rotations: NDArray[np.float64]
    """(k, 3, 3) rotations that map the lattice nearly onto itself, Cartesian."""
    strains: NDArray[np.float64]
    """(m, 3, 3) strains that the space group allows, Cartesian."""
    points: NDArray[np.float64]
    """(p, 3) reciprocal lattice points, ascending in length, Cartesian."""
    lengths: NDArray[np.float64]
    """(p,) their lengths, 1/Å."""
    is_first: NDArray[np.bool_]
    """(p,) one point of each orbit under the rotations: enough as the first of a pair."""
    axis: NDArray[np.float64]
    """(3,) the shortest real-space vector, Cartesian, Å."""
    axis_order: int
    """Order of the lattice's rotation about that axis."""
    axis_flips: bool
    """Whether a rotation of the lattice reverses that axis."""


def search_lattice(cell: UnitCell, space_group: gemmi.SpaceGroup) -> SearchLattice:
    """Prepare the search for a known cell, which is made to obey the space group exactly."""
    cell = symmetrised_cell(cell, space_group.xhm())
    m = primitive_transform(cell, space_group)
    b = b_matrix(cell) @ np.linalg.inv(m.T)
    rotations = lattice_rotations(cell, space_group)
    points = _reciprocal_points(b)
    lengths = np.linalg.norm(points, axis=1)
    axis = _shortest_vector(real_space(b))
    about = np.array([np.allclose(r @ axis, axis, atol=1e-2) for r in rotations])
    flips = any(np.allclose(r @ axis, -axis, atol=1e-2) for r in rotations)
    return SearchLattice(
        cell=cell,
        b=b,
        to_conventional=m.T,
        rotations=rotations,
        pseudo_rotations=pseudo_rotations(cell, space_group, rotations),
        strains=allowed_strains(point_group_rotations(cell, space_group)),
        points=points,
        lengths=lengths,
        is_first=_first_of_orbit(points, rotations),
        axis=axis,
        axis_order=int(about.sum()),
        axis_flips=flips,
    )


def _reciprocal_points(b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lattice points up to 0.30 1/Å or `TABLE_POINTS` of them, without the origin, ascending in length."""
    volume = 1.0 / abs(float(np.linalg.det(b)))
    q_max = min(0.30, (3.0 * TABLE_POINTS / (4.0 * math.pi * volume)) ** (1.0 / 3.0))
    limits = np.ceil(np.linalg.norm(real_space(b), axis=1) * q_max).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in limits), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    points = hkl @ b.T
    length = np.linalg.norm(points, axis=1)
    keep = (length < q_max) & (length > 1e-9)
    order = np.argsort(length[keep], kind="stable")
    return np.ascontiguousarray(points[keep][order])


def _first_of_orbit(points: NDArray[np.float64], rotations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for the point of each orbit that is largest in the order of its rounded coordinates."""
    images = np.einsum("rij,pj->pri", rotations, points)
    scale = np.round(images / 1e-5).astype(np.int64)
    key = (scale[..., 0] * 2_000_003 + scale[..., 1]) * 2_000_003 + scale[..., 2]
    own = key[:, 0]
    return own >= key.max(axis=1)


def _shortest_vector(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shortest lattice vector from rows a, b, c."""
    n = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    n = n[np.any(n != 0, axis=1)]
    candidates = n @ vectors
    return candidates[np.argmin(np.linalg.norm(candidates, axis=1).round(6))]


def rotation_of(a_matrix: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation U nearest to A B^-1 (polar decomposition)."""
    u, _, vt = np.linalg.svd(a_matrix @ real_space(b))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def misorientation_deg(
    a_first: NDArray[np.float64],
    a_second: NDArray[np.float64],
    b: NDArray[np.float64],
    rotations: NDArray[np.float64],
) -> float:
    """Smallest rotation between two orientations, modulo the symmetry of the lattice, in degrees.

    Parameters
    ----------
    a_first, a_second : (3, 3) array
        A matrices in the setting of ``b``.
    b : (3, 3) array
        B matrix of the expected cell.
    rotations : (n, 3, 3) array
        From `lattice_rotations`.
    """
    first, second = rotation_of(a_first, b), rotation_of(a_second, b)
    traces = np.einsum("ij,njk,ik->n", first, rotations, second)
    return math.degrees(math.acos(max(-1.0, min(1.0, (float(traces.max()) - 1.0) / 2.0))))
