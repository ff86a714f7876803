"""A small chip, processed as far as its calibration, and commands given in an empty folder."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import ProcessingSettings
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings

Given = Callable[..., Result]


@pytest.fixture(scope="session")
def chip(tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    settings = ChipSettings(n_frames=12, n_files=1, hit_fraction=0.5)
    return simulate_chip(tmp_path_factory.mktemp("looking"), settings)


@pytest.fixture(scope="session")
def calibrated(chip: SimulatedChip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of the chip that has got as far as its calibration."""
    folder = tmp_path_factory.mktemp("calibrated")
    settings = ProcessingSettings(sample=chip.sample)
    plan = make_plan([chip.master], settings)
    content = {"plan": asdict(plan), "settings": settings.model_dump(mode="json"), "chunks": []}
    write_json(folder / "plan.json", content | {"calibration": calibrate(plan, settings, folder).key})
    return folder


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Give a command in an empty folder, with no settings of a site."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def give(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return give
