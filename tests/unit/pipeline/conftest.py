"""One simulated chip, calibrated and processed once for all tests that only look at the result."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.models import ChunkSummary, Plan
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.calibration import Calibration
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.settings import CalibrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.truth import Truth, read_truth


def chunk_jobs(
    plan: Plan, settings: ProcessingSettings, calibration: Calibration, folder: Path
) -> list[ChunkJob]:
    return [
        ChunkJob(plan.paths, plan.identity, frames, settings, calibration.folder, folder)
        for frames in plan.ranges
    ]


@dataclass(frozen=True)
class ProcessedChip:
    """A simulated chip, what was made of it and the truth."""

    chip: SimulatedChip
    truth: Truth
    settings: ProcessingSettings
    plan: Plan
    calibration: Calibration
    folder: Path
    chunks: list[ChunkSummary]

    def table(self, name: str) -> pd.DataFrame:
        return pd.concat([read_table(chunk.folder, name) for chunk in self.chunks], ignore_index=True)

    def a_matrices(self) -> np.ndarray:
        lattices = self.table("lattices")
        return lattices[[f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy().reshape(-1, 3, 3)


@pytest.fixture(scope="session")
def simulated_chip(tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    settings = ChipSettings(n_frames=160, hit_fraction=0.5, two_crystal_fraction=0.15, seed=3)
    return simulate_chip(tmp_path_factory.mktemp("chip"), settings)


@pytest.fixture(scope="session")
def processed_chip(simulated_chip: SimulatedChip, tmp_path_factory: pytest.TempPathFactory) -> ProcessedChip:
    folder = tmp_path_factory.mktemp("processed")
    settings = ProcessingSettings(
        sample=simulated_chip.sample, frames_per_chunk=100, calibration=CalibrationSettings(n_frames=120)
    )
    plan = make_plan([simulated_chip.master], settings)
    calibration = calibrate(plan, settings, folder)
    chunks = [process_chunk(job) for job in chunk_jobs(plan, settings, calibration, folder)]
    truth = read_truth(simulated_chip.truth)
    return ProcessedChip(simulated_chip, truth, settings, plan, calibration, folder, chunks)
