"""Results are found again by keys that hold the algorithm's version: it must not be forgotten."""

import hashlib
import io
import json
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import ssx_processing
from ssx_processing.compilation import cache_folder
from ssx_processing.settings import ALGORITHM_VERSION

PACKAGE = Path(ssx_processing.__file__).parent
RECORD = Path(__file__).parents[1] / "data" / "algorithm.json"
STEPS = (
    "calibrate",
    "cell_setting",
    "cell_and_distance",
    "cell_candidates",
    "chunk_tables",
    "detector_normals",
    "find_cell",
    "fitted_hits",
    "frame_processing",
    "geometry_refinement",
    "hit_finding",
    "indexing_setting",
    "lattice_filter",
    "lattice_refinement",
    "merge_input",
    "merge_setting",
    "merge_steps",
    "merge",
    "population",
    "prepared_chunks",
    "reflection_table",
    "resolution",
    "sample",
    "spot_size",
    "stored_observations",
    "stored_spots",
    "stream_calibration",
    "stream_chunks",
    "subset_labels",
    "subset_merges",
)
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_hash() -> str:
    """Of all that makes numbers, comments, docstrings and layout left out."""
    digest = hashlib.sha256()
    for file in [*sorted(PACKAGE.glob("kernels/*.py")), *(PACKAGE / "pipeline" / f"{s}.py" for s in STEPS)]:
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            if token.type not in SKIPPED and not token.string.startswith('"""'):
                digest.update(token.string.encode() + b"\n")
    return digest.hexdigest()[:16]


def test_code_that_makes_numbers_changes_together_with_the_decision_about_the_version():
    recorded = json.loads(RECORD.read_text())
    assert recorded == {"version": ALGORITHM_VERSION, "code": code_hash()}, (
        "kernels or steps changed: raise ALGORITHM_VERSION in settings.py if any result changes, "
        f"then run: python {Path(__file__).name} (writes {RECORD.name})"
    )


def test_compiled_kernels_are_kept_apart_for_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().parent == tmp_path / "ssx-orchestrator"
    code = (
        "import pathlib, ssx_processing.compilation as c;"
        "c.Path.read_bytes = lambda self: b'edited';"
        "print(c.cache_folder().name)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert other != cache_folder().name


if __name__ == "__main__":
    RECORD.write_text(json.dumps({"version": ALGORITHM_VERSION, "code": code_hash()}) + "\n")
