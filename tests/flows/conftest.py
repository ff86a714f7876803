"""One Prefect server for all flow tests, one simulated chip, and a site for each test."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from flows.prefect_environment import prepare

OF_THE_MACHINE = ("SSX_REAL_DATA", "SSX_DXTBX_PYTHON")
for name in list(os.environ):
    if name.startswith(("PREFECT_", "SSX_")) and name not in OF_THE_MACHINE:
        del os.environ[name]
prepare(Path(tempfile.mkdtemp(prefix="ssx-test-prefect-")), quiet=True)

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from flows.demo import enter_chip  # noqa: E402
from flows.job import ProcessRequest  # noqa: E402
from flows.outcome import Outcome  # noqa: E402
from flows.process import run_process  # noqa: E402
from flows.settings import SiteSettings  # noqa: E402
from ispyb_io.embedded import create_embedded_ispyb  # noqa: E402
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip  # noqa: E402
from ssx_processing.simulation.chip_settings import ChipSettings  # noqa: E402

CHIP = ChipSettings(n_frames=80, n_files=2, hit_fraction=0.5)
FRAMES_PER_CHUNK = 10


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's API for the session; a flow's heartbeat would cost a second each."""
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def chip(tmp_path_factory: pytest.TempPathFactory) -> SimulatedChip:
    """Images of the session; tests that spoil them take a copy."""
    return simulate_chip(tmp_path_factory.mktemp("chip") / "raw", CHIP)


@pytest.fixture
def own_chip(chip: SimulatedChip, tmp_path: Path) -> SimulatedChip:
    """A copy of the images that a test may spoil."""
    shutil.copytree(chip.master.parent, tmp_path / "raw")
    return simulate_chip(tmp_path / "raw", CHIP)


@pytest.fixture
def site(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """Settings by environment, as flows read them; small chunks, short delays."""
    return site_in(tmp_path, monkeypatch)


def site_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """A site all of whose files are in a folder."""
    values = {
        "SSX_ISPYB_URL": f"sqlite:///{folder}/ispyb.sqlite",
        "SSX_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "SSX_PROCESSING_FOLDER": f"{folder}/processing/group-{{group_id}}",
        "SSX_DATA_HOME": str(folder),
        "SSX_PROCESSING": f'{{"frames_per_chunk": {FRAMES_PER_CHUNK}, "calibration": {{"n_frames": 40}}}}',
        "SSX_N_WORKERS": "2",
        "SSX_CHUNK_RETRIES": "1",
        "SSX_CHUNK_RETRY_DELAY_S": "0.1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return SiteSettings()


@pytest.fixture
def ispyb(site: SiteSettings, tmp_path: Path) -> Iterator[Engine]:
    """The site's embedded ISPyB, empty."""
    engine = create_embedded_ispyb(tmp_path / "ispyb.sqlite")
    yield engine
    engine.dispose()


@pytest.fixture
def group_id(ispyb: Engine, chip: SimulatedChip) -> int:
    """A data collection group with the session's chip."""
    return enter_chip(ispyb, chip, CHIP).group_id


@dataclass(frozen=True)
class ProcessedSite:
    """A site with its images and one group, which is processed."""

    folder: Path
    kept: Path
    """All of the folder as the processing left it."""
    group_id: int
    outcome: Outcome

    def restore(self) -> None:
        """Undo what was done since."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)


@pytest.fixture(scope="session")
def processed_once(
    prefect_server: None, chip: SimulatedChip, tmp_path_factory: pytest.TempPathFactory
) -> ProcessedSite:
    """The site that `processed` gives to each test anew."""
    folder = tmp_path_factory.mktemp("processed") / "site"
    images = folder / "raw"
    shutil.copytree(chip.master.parent, images)
    with pytest.MonkeyPatch.context() as monkeypatch:
        site = site_in(folder, monkeypatch)
        ispyb = create_embedded_ispyb(folder / "ispyb.sqlite")
        group_id = enter_chip(ispyb, simulate_chip(images, CHIP), CHIP).group_id
        ispyb.dispose()
        outcome = run_process(ProcessRequest(group_id=group_id), site)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    return ProcessedSite(folder, kept, group_id, outcome)


@pytest.fixture
def processed(processed_once: ProcessedSite, monkeypatch: pytest.MonkeyPatch) -> ProcessedSite:
    """A site whose group is processed; the test may spoil it."""
    processed_once.restore()
    site_in(processed_once.folder, monkeypatch)
    return processed_once
