"""dxtbx in the side process: real images, its life and death, and what it says when it is absent."""

import bz2
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.dxtbx_frames import DxtbxReader
from ssx_processing.formats.dxtbx_process import ENVIRONMENT_VARIABLE, DxtbxProcess, shared_process
from ssx_processing.formats.frames import FrameSet, open_reader


@pytest.fixture
def samples(dxtbx_python: str, real_data: Path) -> Path:
    return real_data / "format_samples" / "raw"


@pytest.fixture
def stills(dxtbx_python: str, real_data: Path) -> list[Path]:
    return sorted((real_data / "thaumatin_grid_dls_19stills" / "raw").glob("*.cbf.bz2"))


@pytest.fixture
def plain_cbf(samples: Path, tmp_path: Path) -> Path:
    """A small uncompressed CBF that may be changed."""
    copy = tmp_path / "one_00001.cbf"
    shutil.copy(samples / "ximg2701_00001.cbf", copy)
    copy.chmod(0o644)
    return copy


@pytest.fixture
def own_process() -> Iterator[DxtbxProcess]:
    process = DxtbxProcess()
    yield process
    process.close()


def test_thaumatin_geometry_is_the_known_one(stills: list[Path]):
    reader = open_reader(stills[0])
    geometry, panel = reader.geometry, reader.geometry.panels[0]
    assert geometry.image_shape == (2527, 2463)
    assert geometry.wavelength == pytest.approx(0.96859)
    assert panel.fast_axis == pytest.approx((1, 0, 0))
    assert panel.slow_axis == pytest.approx((0, -1, 0))
    assert geometry.beam_direction == pytest.approx((0, 0, -1))
    x, y, z = panel.origin_mm
    assert (-x / 0.172, y / 0.172, z) == pytest.approx((1261.61, 1306.96, -351.0))
    assert geometry.polarisation_fraction == pytest.approx(0.999)
    assert geometry.sensor_thickness_mm == pytest.approx(0.45)
    assert reader.saturation == 115897


@pytest.mark.slow
def test_no_unmasked_pixel_of_the_thaumatin_stills_is_negative(stills: list[Path]):
    with FrameSet(stills) as frames:
        assert frames.n_frames == 19
        for frame in range(19):
            assert frames.read(frame)[~frames.bad_pixels].min() >= 0
        gaps = frames.read(0) == -1
        assert gaps.mean() > 0.08
        assert frames.bad_pixels[gaps].all()


@pytest.mark.parametrize(
    ("name", "shape", "wavelength", "n_panels"),
    [
        ("DLS_I03_smargon_0001.cbf.gz", (2527, 2463), 0.97625, 1),
        ("TIMEPIX_SU_516-stdgoni_0001.img", (516, 516), 0.0251, 1),
        ("adsc_q210_lysozyme.img.bz2", (2304, 2304), 1.0, 1),
        ("in16c_010001.cbf", (619, 487), 1.542, 1),
        ("l-cyst_01_00001.cbf", (1679, 1475), 0.6889, 1),
        ("simtbx_FormatSMVJHSim_001.img", (1024, 1024), 0.02508, 1),
        ("DLS_I23_P12M_thau_00001.cbf.gz", (24 * 195, 2463), 2.7552, 24),
    ],
)
def test_real_formats_are_read(
    samples: Path, name: str, shape: tuple[int, int], wavelength: float, n_panels: int
):
    reader = open_reader(samples / name)
    pixels = reader.read(0)
    assert pixels.shape == reader.bad_pixels.shape == reader.geometry.image_shape == shape
    assert reader.geometry.wavelength == pytest.approx(wavelength, abs=1e-5)
    assert len(reader.geometry.panels) == n_panels
    good = pixels[~reader.bad_pixels]
    assert good.min() >= 0
    assert good.max() > good.min()


def test_stacked_panels_share_out_the_rows(samples: Path):
    panels = open_reader(samples / "DLS_I23_P12M_thau_00001.cbf.gz").geometry.panels
    assert [panel.slow_start for panel in panels] == [195 * number for number in range(24)]


