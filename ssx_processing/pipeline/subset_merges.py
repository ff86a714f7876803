"""Subsets of one joint scaling merged apart, and how they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.formats.merge_folder import SubsetTables
from ssx_processing.kernels.lattice_hash import random_subset
from ssx_processing.kernels.merging import merge_sums
from ssx_processing.kernels.statistics import MergedReflections, shell_statistics
from ssx_processing.models import SubsetSummary
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.merge_steps import Merged
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.reflection_table import reflection_table
from ssx_processing.pipeline.subset_differences import difference_table
from ssx_processing.settings import SampleSettings

MOST_FOR_ALL_PAIRS = 6
"""Among more subsets each is compared with the first only."""


@dataclass(frozen=True)
class MergedSubsets:
    """What became of the subsets."""

    summaries: tuple[SubsetSummary, ...]
    tables: tuple[SubsetTables, ...]
    differences: pd.DataFrame | None
    """None where there is one subset only."""


def merge_subsets(data: MergeInput, merged: Merged, sample: SampleSettings, n_shells: int) -> MergedSubsets:
    """Merge each subset of the lattices with the scales of all.

    One scaling against common intensities: were they scaled apart, differences of their scales would
    pass for differences of structure.
    """
    if "subset" not in data.lattices:
        return MergedSubsets((), (), None)
    labels = np.where(merged.reasons == "", data.lattices["subset"].to_numpy(str), "")
    names = _in_order({str(name) for name in labels} - {""})
    parts = {name: labels == name for name in names}
    sums = {name: _sums(merged, lattices) for name, lattices in parts.items()}
    sets = {name: _reflections(merged, one) for name, one in sums.items()}
    limits = (_d_max(merged), merged.d_min)
    summaries, tables = [], []
    for name in names:
        shells, overall = shell_statistics(sets[name], d_max=limits[0], d_min=limits[1], n_shells=n_shells)
        summaries.append(SubsetSummary(name, int(parts[name].sum()), overall, shells))
        table = reflection_table(merged, sums[name])
        intensities = merged_intensities(table, sample, unit_cell=merged.unit.unit_cell)
        tables.append(SubsetTables(name, intensities, table))
    if len(names) < 2:
        return MergedSubsets(tuple(summaries), tuple(tables), None)
    pairs = [
        (first, second)
        for i, first in enumerate(names)
        for second in names[i + 1 :]
        if i == 0 or len(names) <= MOST_FOR_ALL_PAIRS
    ]
    random = {pair: _random_pair(data, merged, parts[pair[0]], parts[pair[1]]) for pair in pairs}
    differences = difference_table(
        sets, random, pairs=pairs, d_max=limits[0], d_min=limits[1], n_shells=n_shells
    )
    return MergedSubsets(tuple(summaries), tuple(tables), differences)


def _in_order(names: set[str]) -> list[str]:
    """By number where they are numbers, else by name."""

    def place(name: str) -> tuple[int, float, str]:
        try:
            return 0, float(name), name
        except ValueError:
            return 1, 0.0, name

    return sorted(names, key=place)


def _sums(merged: Merged, lattices: NDArray[np.bool_]) -> NDArray[np.float64]:
    return merge_sums(
        merged.observations,
        merged.scaling.reference,
        log_g=merged.scaling.scales.log_g,
        friedel_minus=merged.friedel_minus,
        half=merged.half,
        included=lattices,
    )


def _reflections(merged: Merged, sums: NDArray[np.float64]) -> MergedReflections:
    total = merged.estimate_of(sums.sum(axis=(1, 2)))
    half_1, half_2 = (merged.estimate_of(sums[:, :, i].sum(axis=1)).intensity for i in (0, 1))
    return MergedReflections(merged.unit.d, total.n, total.intensity, total.sigma, half_1, half_2)


def _d_max(merged: Merged) -> float:
    seen = merged.estimate.n > 0
    return float(merged.unit.d[seen].max(initial=merged.d_min * 1.0001))


def _random_pair(
    data: MergeInput, merged: Merged, first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> tuple[MergedReflections, MergedReflections]:
    """As many lattices as in each of two subsets, drawn from both: what differs then is chance."""
    both = np.flatnonzero(first | second)
    drawn = random_subset(data.rank[both], int(first.sum()))
    sets: Sequence[NDArray[np.bool_]] = [np.zeros(len(first), np.bool_) for _ in range(2)]
    sets[0][both[drawn]] = True
    sets[1][both[~drawn]] = True
    one, other = (_reflections(merged, _sums(merged, lattices)) for lattices in sets)
    return one, other
