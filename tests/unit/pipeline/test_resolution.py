"""Where CC1/2 ends."""

from dataclasses import replace

import numpy as np
import pytest

from ssx_processing.kernels.statistics import shell_edges
from ssx_processing.models import ShellStatistics
from ssx_processing.pipeline.resolution import resolution_from_cc_half, resolution_from_completeness


def shells_with(cc_half: np.ndarray, n_reflections: int = 300) -> list[ShellStatistics]:
    edges = shell_edges(40.0, 1.5, len(cc_half))
    return [
        ShellStatistics(edges[i], edges[i + 1], 0, n_reflections, 0, 0.0, 0.0, 0.0, float(cc), 0.0, 0.0)
        for i, cc in enumerate(cc_half)
    ]


def falling(d_half: float, noise: np.ndarray) -> list[ShellStatistics]:
    """CC1/2 that is one half at ``d_half``."""
    edges = shell_edges(40.0, 1.5, len(noise))
    x = 0.5 * (edges[:-1] ** -2 + edges[1:] ** -2)
    return shells_with(0.5 * (1 - np.tanh((x - d_half**-2) / 0.08)) + noise)


def test_the_end_is_found_through_noise(rng: np.random.Generator):
    found = resolution_from_cc_half(falling(2.0, rng.normal(0, 0.05, 20)), 0.5)
    assert found == pytest.approx(2.0, abs=0.06)


def test_one_bad_shell_at_low_resolution_cuts_nothing(rng: np.random.Generator):
    noise = np.zeros(20)
    noise[2] = -0.9
    assert resolution_from_cc_half(falling(2.0, noise), 0.5) == pytest.approx(2.0, abs=0.1)


def test_good_data_are_not_cut():
    assert resolution_from_cc_half(shells_with(np.full(20, 0.97)), 0.3) == 1.5


def test_data_that_are_bad_throughout_have_no_end(rng: np.random.Generator):
    assert resolution_from_cc_half(shells_with(rng.normal(0, 0.05, 20)), 0.3) is None


def test_shells_of_few_reflections_decide_nothing():
    assert resolution_from_cc_half(shells_with(np.full(20, 0.9), n_reflections=5), 0.3) is None


def test_completeness_ends_the_data_at_the_last_shell_that_has_it():
    shells = [
        replace(shell, completeness=value)
        for shell, value in zip(shells_with(np.ones(5)), [0.4, 0.9, 0.8, 0.5, 0.2], strict=True)
    ]
    assert resolution_from_completeness(shells, 0.5) == shells[3].d_min
    assert resolution_from_completeness(shells, 0.95) is None