def test_pixels_do_not_depend_on_the_compression(samples: Path, plain_cbf: Path):
    packed = plain_cbf.with_suffix(".cbf.bz2")
    packed.write_bytes(bz2.compress(plain_cbf.read_bytes()))
    np.testing.assert_array_equal(open_reader(packed).read(0), open_reader(plain_cbf).read(0))


def test_name_without_a_number_is_read(plain_cbf: Path):
    nameless = plain_cbf.rename(plain_cbf.with_name("still.cbf"))
    assert open_reader(nameless).read(0).shape == (619, 487)


def test_truncated_cbf_is_an_error(plain_cbf: Path):
    plain_cbf.write_bytes(plain_cbf.read_bytes()[:100_000])
    with pytest.raises(ImageReadError, match=r"one_00001\.cbf: truncated: \d+ bytes of pixels, its header"):
        open_reader(plain_cbf)


def test_truncated_bz2_is_an_error(stills: list[Path], tmp_path: Path):
    cut = tmp_path / "cut_0001.cbf.bz2"
    cut.write_bytes(stills[0].read_bytes()[:100_000])
    with pytest.raises(ImageReadError, match=r"cut_0001\.cbf\.bz2: .*end-of-stream"):
        open_reader(cut)


def test_file_of_no_known_format_is_an_error(dxtbx_python: str, tmp_path: Path):
    (tmp_path / "notes_001.txt").write_text("not an image\n" * 100)
    with pytest.raises(ImageReadError, match=r"notes_001\.txt: no format known to dxtbx"):
        open_reader(tmp_path / "notes_001.txt")


def test_no_temporary_file_is_left(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = DxtbxProcess()
    answer, _ = process.request(lambda _: None, op="open", path=str(samples / "dlsnxs2cbf_therm_0001.cbf.gz"))
    assert answer["n_frames"] == 1
    assert list(tmp_path.iterdir()) == []
    process.close()


def test_one_process_serves_many_files(samples: Path):
    pids = set()
    for name in ("in16c_010001.cbf", "l-cyst_01_00001.cbf", "ximg2701_00001.cbf"):
        open_reader(samples / name)
        pids.add(shared_process().pid)
    assert len(pids) == 1
    assert None not in pids


def test_process_that_died_is_started_again(plain_cbf: Path):
    reader = DxtbxReader(plain_cbf)
    before = reader.read(0).copy()
    pid = shared_process().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while shared_process().pid is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    np.testing.assert_array_equal(reader.read(0), before)
    assert shared_process().pid != pid


def read_sum(path: Path) -> tuple[int, int | None]:
    return int(DxtbxReader(path).read(0).sum()), shared_process().pid


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_worker_has_a_process_of_its_own(plain_cbf: Path):
    expected = read_sum(plain_cbf)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        total, pid = pool.apply(read_sum, (plain_cbf,))
    assert total == expected[0]
    assert pid != expected[1]
    assert read_sum(plain_cbf) == expected


def test_process_ends_when_its_parent_is_killed(plain_cbf: Path):
    script = (
        "import os, sys, signal; from pathlib import Path;"
        "from ssx_processing.formats.dxtbx_frames import DxtbxReader;"
        "from ssx_processing.formats.dxtbx_process import shared_process;"
        f"DxtbxReader(Path({str(plain_cbf)!r})); print(shared_process().pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(finished.stdout)}/stat")
    deadline = time.monotonic() + 10
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or status.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("python", "reason"), [(sys.executable, "No module named 'dxtbx'"), ("/no/python", "No such file")]
)
def test_missing_dxtbx_is_explained(
    own_process: DxtbxProcess, monkeypatch: pytest.MonkeyPatch, python: str, reason: str
):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, python)
    with pytest.raises(ImageReadError, match=rf"a\.cbf: .*{reason}.*python3-dials or set SSX_DXTBX_PYTHON"):
        own_process.request(lambda _: None, op="open", path="a.cbf")
