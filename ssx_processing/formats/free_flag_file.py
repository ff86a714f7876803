"""Free flags that a model was refined with already, from an MTZ file."""

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import SettingsError
from ssx_processing.models import UnitCell

MAX_LENGTH_DIFFERENCE = 0.05
MAX_ANGLE_DIFFERENCE_DEG = 3.0


def copied_free_flags(
    path: Path,
    hkl: NDArray[np.integer],
    own: NDArray[np.integer],
    *,
    unit_cell: UnitCell,
    space_group: str,
) -> NDArray[np.int32]:
    """Flags of the file where it has them, our own for reflections that it lacks.

    Of CCP4's flags (0 to more than 1) 0 is the test set, and they are kept as they are. Of two values,
    as Phenix and CNS write, the rarer is the test set; the rest gets our own flags other than 0.

    Parameters
    ----------
    hkl : (n, 3) array
        In CCP4's asymmetric unit.
    own : (n,) array
        Our own flags, 0 to 19.

    Raises
    ------
    SettingsError
        The file cannot be read, has no free flags, or is of another crystal.
    """
    mtz = _read(path)
    _check_crystal(path, mtz, unit_cell, space_group)
    column = mtz.rfree_column()
    if column is None:
        raise SettingsError(f"--free-flags {path}: no column with free flags, got {mtz.column_labels()}")
    label = column.label
    mtz.spacegroup = gemmi.SpaceGroup(space_group)
    mtz.ensure_asu()
    theirs = pd.DataFrame(mtz.make_miller_array(), columns=list("hkl"))
    theirs["flag"] = np.array(mtz.column_with_label(label))
    theirs = theirs.dropna().drop_duplicates(list("hkl"))
    if theirs["flag"].nunique() < 2:
        raise SettingsError(f"--free-flags {path}: all flags in {label} are the same; name another file")
    found = (
        pd.DataFrame(hkl, columns=list("hkl")).merge(theirs, how="left", on=list("hkl"))["flag"].to_numpy()
    )
    known = np.isfinite(found)
    if theirs["flag"].max() > 1:
        return np.where(known, found, own).astype(np.int32)
    test = theirs["flag"].mean() < 0.5
    flags = np.where(known, np.maximum(own, 1), own)
    return np.where(known & (found == test), 0, flags).astype(np.int32)


def _read(path: Path) -> gemmi.Mtz:
    try:
        return gemmi.read_mtz_file(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"--free-flags {path}: not readable as MTZ ({error})") from error


def _check_crystal(path: Path, mtz: gemmi.Mtz, unit_cell: UnitCell, space_group: str) -> None:
    theirs, ours = mtz.spacegroup, gemmi.SpaceGroup(space_group)
    if theirs is None or theirs.laue_str() != ours.laue_str():
        raise SettingsError(
            f"--free-flags {path}: its space group is {theirs.xhm() if theirs else 'unknown'}, "
            f"that of the result {ours.xhm()}; name a file of the same crystal form"
        )
    cell = np.array(mtz.cell.parameters)
    lengths = np.abs(cell[:3] / unit_cell[:3] - 1).max()
    angles = np.abs(cell[3:] - unit_cell[3:]).max()
    if lengths > MAX_LENGTH_DIFFERENCE or angles > MAX_ANGLE_DIFFERENCE_DEG:
        words = ", ".join(f"{value:.2f}" for value in cell)
        raise SettingsError(
            f"--free-flags {path}: its cell is {words}, that of the result "
            f"{', '.join(f'{value:.2f}' for value in unit_cell)}; name a file of the same crystal form"
        )
