"""The whole stack as it is deployed: brought up, used, its parts killed, taken down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.stack.database_servers import postgresql_program
from deployments.stack.programs import MissingProgramError

ROOT = Path(__file__).parents[2]
N_KILLS = 4
"""Watcher, server, PostgreSQL, MariaDB, with the seed below; `make stack KILLS=50` takes more moments."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_chip_goes_through_the_whole_stack_whatever_is_killed():
    try:
        postgresql_program("initdb")
    except MissingProgramError as error:
        pytest.skip(str(error))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SSX_"))}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.stack", "--kills", str(N_KILLS), "--seed", "9"],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("│ yes │") >= 10 + N_KILLS
