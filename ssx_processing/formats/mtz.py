"""Merged intensities as an MTZ file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import UnitCell

_COLUMNS = (
    ("IMEAN", "J"),
    ("SIGIMEAN", "Q"),
    ("I(+)", "K"),
    ("SIGI(+)", "M"),
    ("I(-)", "K"),
    ("SIGI(-)", "M"),
    ("N", "I"),
)
_MAX_HISTORY = 80  # characters of a line, by the format


@dataclass(frozen=True)
class MergedIntensities:
    """What a merged MTZ holds; arrays of n_reflections elements, nan where not measured."""

    hkl: NDArray[np.integer]
    """(n_reflections, 3) in CCP4's asymmetric unit."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    intensity_plus: NDArray[np.float64]
    """From hkl and what symmetry makes of it; centric reflections count as such."""
    sigma_plus: NDArray[np.float64]
    intensity_minus: NDArray[np.float64]
    """From Friedel mates."""
    sigma_minus: NDArray[np.float64]
    n: NDArray[np.integer]
    """Observations merged."""


def write_merged_mtz(
    path: Path,
    merged: MergedIntensities,
    *,
    unit_cell: UnitCell,
    space_group: str,
    wavelength: float,
    history: Sequence[str] = (),
) -> None:
    """Write IMEAN, SIGIMEAN, I(+), SIGI(+), I(-), SIGI(-) and N.

    Parameters
    ----------
    space_group
        Hermann-Mauguin symbol.
    wavelength
        Å, of the data set that holds the columns.
    history
        Lines for the header, newest first, cut at 80 characters.
    """
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(space_group)
    mtz.title = "Merged serial still intensities"
    dataset = mtz.add_dataset("ssx")
    dataset.wavelength = wavelength
    mtz.set_cell_for_all(gemmi.UnitCell(*unit_cell))
    for label, column_type in _COLUMNS:
        mtz.add_column(label, column_type, dataset_id=dataset.id)
    mtz.history = [line[:_MAX_HISTORY] for line in history]
    mtz.set_data(_rows(merged))
    mtz.ensure_asu()
    mtz.sort()
    mtz.write_to_file(str(path))


def _rows(merged: MergedIntensities) -> NDArray[np.float32]:
    """One row per reflection, columns as in the file."""
    columns = (
        merged.intensity,
        merged.sigma,
        merged.intensity_plus,
        merged.sigma_plus,
        merged.intensity_minus,
        merged.sigma_minus,
        merged.n,
    )
    return np.column_stack([merged.hkl, *columns]).astype(np.float32)
