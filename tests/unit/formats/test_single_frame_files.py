"""Many files of one frame each: a damaged one costs its frame, one being written is waited for."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frame_reader import file_status, open_reader
from ssx_processing.formats.frames import SETTLING_S, FrameSet
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import ProcessingSettings, SampleSettings

SAMPLE = SampleSettings(unit_cell=(79, 79, 38, 90, 90, 90), space_group="P43212")


@pytest.fixture
def four(dxtbx_python: str, real_data: Path, tmp_path: Path) -> list[Path]:
    """Four CBF files of one frame, collected a while ago."""
    paths = [tmp_path / f"im_{number:05d}.cbf" for number in range(4)]
    for path in paths:
        shutil.copy(real_data / "format_samples" / "raw" / "ximg2701_00001.cbf", path)
        path.chmod(0o644)
        changed(path, 1000)
    return paths


def changed(path: Path, ago_s: float, n_bytes: int | None = None) -> None:
    """Cut a file to a length, and let its last change be so long ago."""
    if n_bytes is not None:
        with path.open("r+b") as file:
            file.truncate(n_bytes)
    when = time.time() - ago_s
    os.utime(path, (when, when))


@pytest.mark.parametrize("n_bytes", [0, 100, 200_000])
@pytest.mark.parametrize("damaged", [0, 2])
def test_file_that_was_cut_long_ago_costs_its_frame_only(four: list[Path], damaged: int, n_bytes: int):
    changed(four[damaged], 2 * SETTLING_S, n_bytes)
    assert make_plan(four, ProcessingSettings(sample=SAMPLE)).frames_total == 4
    with FrameSet(four) as frames:
        with pytest.raises(ImageReadError, match=four[damaged].name):
            frames.read(damaged)
        assert [frames.read(frame).max() > 0 for frame in range(4) if frame != damaged] == [True] * 3


@pytest.mark.parametrize(("n_bytes", "reason"), [(0, "is empty"), (100, "truncated"), (200_000, "truncated")])
def test_file_that_is_being_written_is_waited_for(four: list[Path], n_bytes: int, reason: str):
    whole = four[2].read_bytes()
    changed(four[2], 1, n_bytes)
    with FrameSet(four) as frames:
        assert (frames.n_frames, frames.frames_available()) == (4, 2)
        assert four[2].name in frames.missing()
        assert reason in frames.missing()
        assert "is the detector still writing?" in frames.missing()
        with pytest.raises(ImageReadError, match="wait until all are written"):
            make_plan(four, ProcessingSettings(sample=SAMPLE))
        four[2].write_bytes(whole)
        assert (frames.frames_available(), frames.missing()) == (4, "")
        assert frames.read(2).max() > 0


def test_no_file_that_can_be_read_is_the_error_of_the_first(four: list[Path]):
    for path in four:
        changed(path, 2 * SETTLING_S, 0)
    with pytest.raises(ImageReadError, match=rf"{four[0].name}: is empty"):
        FrameSet(four)


def test_refused_set_leaves_no_file_open(tmp_path: Path, write_nxmx: Callable[..., Path]):
    master = write_nxmx(lambda data: data.create_dataset("data", (2, 40, 56), "u2"))
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ImageReadError, match=r"broken\.h5"):
        FrameSet([master, tmp_path / "broken.h5"])
    assert master not in [descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize(
    ("name", "message"),
    [("loop.cbf", "Too many levels of symbolic links"), ("x" * 300, "File name too long")],
)
def test_path_that_the_system_refuses_is_an_error_in_words(tmp_path: Path, name: str, message: str):
    if len(name) < 100:
        (tmp_path / name).symlink_to(name)
    with pytest.raises(ImageReadError, match=rf"{name}: {message}"):
        file_status(tmp_path / name)
    with pytest.raises(ImageReadError, match=message):
        open_reader(tmp_path / name)
