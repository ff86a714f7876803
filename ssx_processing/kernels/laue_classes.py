"""Space groups from less than a space group: a Laue class, a point group, a lattice.

Stills tell neither screw axes nor the hand, so what stands for a class is its space group without
mirrors and without screw axes.
"""

import gemmi

POINT_GROUPS = {
    "1": "1", "-1": "1",
    "2": "2", "2/m": "2",
    "222": "222", "mmm": "222",
    "4": "4", "4/m": "4", "422": "422", "4/mmm": "422",
    "3": "3", "-3": "3", "32": "321", "321": "321", "-3m": "321", "-3m1": "321", "312": "312", "-31m": "312",
    "6": "6", "6/m": "6", "622": "622", "6/mmm": "622",
    "23": "23", "m-3": "23", "m3": "23", "432": "432", "m-3m": "432", "m3m": "432",
}  # fmt: skip
"""Laue class or point group to the point group of a chiral crystal."""
_SYMBOLS = {
    "1": "1", "2": "1 2 1", "222": "2 2 2", "4": "4", "422": "4 2 2", "3": "3", "321": "3 2 1",
    "312": "3 1 2", "6": "6", "622": "6 2 2", "23": "2 3", "432": "4 3 2",
}  # fmt: skip


def exact_space_group(text: str) -> gemmi.SpaceGroup | None:
    """Space group of a symbol or number; None for what names a class only.

    A number that is both, such as 23, is a space group; but 222 is the point group, since its space
    group has mirrors.

    Examples
    --------
    >>> exact_space_group("96").hm, exact_space_group("4/mmm"), exact_space_group("P 4/m m m")
    ('P 43 21 2', None, None)
    """
    text = text.strip()
    if text.isdigit():
        group = gemmi.find_spacegroup_by_number(int(text))
        return None if group is not None and text in POINT_GROUPS and not group.is_sohncke() else group
    if _class_of(text) is not None:
        return None
    return gemmi.find_spacegroup_by_name(text)


def group_of_class(text: str, centring: str | None = None) -> gemmi.SpaceGroup | None:
    """Space group that stands for a Laue class or point group; None where it is neither, or cannot be.

    Parameters
    ----------
    text
        E.g. ``4/mmm``, ``422``, or with the letter of a centring ``I4/mmm``.
    centring
        Of the lattice, where the text does not say; else P.

    Examples
    --------
    >>> group_of_class("4/mmm").hm, group_of_class("mmm", "C").hm, group_of_class("R -3 m").xhm()
    ('P 4 2 2', 'C 2 2 2', 'R 3 2:H')
    """
    found = _class_of(text)
    if found is None:
        return None
    letter, point_group = found
    letter = letter or centring or "P"
    symbol = "3 2:H" if letter == "R" and point_group in ("321", "312") else _SYMBOLS[point_group]
    if letter == "R" and point_group == "3":
        symbol = "3:H"
    return gemmi.find_spacegroup_by_name(f"{letter} {symbol}")


def _class_of(text: str) -> tuple[str, str] | None:
    """Letter of the centring, empty where there is none, and point group."""
    compact = text.replace(" ", "")
    letter = compact[0] if compact[:1] in set("PABCIFR") else ""
    rest = compact[len(letter) :]
    if letter and "/" not in rest and "m" not in rest and "-" not in rest:
        return None  # P422 is a space group
    point_group = POINT_GROUPS.get(rest)
    if point_group is None or (letter and rest in ("-1",)):
        return None
    return letter, point_group
