"""A disk that is full is an error in plain words; what is whole is found again when there is room."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.outcome import read_outcome
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from tests.flows.conftest import CHIP, FRAMES_PER_CHUNK, ProcessedSite

SIZE_KB = 700
"""Enough for some of the chunks."""
SCRIPT = """
mount -t tmpfs -o size={size}k tmpfs {disk} || exit 77
{ssx} process --group {group}
echo "full: $?"
mount -o remount,size=100m {disk}
{ssx} process --group {group}
echo "room: $?"
cp -r {disk}/. {kept}
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_costs_nothing_that_was_done(
    group_id: int, processed_once: ProcessedSite, site: SiteSettings, tmp_path: Path
):
    disk, kept = tmp_path / "processing", tmp_path / "kept"
    disk.mkdir()
    names = {"disk": disk, "kept": kept, "group": group_id, "ssx": f"{sys.executable} -m flows"}
    script = SCRIPT.format(size=SIZE_KB, **names)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    if shutil.which("unshare") is None:
        pytest.skip("no unshare, to mount a small disk (Debian: util-linux)")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        env=clean | {"SSX_CHUNK_RETRIES": "0"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("this account may not mount a small disk")
    assert "full: 1" in done.stdout, done.stdout + done.stderr
    assert "room: 0" in done.stdout, done.stdout + done.stderr
    assert "No space left on device; make room on the disk of the results" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    folder = kept / f"group-{group_id}"
    outcome, whole = read_outcome(folder), processed_once.outcome
    assert (outcome.status, outcome.chunks_done) == (WorkStatus.SUCCESS, CHIP.n_frames // FRAMES_PER_CHUNK)
    assert outcome.counts == whole.counts
