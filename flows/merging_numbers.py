"""Statistics of a merge as ISPyB keeps them: three shells. The place to look when one is wrong there."""

from collections.abc import Iterator, Sequence

import numpy as np

from ispyb_io.results import MergingStatistics, ResolutionShell
from ssx_processing.models import MergeSummary, ShellStatistics


def merging_statistics(merge: MergeSummary) -> Iterator[MergingStatistics]:
    """Overall, innermost and outermost shell, which ISPyB keeps; one shell alone is only overall."""
    overall = _statistics(ResolutionShell.OVERALL, merge.overall)
    yield overall.model_copy(update={"d_where_i_is_2_sigma": d_where_i_is(2.0, merge.shells)})
    if len(merge.shells) > 1:
        yield _statistics(ResolutionShell.INNER, merge.shells[0])
        yield _statistics(ResolutionShell.OUTER, merge.shells[-1])


def _statistics(shell: ResolutionShell, ours: ShellStatistics) -> MergingStatistics:
    return MergingStatistics(
        resolution_shell=shell,
        d_max=ours.d_max,
        d_min=ours.d_min,
        n_observations=ours.n_observations,
        n_reflections=ours.n_reflections,
        completeness=ours.completeness,
        multiplicity=ours.multiplicity,
        mean_i_over_sigma=ours.mean_i_over_sigma,
        cc_half=ours.cc_half,
        cc_star=ours.cc_star,
        r_split=ours.r_split,
        r_merge=ours.r_merge,
        r_meas=ours.r_meas,
        r_pim=ours.r_pim,
        cc_anomalous=ours.cc_anomalous,
        anomalous_completeness=ours.anomalous_completeness,
    )


def d_where_i_is(n_sigma: float, shells: Sequence[ShellStatistics]) -> float | None:
    """Å at which the mean of I/sigma(I) falls below, between the middles of shells; None if it begins below.

    Where it never does, the limit of the last shell.
    """
    ratios = [shell.mean_i_over_sigma for shell in shells]
    below = next((i for i, ratio in enumerate(ratios) if not ratio >= n_sigma), None)
    if below is None:
        return shells[-1].d_min if shells else None
    if below == 0 or not np.isfinite(ratios[below]):
        return None
    pair = shells[below - 1 : below + 1]
    squares = [(shell.d_max**-2 + shell.d_min**-2) / 2 for shell in pair]  # 1/d², as shells are cut
    square = np.interp(n_sigma, [ratios[below], ratios[below - 1]], squares[::-1])
    return float(square**-0.5)
