"""dxtbx in our own process and in the side process: the same code, so the same frames and numbers.

Our own environment has a numpy that Debian's dxtbx cannot work with. So Debian's Python runs our
package from the checkout; of what that needs, only hdf5plugin is added, which fits any Python.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import hdf5plugin
import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.dxtbx_connection import IN_PROCESS, MODE_VARIABLE, SIDE_PROCESS
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.dxtbx_process import ENVIRONMENT_VARIABLE
from tests.conftest import ROOT
from tests.unit.formats.dxtbx_descriptions import description
from tests.unit.formats.dxtbx_files import rayonix_frames, write_sacla_rayonix

SAMPLES = {
    "CBF": "in16c_010001.cbf",
    "full CBF": "l-cyst_01_00001.cbf",
    "24 panels": "DLS_I23_P12M_thau_00001.cbf.gz",
    "SMV": "simtbx_FormatSMVJHSim_001.img",
    "packed SMV": "adsc_q210_lysozyme.img.bz2",
}
MADE = ("HDF5", "truncated", "senseless")


@pytest.fixture(scope="session")
def files(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    samples, folder = real_data / "format_samples" / "raw", tmp_path_factory.mktemp("files")
    files = {kind: samples / name for kind, name in SAMPLES.items()}
    files["HDF5"] = write_sacla_rayonix(folder / "sacla.h5", rayonix_frames(3))
    files["truncated"] = folder / "cut_00001.cbf"
    files["truncated"].write_bytes(files["CBF"].read_bytes()[:200_000])
    files["senseless"] = folder / "notes_001.txt"
    files["senseless"].write_text("not an image\n" * 100)
    return files


@pytest.fixture(scope="session")
def answers(
    dxtbx_python: str, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the Python that has dxtbx says of the files, in both ways."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / "hdf5plugin").symlink_to(Path(hdf5plugin.__file__).parent)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
        ENVIRONMENT_VARIABLE: dxtbx_python,
    }
    script = Path(__file__).with_name("dxtbx_descriptions.py")
    finished = subprocess.run(
        [dxtbx_python, str(script), *map(str, files.values())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_dxtbx_was_imported_by_our_own_process_only_when_asked(answers: dict[str, Any]):
    assert not answers[f"imported after {SIDE_PROCESS}"]
    assert answers[f"imported after {IN_PROCESS}"]


@pytest.mark.parametrize("kind", [*SAMPLES, *MADE])
def test_frames_are_the_same_in_process_and_in_the_side_process(
    answers: dict[str, Any], files: dict[str, Path], kind: str
):
    path = str(files[kind])
    here, there = answers[IN_PROCESS][path], answers[SIDE_PROCESS][path]
    assert here == there == description(files[kind])
    assert ("error" in here) == (kind in ("truncated", "senseless"))
    assert "error" in here or len(set(here["frames"])) == here["n_frames"]


def test_dxtbx_that_is_to_be_imported_but_cannot_be_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "one_001.img").write_bytes(b"{")
    monkeypatch.setenv(MODE_VARIABLE, IN_PROCESS)
    with pytest.raises(
        ImageReadError, match=r"one_001\.img: needs dxtbx, .*No module named 'dxtbx'.*leave out"
    ):
        DxtbxReader(tmp_path / "one_001.img")
