"""Partial still observations with a known answer, for scaling, merging and the pipeline's merge."""

from collections.abc import Callable

import numpy as np
import pytest

from ssx_processing.simulation.still_observations import (
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)

PartialStills = StillObservations


def simulate_partial_stills(
    rng: np.random.Generator, *, n_lattices: int = 250, strength: float = 2000.0, d_min: float = 2.5
) -> StillObservations:
    """Lorentzian-like partiality with a factor that nothing predicts, orientations 0.02 degrees wrong."""
    return simulate_still_observations(
        StillExperiment(
            n_lattices=n_lattices,
            strength=strength,
            model="lorentzian",
            misorientation_deg=0.02,
            unit_cell=(50.0, 50.0, 62.0, 90.0, 90.0, 90.0),
            d_min=d_min,
            seed=int(rng.integers(1 << 31)),
        )
    )


@pytest.fixture(scope="session")
def partial_stills() -> StillObservations:
    return simulate_partial_stills(np.random.default_rng(7))


@pytest.fixture(scope="session")
def simulate_stills() -> Callable[..., StillObservations]:
    return simulate_partial_stills
