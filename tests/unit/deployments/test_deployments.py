"""What is shipped to install it is understood: settings of beamlines, units, deployments."""

import configparser
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from prefect.utilities.importtools import import_object

from flows.prefect_environment import SETTINGS
from flows.settings import SiteSettings

DEPLOYMENTS = Path(__file__).parents[3] / "deployments"
SITES = sorted(DEPLOYMENTS.glob("settings/*.yaml"))
UNITS = sorted(DEPLOYMENTS.glob("systemd/*.service"))


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_settings_of_a_beamline_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("SSX_ISPYB_URL", "SSX_LEDGER_URL", "SSX_DATA_HOME", "SSX_PROCESSING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSX_SETTINGS_FILE", str(path))
    site = SiteSettings()
    from flows.looks import check_processing_settings

    check_processing_settings(site)
    assert site.launch == "deployment"
    assert site.allowed_roots


def test_settings_for_slurm_are_valid(monkeypatch: pytest.MonkeyPatch):
    for name in ("SSX_ISPYB_URL", "SSX_LEDGER_URL", "SSX_DATA_HOME", "SSX_PROCESSING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSX_SETTINGS_FILE", str(DEPLOYMENTS / "slurm" / "site.yaml"))
    site = SiteSettings()
    assert (site.executor, site.workers) == ("slurm", 128)


@pytest.mark.parametrize("path", sorted(DEPLOYMENTS.rglob("*.sbatch")), ids=lambda path: path.name)
def test_a_job_script_is_one_that_bash_understands(path: Path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_image_copies_is_there():
    lines = (DEPLOYMENTS / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied
    assert [name for name in copied if not (DEPLOYMENTS.parent / name).exists()] == []


def test_there_are_three_beamlines():
    assert len(SITES) == 3


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_there_is(path: Path):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read_string(path.read_text())
    command = Path(shlex.split(unit["Service"]["ExecStart"])[0])
    assert (Path(__file__).parents[3] / ".venv" / "bin" / command.name).exists()
    assert unit["Service"]["EnvironmentFile"] == "/etc/ssx/ssx.env"


def test_the_environment_of_the_units_is_that_of_our_commands():
    lines = (DEPLOYMENTS / "systemd" / "ssx.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    wanted = {name: value for name, value in SETTINGS.items() if "EPHEMERAL" not in name}
    assert wanted.items() <= given.items()


def test_deployments_name_flows_that_there_are():
    content = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
    for deployment in content["deployments"]:
        assert import_object(deployment["entrypoint"]).name
        assert deployment["work_pool"]["work_queue_name"] in ("live", "offline")
