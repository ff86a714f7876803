"""Growth, differences and reference: their words and plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssx_processing.formats.merge_record import read_merge_table
from ssx_processing.kernels.growth import Growth
from ssx_processing.kernels.statistics import MergedReflections
from ssx_processing.pipeline.growth_curve import growth_of_table, growth_table, growth_words
from ssx_processing.pipeline.report_difference_plots import difference_plots
from ssx_processing.pipeline.report_growth_plots import growth_plots
from ssx_processing.pipeline.report_plots import Plot
from ssx_processing.pipeline.subset_differences import difference_table, difference_words


def lines(plot: Plot) -> list[Any]:
    return list(plot.figure["data"])


@pytest.fixture
def curve() -> Growth:
    """CC1/2 that follows Spearman and Brown exactly, from 0.9 with all 1200 lattices."""
    n = np.arange(100, 1201, 100)
    cc = 1 / (1 + (1 / 0.9 - 1) * 1200 / n)
    seen = np.minimum(5000 * (1 - np.exp(-n / 300)), 4999).astype(np.int64)
    return Growth(n, 50 * n, seen, seen / 5000, 50 * n / seen, cc, np.full(12, 0.01), 1 - cc)


def test_words_say_what_two_more_chips_would_bring(curve: Growth):
    words = growth_words(curve, step=600)
    assert words.startswith(
        "1200 lattices give CC1/2 0.900 and completeness 0.982; 2 more chips (2400 in all)"
    )
    assert "would give about 0.947 ± 0.006 and" in words


def test_words_without_a_chip_are_of_twice_the_lattices_and_none_of_too_few(curve: Growth):
    assert "; as many lattices again (2400 in all) would give" in growth_words(curve)
    short = growth_of_table(growth_table(curve).head(2))
    assert growth_words(short) == ""


def test_the_plot_goes_on_where_the_data_end(curve: Growth):
    quality, multiplicity = growth_plots(growth_table(curve))
    traces = {trace.name: trace for trace in lines(quality)}
    expected = traces["CC1/2, expected"]
    assert list(expected.x) == [1200, 1500, 1800, 2400]
    assert expected.y[0] == pytest.approx(0.9)
    assert expected.y[-1] == pytest.approx(1 / (1 + (1 / 0.9 - 1) / 2))
    assert list(traces["CC1/2"].error_y.array) == [0.01] * 12
    assert multiplicity.title == "Multiplicity with lattices"


@pytest.fixture
def differing(rng: np.random.Generator) -> pd.DataFrame:
    """Light differs from dark; a random split does not."""
    d = rng.uniform(20.0**-3, 2.0**-3, 4000) ** (-1 / 3)
    truth, signal = rng.exponential(100.0, 4000), rng.normal(0, 5.0, 4000)

    def measured(intensity: np.ndarray) -> MergedReflections:
        halves = intensity + rng.normal(0, 3.0, (2, 4000))
        sigma = np.full(4000, 3.0 / np.sqrt(2))
        return MergedReflections(d, np.ones(4000, np.int64), halves.mean(axis=0), sigma, halves[0], halves[1])

    subsets = {"dark": measured(truth), "light": measured(truth + signal)}
    random = {("dark", "light"): (measured(truth), measured(truth))}
    return difference_table(subsets, random, d_max=20.0, d_min=2.0, n_shells=4)


def test_every_pair_and_its_random_split_have_a_row_for_each_shell_and_one_for_all(differing: pd.DataFrame):
    assert len(differing) == 2 * 5
    overall = differing[differing["shell"] == "all"]
    assert overall["is_random"].tolist() == [False, True]
    real, random = overall["cc_difference"].to_numpy(float)
    assert real > 0.5
    assert abs(random) < 0.1
    assert overall["n_common"].tolist() == [4000, 4000]


def test_words_set_the_difference_beside_that_of_chance(differing: pd.DataFrame):
    (words,) = difference_words(differing)
    assert words.startswith("dark and light: Riso 0.")
    assert "(a random split: Riso 0." in words


def test_differences_are_drawn_as_read_back_from_their_file(differing: pd.DataFrame, tmp_path: Path):
    differing.to_csv(tmp_path / "differences.csv", index=False)
    table = read_merge_table(tmp_path, "differences")
    assert table is not None
    signal, riso = difference_plots(table)
    names = [trace.name for trace in lines(signal)]
    assert names == ["dark - light", "dark - light, random split"]
    assert len(lines(riso)[0].x) == 4
    assert read_merge_table(tmp_path, "growth") is None
