"""Observations of an unmerged MTZ file: ours, DIALS's, aimless's."""

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.models import UnitCell

PARTIAL = 256
"""M/ISYM from here on: the row is flagged as part of a reflection."""


@dataclass(frozen=True)
class UnmergedIntensities:
    """Observations with a finite intensity and a positive sigma; arrays of n_observations elements."""

    unit_cell: UnitCell
    space_group: str
    """Hermann-Mauguin symbol with setting, as gemmi's ``xhm``."""
    hkl: NDArray[np.int32]
    """(n_observations, 3) as measured, not in the asymmetric unit."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    labels: tuple[str, str]
    """Columns they are from."""
    n_rows: int
    """Rows of the file, those left out included."""
    n_partial: int
    """Rows flagged as partial; they are observations like the others here."""


def read_unmerged_mtz(path: Path) -> UnmergedIntensities:
    """Read I and SIGI, or the first intensity with its sigma.

    Raises
    ------
    MergeError
        The file cannot be read, is merged, or has no intensities with sigmas.
    """
    try:
        mtz = gemmi.read_mtz_file(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise MergeError(f"{path}: not an MTZ file that can be read ({error})") from error
    if mtz.spacegroup is None:
        raise MergeError(f"{path}: no space group in the header; expected one that gemmi knows")
    columns = [column.label for column in mtz.columns]
    _check_unmerged(path, mtz, columns)
    value, error = _intensity_columns(path, mtz)
    flags = np.array(mtz.column_with_label("M/ISYM")) if "M/ISYM" in columns else np.zeros(mtz.nreflections)
    mtz.switch_to_original_hkl()
    hkl = np.asarray(mtz.make_miller_array(), np.int32)
    intensity, sigma = (np.array(mtz.column_with_label(name), np.float64) for name in (value, error))
    good = np.isfinite(intensity) & (sigma > 0)
    a, b, c, alpha, beta, gamma = (float(np.float32(x)) for x in mtz.get_cell().parameters)
    return UnmergedIntensities(
        unit_cell=(a, b, c, alpha, beta, gamma),
        space_group=mtz.spacegroup.xhm(),
        hkl=hkl[good],
        intensity=intensity[good],
        sigma=sigma[good],
        labels=(value, error),
        n_rows=mtz.nreflections,
        n_partial=int((flags >= PARTIAL).sum()),
    )


def _check_unmerged(path: Path, mtz: gemmi.Mtz, columns: list[str]) -> None:
    if not mtz.batches and not {"M/ISYM", "BATCH"} & set(columns):
        raise MergeError(
            f"{path} is merged: no batches, columns {', '.join(columns)}; statistics of repeats need the "
            "unmerged observations (of ours: ssx export, of DIALS: dials.export, of aimless: OUTPUT UNMERGED)"
        )


def _intensity_columns(path: Path, mtz: gemmi.Mtz) -> tuple[str, str]:
    """Labels of intensities and their sigmas: I and SIGI, else the first of type J with its SIG."""
    sigmas = {column.label for column in mtz.columns if column.type == "Q"}
    values = [column.label for column in mtz.columns if column.type == "J" and f"SIG{column.label}" in sigmas]
    if not values:
        found = ", ".join(f"{column.label} ({column.type})" for column in mtz.columns)
        raise MergeError(f"{path}: no intensities with sigmas; expected I and SIGI, got {found}")
    value = "I" if "I" in values else values[0]
    return value, f"SIG{value}"
