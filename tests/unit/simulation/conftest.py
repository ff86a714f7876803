"""One small chip that several tests look at."""

from pathlib import Path

import pytest

from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedBeam, SimulatedDetector
from ssx_processing.simulation.scene import Scene
from ssx_processing.simulation.truth import Truth, read_truth

SMALL_DETECTOR = SimulatedDetector(n_fast=514, n_slow=531, gap_rows=((256, 275),), distance_mm=50.0)
"""A quarter of the default's pixels."""


@pytest.fixture(scope="session")
def settings() -> ChipSettings:
    return ChipSettings(
        n_frames=40, hit_fraction=0.5, detector=SMALL_DETECTOR, beam=SimulatedBeam(ice_fraction=0.0), seed=3
    )


@pytest.fixture(scope="session")
def scene(settings: ChipSettings) -> Scene:
    return Scene(settings)


@pytest.fixture(scope="session")
def chip(settings: ChipSettings, tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    return simulate_chip(Path(tmp_path_factory.mktemp("chip")), settings)


@pytest.fixture(scope="session")
def truth(chip: SimulatedChip) -> Truth:
    return read_truth(chip.truth)
