"""The whole stack as it is deployed: brought up, used, its parts killed, taken down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.stack.database_servers import postgresql_program
from deployments.stack.programs import MissingProgramError

ROOT = Path(__file__).parents[2]
N_KILLS = 8
"""Each part once; `make stack KILLS=50` takes more moments."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_chip_goes_through_the_whole_stack_whatever_is_killed():
    try:
        postgresql_program("initdb")
    except MissingProgramError as error:
        pytest.skip(str(error))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SSX_"))}
    command = [sys.executable, "-m", "deployments.stack", "--kills", str(N_KILLS), "--seed", "3"]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as stack:
        try:
            printed, said = stack.communicate(timeout=800)
        finally:
            stack.terminate()  # it ends what it started
            stack.wait(60)
    assert stack.returncode == 0, printed + said
    assert printed.count("│ yes │") >= 11 + N_KILLS
