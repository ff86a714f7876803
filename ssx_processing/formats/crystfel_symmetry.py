"""Symmetry in CrystFEL's words: point groups, lattice types, unique axes."""

import gemmi

from ssx_processing.formats.stream_records import TargetCell
from ssx_processing.models import UnitCell

_LATTICE_TYPES = {"trigonal": "hexagonal"}
_AXIS_C = ("tetragonal", "hexagonal")


def point_group_name(group: gemmi.SpaceGroup, *, friedel: bool) -> str:
    """Point group of merged reflections, as ``-y`` of CrystFEL's programs takes it.

    Parameters
    ----------
    friedel
        Whether Friedel mates are merged: then it is the Laue class.

    Examples
    --------
    >>> [point_group_name(gemmi.SpaceGroup("P 43 21 2"), friedel=x) for x in (True, False)]
    ['4/mmm', '422']
    >>> [point_group_name(gemmi.SpaceGroup(x), friedel=True) for x in ("C 1 2 1", "R 3:H", "P 31 1 2")]
    ['2/m_uab', '-3_H', '-31m_H']
    """
    name = group.laue_str() if friedel else group.point_group_hm()
    if group.crystal_system_str() == "monoclinic":
        return f"{name}_ua{group.monoclinic_unique_axis()}"
    if group.crystal_system_str() != "trigonal":
        return name
    axes = "R" if group.ext == "R" else "H"
    if axes == "H" and name in ("32", "3m", "-3m"):
        name = _with_twofolds(group, name)
    return f"{name}_{axes}"


def _with_twofolds(group: gemmi.SpaceGroup, name: str) -> str:
    """Name that says whether the twofold axes, or mirrors, are along a (as in 321) or between (312)."""
    rotations = {tuple(map(tuple, op.rot)) for op in group.operations().sym_ops}
    one = gemmi.Op.DEN
    swapped = {
        tuple((sign * one * x, sign * one * y, z) for x, y, z in ((0, 1, 0), (1, 0, 0), (0, 0, end * one)))
        for sign, end in ((1, -1), (-1, 1))
    }  # y, x, -z and -y, -x, z
    along_a = bool(rotations & swapped)
    return f"{name}1" if along_a else f"{name[:-1]}1{name[-1]}"


def target_cell(cell: UnitCell, group: gemmi.SpaceGroup) -> TargetCell:
    """Cell with the lattice's type, centring and unique axis.

    Examples
    --------
    >>> target_cell((92.0, 92.0, 245.0, 90.0, 90.0, 120.0), gemmi.SpaceGroup("R 3:H")).centring
    'H'
    """
    system = group.crystal_system_str()
    kind, centring, axis = _LATTICE_TYPES.get(system, system), group.centring_type(), "?"
    if group.ext == "R":
        kind, centring = "rhombohedral", "R"
    elif centring == "R":
        centring = "H"
    if kind in _AXIS_C:
        axis = "c"
    if kind == "monoclinic":
        axis = group.monoclinic_unique_axis()
    return TargetCell(kind, centring, axis, cell)
