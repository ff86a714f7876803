"""Commands that only show results, and those that leave the work to others, start quickly."""

import subprocess
import sys

import pytest

HEAVY = {"numba", "pandas", "pyarrow", "scipy", "h5py", "plotly", "prefect", "sqlalchemy"}


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("flows.cli", set()),
        ("flows.cli, flows.steps, flows.executor", set()),
        ("flows.merge, flows.console", {"sqlalchemy"}),
    ],
)
def test_what_takes_long_to_import_is_imported_where_it_is_needed(modules: str, allowed: set[str]):
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == allowed
