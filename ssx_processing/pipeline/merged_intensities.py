"""From the table of merged reflections to the columns of MTZ and mmCIF files."""

from pathlib import Path

import numpy as np
import pandas as pd

from ssx_processing.formats.free_flag_file import copied_free_flags
from ssx_processing.formats.mtz import MergedIntensities
from ssx_processing.kernels.free_flags import free_flags
from ssx_processing.models import UnitCell
from ssx_processing.settings import SampleSettings

_APART = ("intensity_plus", "sigma_plus", "intensity_minus", "sigma_minus", "n_plus", "n_minus")


def merged_intensities(
    reflections: pd.DataFrame,
    sample: SampleSettings,
    *,
    unit_cell: UnitCell,
    free_flags_file: Path | None = None,
) -> MergedIntensities:
    """Columns of merged.mtz and the mmCIF file from the table of merged reflections.

    The free flags are drawn in the lattice of the expected cell, which stays the same for all merges
    of a sample, where each merge's own cell is a little different.

    Parameters
    ----------
    reflections
        reflections.parquet; without columns of Friedel mates there are none in the result either.
    unit_cell
        Of the merge; the file with free flags must have about this cell.

    Raises
    ------
    SettingsError
        The free flags cannot be had from the file.
    """
    hkl = reflections[["h", "k", "l"]].to_numpy(np.int32)
    flags = free_flags(hkl, sample.unit_cell, sample.space_group)
    if free_flags_file is not None:
        flags = copied_free_flags(
            free_flags_file, hkl, flags, unit_cell=unit_cell, space_group=sample.space_group
        )
    apart = {name: reflections[name].to_numpy() for name in _APART if name in reflections}
    return MergedIntensities(
        hkl=hkl,
        intensity=reflections["intensity"].to_numpy(np.float64),
        sigma=reflections["sigma"].to_numpy(np.float64),
        n=reflections["n"].to_numpy(),
        free_flag=flags,
        **apart,
    )
