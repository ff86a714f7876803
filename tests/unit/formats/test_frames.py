"""Opening any file, and many files as one data set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats import frames as frames_module
from ssx_processing.formats.frame_reader import FrameReader, open_reader
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.geometry_difference import geometry_difference
from ssx_processing.models import Geometry, Panel
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.settings import ProcessingSettings, SampleSettings

Write = Callable[..., Path]

GEOMETRY = Geometry(
    panels=(Panel((-1.0, 1.0, -100.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.1, 0.1), 0, 0, 20, 20),),
    image_shape=(20, 20),
    wavelength=1.0,
)


def test_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(ImageReadError, match=r"none\.h5: no such file"):
        open_reader(tmp_path / "none.h5")


def test_folder_is_an_error(tmp_path: Path):
    with pytest.raises(ImageReadError, match="is a folder"):
        open_reader(tmp_path)


def test_empty_file_is_an_error(tmp_path: Path):
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ImageReadError, match="is empty"):
        open_reader(tmp_path / "empty.h5")


def test_no_files_is_an_error():
    with pytest.raises(ImageReadError, match="no image files"):
        FrameSet([])


@pytest.fixture
def two_masters(
    write_filewriter: Write, write_frames: Write, stack: NDArray[Any], tmp_path: Path
) -> list[Path]:
    """Two masters with 3 and 4 frames of ``stack``."""
    masters = []
    for name, frames in (("p", stack[:3]), ("q", stack[3:])):
        write_frames(f"{name}_data_000001.h5", frames)
        masters.append(write_filewriter((f"{name}_data_000001.h5",)).rename(tmp_path / f"{name}_master.h5"))
    return masters


def test_frames_are_numbered_across_files(two_masters: list[Path], stack: NDArray[Any]):
    with FrameSet(two_masters) as frames:
        assert frames.n_frames == 7
        assert frames.locate(2) == (two_masters[0], 2)
        assert frames.locate(3) == (two_masters[1], 0)
        for frame in (6, 0, 3, 2):
            np.testing.assert_array_equal(frames.read(frame), stack[frame])


@pytest.fixture
def announced(write_nxmx: Write, write_frames: Write, stack: NDArray[Any], tmp_path: Path) -> Write:
    """Write a master of 3 frames, of which a file holds ``n``."""

    def write(name: str, n: int) -> Path:
        write_frames(f"{name}.h5", stack[:n])
        layout = h5py.VirtualLayout((3, *stack.shape[1:]), "u2")
        layout[:] = h5py.VirtualSource(f"{name}.h5", "entry/data/data", (3, *stack.shape[1:]))
        master = write_nxmx(lambda data: data.create_virtual_dataset("data", layout))
        return master.rename(tmp_path / f"{name}_master.h5")

    return write


def test_frames_that_no_file_holds_are_not_available(announced: Write, stack: NDArray[Any]):
    with FrameSet([announced("p", 3), announced("q", 2), announced("r", 3)]) as frames:
        assert frames.n_frames == 9
        assert frames.frames_available() == 5
        assert "q_master.h5" in frames.missing()
        np.testing.assert_array_equal(frames.read(4), stack[1])


def test_nothing_is_missing_from_complete_files(two_masters: list[Path]):
    with FrameSet(two_masters) as frames:
        assert frames.frames_available() == frames.n_frames
        assert frames.missing() == ""


def test_a_plan_waits_for_complete_files(announced: Write):
    sample = SampleSettings(unit_cell=(79, 79, 38, 90, 90, 90), space_group="P43212")
    settings = ProcessingSettings(sample=sample)
    assert make_plan([announced("p", 3)], settings).frames_total == 3
    with pytest.raises(ImageReadError, match=r"q_master\.h5.*; 2 of 3 frames can be read now"):
        make_plan([announced("q", 2)], settings)


@pytest.mark.parametrize("frame", [-1, 7])
def test_frame_outside_the_set_is_an_error(two_masters: list[Path], frame: int):
    with FrameSet(two_masters) as frames, pytest.raises(ImageReadError, match="frames 0 to 6"):
        frames.read(frame)


def test_identity_changes_with_any_file_that_holds_pixels(two_masters: list[Path]):
    def identity() -> dict[str, Any]:
        with FrameSet(two_masters) as frames:
            return frames.identity()

    before = identity()
    assert [Path(file["path"]).name for file in before["files"]] == [
        "p_master.h5",
        "p_data_000001.h5",
        "q_master.h5",
        "q_data_000001.h5",
    ]
    assert identity() == before
    (two_masters[0].parent / "q_data_000001.h5").touch()
    assert identity() != before


class FakeReader:
    """A reader without a file, that says how many of its kind are open."""

    n_open = 0
    most_open = 0

    def __init__(self, path: Path, _geometry_file: Path | None = None) -> None:
        self.path, self.n_frames = path, 1
        self.saturation, self.underload = 1e6, -1.0
        self.pixel_type, self.bad_pixels = np.dtype("i4"), np.zeros((20, 20), bool)
        self.geometry = replace(GEOMETRY, wavelength=2.0 if "odd" in path.name else 1.0)
        FakeReader.n_open += 1
        FakeReader.most_open = max(FakeReader.most_open, FakeReader.n_open)

    def read(self, index: int) -> NDArray[Any]:
        if "bad" in self.path.name:
            raise ImageReadError(f"{self.path}: bad")
        return np.full((20, 20), int(self.path.stem.split("_")[1]), "i4")

    def frames_available(self) -> int:
        return 1

    def missing(self) -> str:
        return ""

    def files(self) -> list[Path]:
        return [self.path]

    def close(self) -> None:
        FakeReader.n_open -= 1


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Make files of these names, for which a FakeReader is opened."""
    opener: Callable[[Path, Path | None], FrameReader] = FakeReader
    monkeypatch.setattr(frames_module, "open_reader", opener)
    monkeypatch.setattr(FakeReader, "n_open", 0)
    monkeypatch.setattr(FakeReader, "most_open", 0)

    def make(names: list[str]) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_text("pixels")
        return paths

    return make


