"""Merged intensities as an MTZ file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.whole_file import whole_file
from ssx_processing.models import UnitCell

FREE_FLAG = "FreeR_flag"
"""The label that CCP4 programs look for; 0 is the test set."""
_COLUMNS = (
    ("IMEAN", "J", "intensity"),
    ("SIGIMEAN", "Q", "sigma"),
    ("I(+)", "K", "intensity_plus"),
    ("SIGI(+)", "M", "sigma_plus"),
    ("I(-)", "K", "intensity_minus"),
    ("SIGI(-)", "M", "sigma_minus"),
    ("N", "I", "n"),
    ("N(+)", "I", "n_plus"),
    ("N(-)", "I", "n_minus"),
    (FREE_FLAG, "I", "free_flag"),
)
_MAX_HISTORY = 80  # characters of a line, by the format


@dataclass(frozen=True)
class MergedIntensities:
    """What a merged MTZ holds; arrays of n_reflections elements, nan where not measured."""

    hkl: NDArray[np.integer]
    """(n_reflections, 3) in CCP4's asymmetric unit."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n: NDArray[np.integer]
    """Observations merged."""
    intensity_plus: NDArray[np.float64] | None = None
    """From hkl and what symmetry makes of it; centric reflections count as such. None: not kept apart."""
    sigma_plus: NDArray[np.float64] | None = None
    intensity_minus: NDArray[np.float64] | None = None
    """From Friedel mates."""
    sigma_minus: NDArray[np.float64] | None = None
    n_plus: NDArray[np.integer] | None = None
    """Observations in intensity_plus."""
    n_minus: NDArray[np.integer] | None = None
    free_flag: NDArray[np.integer] | None = None
    """0: kept out of refinement."""


def write_merged_mtz(
    path: Path,
    merged: MergedIntensities,
    *,
    unit_cell: UnitCell,
    space_group: str,
    wavelength: float,
    history: Sequence[str] = (),
) -> None:
    """Write IMEAN, SIGIMEAN, N and, where there are, I(+), SIGI(+), I(-), SIGI(-), N(+), N(-), FreeR_flag.

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
    for each in mtz.datasets:  # also the base: some readers take the first
        each.wavelength = wavelength
    mtz.set_cell_for_all(gemmi.UnitCell(*unit_cell))
    columns = [
        (label, kind, values)
        for label, kind, name in _COLUMNS
        if (values := getattr(merged, name)) is not None
    ]
    for label, kind, _ in columns:
        mtz.add_column(label, kind, dataset_id=dataset.id)
    mtz.history = [line[:_MAX_HISTORY] for line in history]
    mtz.set_data(np.column_stack([merged.hkl, *(values for *_, values in columns)]).astype(np.float32))
    mtz.ensure_asu()
    mtz.sort()
    with whole_file(path) as temporary:
        temporary.write_bytes(mtz.write_to_bytes())  # gemmi's own file says nothing of a full disk
