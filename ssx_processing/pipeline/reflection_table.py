"""The table of merged reflections."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.pipeline.merge_steps import Merged


def reflection_table(merged: Merged, sums: NDArray[np.float64]) -> pd.DataFrame:
    """Merged intensities of all lattices or of some, from sums as of `merge_sums`."""
    total = merged.estimate_of(sums.sum(axis=(1, 2)))
    plus, minus = (merged.estimate_of(sums[:, sign].sum(axis=1)) for sign in (0, 1))
    half_1, half_2 = (merged.estimate_of(sums[:, :, half].sum(axis=1)) for half in (0, 1))
    seen = total.n > 0
    hkl = merged.unit.hkl[seen]
    return pd.DataFrame(
        {
            "h": hkl[:, 0],
            "k": hkl[:, 1],
            "l": hkl[:, 2],
            "d": merged.unit.d[seen],
            "intensity": total.intensity[seen],
            "sigma": total.sigma[seen],
            "n": total.n[seen],
            "half1": half_1.intensity[seen],
            "half2": half_2.intensity[seen],
            "sigma_internal": total.sigma_internal[seen],
            "sigma_external": total.sigma_external[seen],
            "intensity_plus": plus.intensity[seen],
            "sigma_plus": plus.sigma[seen],
            "n_plus": plus.n[seen],
            "intensity_minus": minus.intensity[seen],
            "sigma_minus": minus.sigma[seen],
            "n_minus": minus.n[seen],
            "centric": merged.unit.centric[seen],
        }
    )
