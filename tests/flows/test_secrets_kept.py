"""Whole runs with a password in the address of ISPyB: no output, log, result or Prefect database has it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from flows.demo import enter_chip
from ispyb_io.embedded import create_ispyb_tables
from ispyb_io.engines import open_engine
from ssx_processing.simulation.chip import SimulatedChip
from tests.command_line import ssx
from tests.flows.conftest import CHIP
from tests.mariadb import MariadbServer, running_mariadb

PASSWORD = "Hush7Hush"  # noqa: S105
DEBUG = "--debug"


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """A MariaDB with an ISPyB and an account that needs a password."""
    with running_mariadb() as server:
        engine = open_engine(server.url("mysql"))
        with engine.begin() as connection:
            connection.execute(text("CREATE DATABASE ispyb"))
            connection.execute(text(f"CREATE USER ssx@localhost IDENTIFIED BY '{PASSWORD}'"))
            connection.execute(text("GRANT ALL ON ispyb.* TO ssx@localhost"))
        engine.dispose()
        yield server


def address(server: MariadbServer, password: str) -> str:
    return server.url("ispyb", user="ssx", password=password).render_as_string(hide_password=False)


def assert_kept(folder: Path, *outputs: str) -> None:
    assert not any(PASSWORD in output for output in outputs)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_run_keeps_the_password_and_so_does_one_that_fails(
    server: MariadbServer, chip: SimulatedChip, tmp_path: Path
):
    url = address(server, PASSWORD)
    engine = open_engine(url)
    create_ispyb_tables(engine)
    group_id = enter_chip(engine, chip, CHIP).group_id
    engine.dispose()
    site = {
        "SSX_LEDGER_URL": url,
        "SSX_PROCESSING_FOLDER": f"{tmp_path}/results",
        "SSX_N_WORKERS": "2",
        "SSX_PROCESSING": '{"frames_per_chunk": 40, "calibration": {"n_frames": 40}}',
    }
    process = (DEBUG, "process", "--group", str(group_id))
    good = ssx(*process, cwd=tmp_path, SSX_ISPYB_URL=url, **site)
    assert good.returncode == 0, good.stderr
    server.kill()
    away = ssx(*process, cwd=tmp_path, SSX_ISPYB_URL=url, **site)
    server.start()
    assert away.returncode != 0
    assert (tmp_path / "results").is_dir()
    assert list(tmp_path.rglob("prefect.db"))
    assert_kept(tmp_path, good.stdout, good.stderr, away.stdout, away.stderr)


@pytest.mark.parametrize("words", [("ispyb", "check"), ("watch",)])
def test_an_account_that_is_refused_is_told_without_what_it_gave(
    server: MariadbServer, words: tuple[str, ...], tmp_path: Path
):
    wrong = address(server, f"not{PASSWORD}")
    done = ssx(DEBUG, *words, cwd=tmp_path, SSX_ISPYB_URL=wrong)
    assert "Access denied" in done.stderr
    assert done.returncode != 0
    assert_kept(tmp_path, done.stdout, done.stderr)
