"""Where the data end: of a merge by CC1/2 and completeness, of a lattice by its spots."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import ShellStatistics

_MIN_PAIRS = 10
_MIN_SHELLS = 4


def resolution_from_cc_half(shells: Sequence[ShellStatistics], limit: float) -> float | None:
    """Resolution in Å at which a smooth CC1/2 falls to ``limit``.

    Fits c/2 (1 - tanh((s² - m) / w)) to CC1/2 of the shells, s = 1/d, with the square root of the number
    of reflections as weight; the form is DIALS's (dials.estimate_resolution, after Ed Pozharski).

    Returns
    -------
    The d_min of the last shell where CC1/2 is above the limit throughout, None where it is nowhere
    above it or fewer than four shells have one.
    """
    from scipy.optimize import least_squares  # long to import, and not every merge looks for its end

    used = [s for s in shells if np.isfinite(s.cc_half) and s.n_reflections >= _MIN_PAIRS]
    if len(used) < _MIN_SHELLS:
        return None
    x = np.array([0.5 * (1 / s.d_max**2 + 1 / s.d_min**2) for s in used])
    y = np.array([s.cc_half for s in used])
    weight = np.sqrt([s.n_reflections for s in used])

    def deviation(p: np.ndarray) -> np.ndarray:
        return weight * (_fall(x, p) - y)

    start = np.array([max(float(y[:3].mean()), 0.1), float(x[-1]), 0.3 * float(x[-1])])
    lower, upper = [0.0, 0.0, 1e-3 * x[-1]], [1.0, 10 * x[-1], 10 * x[-1]]
    fit = least_squares(deviation, np.clip(start, lower, upper), bounds=(lower, upper), loss="soft_l1")
    fine = np.linspace(1 / used[0].d_max ** 2, 1 / used[-1].d_min ** 2, 2001)
    above = _fall(fine, fit.x) > limit
    if not above[0]:
        return None
    return used[-1].d_min if above.all() else float(fine[np.argmin(above)] ** -0.5)


def resolution_from_completeness(shells: Sequence[ShellStatistics], minimum: float) -> float | None:
    """Limit in Å of the last shell with at least the ``minimum`` completeness; None if there is none.

    Halves of a shell that few lattices reach still correlate, but what is merged there is mostly single
    partial observations.
    """
    return min((shell.d_min for shell in shells if shell.completeness >= minimum), default=None)


def _fall(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    return 0.5 * p[0] * (1 - np.tanh((x - p[1]) / p[2]))


def resolution_limit(q_length: NDArray[np.float64]) -> float:
    """Å: 1/|q| of the spot of rank n - max(2, n/50), which a few stray spots do not move; nan without spots.

    Examples
    --------
    >>> resolution_limit(np.array([0.1, 0.2, 0.25, 0.5, 0.9]))
    4.0
    """
    n = len(q_length)
    if n == 0:
        return float("nan")
    return float(1.0 / np.sort(q_length)[max(0, n - 1 - max(2, n // 50))])
