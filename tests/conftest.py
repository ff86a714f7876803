"""Fixtures that more than one folder of tests uses; few and small."""

import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

collect_ignore = ["data"]  # scripts there say how data was made; they need packages that we do not have


@pytest.fixture
def rng() -> np.random.Generator:
    """A random generator that is the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data with known answers."""
    folder = Path(os.environ.get("SSX_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set SSX_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def dxtbx_python() -> str:
    """A Python that has dxtbx."""
    python = os.environ.get("SSX_DXTBX_PYTHON", "/usr/bin/python3")
    try:
        subprocess.run([python, "-c", "import dxtbx"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{python} has no dxtbx; install python3-dials or set SSX_DXTBX_PYTHON")
    return python


@pytest.fixture(scope="session")
def mmcif_dictionary() -> Path:
    """wwPDB's PDBx/mmCIF dictionary."""
    found = sorted(Path("/usr/share/libcifpp").glob("mmcif_pdbx.dic*"))
    if not found:
        pytest.skip("no PDBx/mmCIF dictionary; install Debian's libcifpp-data")
    return found[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything that tests need is installed, so a test that skips is a test that fails."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"skipped in CI: {reason}"
    return report
