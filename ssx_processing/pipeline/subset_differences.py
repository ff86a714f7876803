"""Differences between the subsets of a merge, and those of random ones, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import pandas as pd

from ssx_processing.kernels.differences import differences
from ssx_processing.kernels.statistics import MergedReflections

OVERALL = "all"
"""In column `shell` where a row is of all shells together."""


def difference_table(
    subsets: Mapping[str, MergedReflections],
    random: Mapping[tuple[str, str], tuple[MergedReflections, MergedReflections]],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    d_max: float,
    d_min: float,
    n_shells: int,
) -> pd.DataFrame:
    """Every pair of subsets compared, and a random split of the same lattices beside it.

    Parameters
    ----------
    subsets
        Name to what was merged of it, all on one table of unique reflections and one scale.
    random
        Pair of names to two sets with as many lattices as theirs, drawn at random from both together:
        how much such sets differ when there is nothing to be seen.
    pairs
        Which are compared; by default all.

    Returns
    -------
    DataFrame
        Columns `first`, `second`, `is_random`, `shell` (from 1, or "all"), `k` and `b_factor` of the second
        against the first, and those of `DifferenceStatistics`.
    """
    rows = []
    for pair in combinations(subsets, 2) if pairs is None else pairs:
        cases = [(False, (subsets[pair[0]], subsets[pair[1]]))]
        if pair in random:
            cases.append((True, random[pair]))
        for is_random, (first, second) in cases:
            found = differences(first, second, d_max=d_max, d_min=d_min, n_shells=n_shells)
            about = {
                "first": pair[0],
                "second": pair[1],
                "is_random": is_random,
                "k": found.scale.k,
                "b_factor": found.scale.b_factor,
            }
            names = [OVERALL, *map(str, range(1, n_shells + 1))]
            rows += [
                {**about, "shell": name, **asdict(one)}
                for name, one in zip(names, (found.overall, *found.shells), strict=True)
            ]
    return pd.DataFrame(rows)


def difference_words(table: pd.DataFrame) -> list[str]:
    """A sentence for each pair: whether its differences are more than chance makes."""
    sentences = []
    overall = table[table["shell"] == OVERALL]
    for _, row in overall[~overall["is_random"]].iterrows():
        same = (overall["first"] == row["first"]) & (overall["second"] == row["second"])
        null = overall[same & overall["is_random"]]
        text = (
            f"{row['first']} and {row['second']}: Riso {row['r_iso']:.3f}, CCiso {row['cc_iso']:.3f}, "
            f"half-set correlation of the differences {row['cc_difference']:.3f} ± "
            f"{row['cc_difference_error']:.3f}"
        )
        if len(null):
            chance = null.iloc[0]
            text += (
                f" (a random split: Riso {chance['r_iso']:.3f}, correlation {chance['cc_difference']:.3f} ± "
                f"{chance['cc_difference_error']:.3f})"
            )
        sentences.append(text)
    return sentences
