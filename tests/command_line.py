"""Run ``ssx`` as a user does: its own process, nothing of the user's settings."""

import os
import subprocess
import sys
from pathlib import Path


def ssx(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The ended process, with what it printed."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "SSX_")) or name == "SSX_DXTBX_PYTHON"
    }
    return subprocess.run(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        cwd=cwd,
        env=clean | {"XDG_DATA_HOME": str(cwd)} | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