def test_thousands_of_single_frames_are_opened_one_by_one(fakes: Callable[..., list[Path]]):
    frames = FrameSet(fakes([f"im_{number:05d}.cbf" for number in range(2000)]))
    assert frames.n_frames == 2000
    assert FakeReader.most_open == 1
    for frame in (0, 5, 1999, 700, 701, 702, 703, 704, 705):
        assert frames.read(frame)[0, 0] == frame
    assert FakeReader.most_open <= frames_module.MAX_OPEN_FILES + 2
    frames.close()
    assert FakeReader.n_open == 0


def test_unreadable_frame_leaves_the_others_readable(fakes: Callable[..., list[Path]]):
    with FrameSet(fakes(["im_0.cbf", "bad_1.cbf", "im_2.cbf"])) as frames:
        with pytest.raises(ImageReadError, match="bad_1"):
            frames.read(1)
        assert frames.read(2)[0, 0] == 2


def test_file_of_another_geometry_is_refused_whenever_it_is_read(fakes: Callable[..., list[Path]]):
    with FrameSet(fakes(["im_0.cbf", "odd_1.cbf"])) as frames:
        for _ in range(2):
            with pytest.raises(GeometryError, match=r"odd_1\.cbf: wavelength 2\.0+ Å"):
                frames.read(1)


def test_file_that_vanished_is_named(fakes: Callable[..., list[Path]]):
    paths = fakes(["im_0.cbf", "im_1.cbf"])
    paths[1].unlink()
    with pytest.raises(ImageReadError, match=r"im_1\.cbf: no such file"):
        FrameSet(paths)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"wavelength": 1.00005}, None),
        ({"wavelength": 1.001}, "wavelength"),
        ({"image_shape": (20, 21)}, "image shape"),
        ({"beam_direction": (0.0, 0.01, -1.0)}, "beam direction"),
        ({"panels": ()}, "0 panels"),
        ({"panels": (replace(GEOMETRY.panels[0], origin_mm=(-1.0, 1.0, -100.005)),)}, None),
        ({"panels": (replace(GEOMETRY.panels[0], origin_mm=(-1.0, 1.0, -100.1)),)}, "origin_mm"),
        ({"panels": (replace(GEOMETRY.panels[0], n_fast=19),)}, "n_fast"),
        ({"panels": (replace(GEOMETRY.panels[0], name="other"),)}, None),
    ],
)
def test_geometries_are_compared_within_tolerances(change: dict[str, Any], expected: str | None):
    difference = geometry_difference(GEOMETRY, replace(GEOMETRY, **change))
    assert difference is None if expected is None else expected in str(difference)
