"""The growth curve as a table, and what it says about more lattices, in words."""

from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from ssx_processing.kernels.growth import Growth, forecast

_MIN_CHECKPOINTS = 3  # fewer make no curve


def growth_table(growth: Growth) -> pd.DataFrame:
    """One row for each checkpoint."""
    return pd.DataFrame(asdict(growth))


def growth_of_table(table: pd.DataFrame) -> Growth:
    """The curve that `growth_table` made a table of."""
    return Growth(**{field.name: table[field.name].to_numpy() for field in fields(Growth)})


def growth_words(growth: Growth, *, step: int | None = None, step_name: str = "chip") -> str:
    """What two more chips, or twice as many lattices, would bring; empty where nothing can be said.

    Parameters
    ----------
    step
        Lattices that one more chip, or whatever is called ``step_name``, gives.
    """
    if len(growth.n_lattices) < _MIN_CHECKPOINTS or not growth.cc_half[-1] > 0:
        return ""
    now = int(growth.n_lattices[-1])
    more, what = (2 * step, f"2 more {step_name}s") if step else (now, "as many lattices again")
    expected = forecast(growth, now + more)
    return (
        f"{now} lattices give CC1/2 {growth.cc_half[-1]:.3f} and completeness {growth.completeness[-1]:.3f}; "
        f"{what} ({now + more} in all) would give about {expected.cc_half:.3f}"
        f"{_error(expected.cc_half_error)} and {expected.completeness:.3f}"
        f"{_error(expected.completeness_error)}, each reflection {expected.multiplicity:.1f} times "
        f"instead of {growth.multiplicity[-1]:.1f}."
    )


def _error(error: float) -> str:
    return f" ± {max(error, 0.001):.3f}" if np.isfinite(error) else ""
