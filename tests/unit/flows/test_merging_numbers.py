"""What ISPyB is told of a merge's shells."""

import math

import pytest

from flows.merging_numbers import d_where_i_is
from ssx_processing.models import ShellStatistics


def shells(*ratios: float) -> list[ShellStatistics]:
    """Shells of equal width in 1/d² from infinity to 2 Å with these means of I/sigma(I)."""
    edges = [math.inf] + [(4.0 * len(ratios) / (i + 1)) ** 0.5 for i in range(len(ratios))]
    return [
        ShellStatistics(edges[i], edges[i + 1], 10, 10, 10, 1.0, 1.0, ratio, 1.0, 1.0, 0.1)
        for i, ratio in enumerate(ratios)
    ]


def test_between_the_middles_of_two_shells():
    # middles at 1/d² = 0.0625 and 0.1875: halfway from 3 to 1 is the edge between
    assert d_where_i_is(2.0, shells(3.0, 1.0)) == pytest.approx(8**0.5)


def test_never_below_is_the_limit_and_always_below_is_nothing():
    assert d_where_i_is(2.0, shells(5.0, 3.0)) == pytest.approx(2.0)
    assert d_where_i_is(2.0, shells(1.0, 0.5)) is None
    assert d_where_i_is(2.0, []) is None
    assert d_where_i_is(2.0, shells(3.0, math.nan)) is None
