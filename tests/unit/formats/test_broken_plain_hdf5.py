"""HDF5 files read with a geometry file, of which some frames are not like the first."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frame_reader import open_reader
from tests.unit.formats.crystfel_files import BEAM, PANEL, WriteGeom

FRAMES = np.arange(5 * 20 * 40, dtype=np.uint16).reshape(5, 20, 40)


@pytest.mark.parametrize(
    "layout", ["data = /%/x\ndim0 = ss\ndim1 = fs", "data = /%/x\ndim0 = 0\ndim1 = ss\ndim2 = fs"]
)
def test_frame_whose_pixels_the_type_of_the_first_cannot_hold_costs_itself_only(
    tmp_path: Path, geom: WriteGeom, layout: str
):
    path = tmp_path / "tags.h5"
    kinds = ["u2", "u1", "u4", "f4", "u2"]
    with h5py.File(path, "w") as file:
        for number, kind in enumerate(kinds):
            pixels = (FRAMES[number] % 200).astype(kind)
            file[f"tag-{number}/x"] = pixels if "dim2" not in layout else pixels[None]
    reader = open_reader(path, geom(layout, BEAM, PANEL))
    for number, kind in enumerate(kinds):
        if kind in ("u4", "f4"):
            with pytest.raises(
                ImageReadError, match=rf"frame {number} .*holds {np.dtype(kind)}, .*first frame uint16"
            ):
                reader.read(number)
        else:
            np.testing.assert_array_equal(reader.read(number), FRAMES[number] % 200)
    reader.close()


def test_panels_with_fewer_frames_than_the_first_cost_those(tmp_path: Path, geom: WriteGeom):
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = FRAMES, FRAMES[:3]
    second = PANEL.replace("p0", "p1").replace("corner_y = 8", "corner_y = -20")
    dims = "dim0 = %\ndim1 = ss\ndim2 = fs"
    reader = open_reader(path, geom(dims, BEAM, "p0/data = /a\np1/data = /b", PANEL, second))
    assert (reader.n_frames, reader.frames_available()) == (5, 3)
    assert "/b has only 3 frames" in reader.missing()
    np.testing.assert_array_equal(reader.read(2), np.vstack([FRAMES[2], FRAMES[2]]))
    with pytest.raises(ImageReadError, match="frame 3 cannot be read; there are only 3 frames"):
        reader.read(3)
    reader.close()


@pytest.mark.parametrize("chunks", [(1, 20, 40), (2, 20, 40), None])
def test_dataset_of_which_nothing_was_written_says_so(
    tmp_path: Path, geom: WriteGeom, chunks: tuple[int, ...] | None
):
    path = tmp_path / "none.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (5, 20, 40), "u2", chunks=chunks)
    reader = open_reader(path, geom("data = /x\ndim0 = %\ndim1 = ss\ndim2 = fs", BEAM, PANEL))
    with pytest.raises(ImageReadError, match="frame 0 of /x was never written"):
        reader.read(0)
    reader.close()


def test_pipe_is_an_error_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.cbf")
    with pytest.raises(ImageReadError, match=r"pipe\.cbf: is a pipe or a device"):
        open_reader(tmp_path / "pipe.cbf")
