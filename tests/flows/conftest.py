"""One Prefect server for all flow tests, one simulated chip, and a site for each test."""

import os
import shutil
import tempfile
from collections.abc import Iterator
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
    values = {
        "SSX_ISPYB_URL": f"sqlite:///{tmp_path}/ispyb.sqlite",
        "SSX_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.sqlite",
        "SSX_PROCESSING_FOLDER": f"{tmp_path}/processing/group-{{group_id}}",
        "SSX_DATA_HOME": str(tmp_path),
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
