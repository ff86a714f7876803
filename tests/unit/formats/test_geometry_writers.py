"""What is written as .geom and .expt is what our readers, dxtbx and DIALS read."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_geometry_writer import write_crystfel_geometry
from ssx_processing.formats.data_layout import data_layout
from ssx_processing.formats.dials_geometry_writer import write_dials_geometry
from ssx_processing.formats.frame_reader import open_reader
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.formats.geometry_model import Slab
from ssx_processing.models import Geometry, Panel


def turned(rotation: NDArray[np.float64], panel: Panel) -> Panel:
    """The panel turned about the sample."""
    vectors = [rotation @ np.array(v) for v in (panel.origin_mm, panel.fast_axis, panel.slow_axis)]
    origin, fast, slow = (tuple(v.tolist()) for v in vectors)
    return replace(panel, origin_mm=origin, fast_axis=fast, slow_axis=slow)


def about(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotation about x, y or z."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return rotation


FLAT = Geometry(
    panels=(Panel((-162.4, 170.1, -151.7), (1, 0, 0), (0, -1, 0), (0.075, 0.075), 0, 0, 4148, 4362, "0"),),
    image_shape=(4362, 4148),
    wavelength=0.9763,
    sensor_thickness_mm=0.45,
    sensor_absorption_per_mm=3.7,
    polarisation_fraction=0.99,
)
TILTED = replace(FLAT, panels=(turned(about(1, 1.3) @ about(0, -22.0), FLAT.panels[0]),))


def sixteen_panels() -> Geometry:
    """Four quadrants of two by two modules, each quadrant turned, stored below each other."""
    panels = []
    for n in range(16):
        rotation = about(2, 90.0 * (n // 4) + 0.3 * n) @ about(0, 0.05 * n)
        flat = Panel(
            (3.0 + 20.0 * (n % 2), 25.0 + 20.0 * (n % 4 // 2), -90.0 - 0.1 * n), (1, 0, 0), (0, -1, 0),
            (0.11, 0.11), 0, 185 * n, 194, 185, f"q{n // 4}a{n % 4}",
        )  # fmt: skip
        panels.append(turned(rotation, flat))
    return Geometry(tuple(panels), (185 * 16, 194), 1.3)


GEOMETRIES = pytest.mark.parametrize(
    "geometry", [FLAT, TILTED, sixteen_panels()], ids=["flat", "tilted", "sixteen panels"]
)


def corners_px(geometry: Geometry) -> NDArray[np.float64]:
    """(p, 4, 3) corners of the panels in the laboratory, in units of the first panel's pixels."""
    corners = [
        [
            np.array(p.origin_mm)
            + i * p.n_fast * p.pixel_size_mm[0] * np.array(p.fast_axis)
            + j * p.n_slow * p.pixel_size_mm[1] * np.array(p.slow_axis)
            for i in (0, 1)
            for j in (0, 1)
        ]
        for p in geometry.panels
    ]
    return np.array(corners) / geometry.panels[0].pixel_size_mm[0]


def places(geometry: Geometry) -> list[tuple[int, ...]]:
    return [(p.fast_start, p.slow_start, p.n_fast, p.n_slow) for p in geometry.panels]


@GEOMETRIES
@pytest.mark.parametrize("suffix", ["expt", "geom"])
def test_corners_of_all_panels_come_back(geometry: Geometry, suffix: str, tmp_path: Path):
    write = write_dials_geometry if suffix == "expt" else write_crystfel_geometry
    back = read_geometry(write(geometry, tmp_path / f"x.{suffix}")).geometry
    np.testing.assert_allclose(corners_px(back), corners_px(geometry), rtol=0, atol=1e-4)
    assert back.wavelength == pytest.approx(geometry.wavelength, rel=1e-7)
    assert places(back) == places(geometry)
    assert back.image_shape == geometry.image_shape


@GEOMETRIES
def test_a_beam_off_the_axis_turns_the_detector_of_a_geom_as_a_whole(geometry: Geometry, tmp_path: Path):
    """Angles between the beam and all corners, and between corners, are what diffraction sees."""
    beam = np.array([0.004, -0.011, -1.0])
    tilted = replace(geometry, beam_direction=tuple((beam / np.linalg.norm(beam)).tolist()))
    path = write_crystfel_geometry(tilted, tmp_path / "x.geom")
    back = read_geometry(path).geometry
    vectors = [
        np.vstack([corners_px(g).reshape(-1, 3), 1000.0 * np.array(g.beam_direction)]) for g in (tilted, back)
    ]
    expected, found = (v @ v.T / np.linalg.norm(v, axis=1) for v in vectors)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    assert "turned by 0.67" in path.read_text().splitlines()[0]


def test_an_expt_keeps_beam_polarisation_and_sensor(tmp_path: Path):
    beam = (0.0, 0.6, -0.8)
    given = replace(FLAT, beam_direction=beam)
    back = read_geometry(write_dials_geometry(given, tmp_path / "x.expt")).geometry
    assert back.beam_direction == pytest.approx(beam)
    assert back.polarisation_fraction == pytest.approx(0.99)
    assert (back.sensor_thickness_mm, back.sensor_absorption_per_mm) == (0.45, 3.7)


@pytest.mark.parametrize("suffix", ["expt", "geom"])
def test_limits_and_gain_come_back_and_stay_when_written_again(suffix: str, tmp_path: Path):
    write = write_dials_geometry if suffix == "expt" else write_crystfel_geometry
    first = read_geometry(write(FLAT, tmp_path / "a", saturation=65535.0, underload=-9.0, gain=3.5))
    again = read_geometry(
        write(
            FLAT, tmp_path / "b", saturation=first.saturation, underload=first.underload, gain=first.gain or 0
        )
    )
    for read in (first, again):
        counts = np.array([-10, -9, 65534, 65535])
        good = (counts >= read.underload) & (counts < read.saturation)
        assert good.tolist() == [False, True, True, False]
        assert read.gain == 3.5
    assert again.saturation == pytest.approx(first.saturation, abs=1e-9)


def test_limits_that_are_not_known_stop_nothing(tmp_path: Path):
    given = read_geometry(write_dials_geometry(FLAT, tmp_path / "x.expt"))
    assert given.saturation > 2**33
    assert given.underload < -(2**33)
    given = read_geometry(write_crystfel_geometry(FLAT, tmp_path / "x.geom"))
    assert (given.saturation, given.underload) == (np.inf, -np.inf)


READ_WITH_DXTBX = """
import json, sys
from dxtbx.model.experiment_list import ExperimentListFactory
from scitbx.array_family import flex
(experiment,) = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)
corners = []
for panel in experiment.detector:
    n, m = panel.get_image_size_mm()
    corners.append([panel.get_lab_coord((i * n, j * m)) for i in (0, 1) for j in (0, 1)])
panel = experiment.detector[0]
pixels = flex.double(panel.get_image_size()[0] * panel.get_image_size()[1], 0.0)
for n, value in enumerate((-1, 0, 65534, 65535)):
    pixels[n] = value
pixels.reshape(flex.grid(*reversed(panel.get_image_size())))
trusted = list(panel.get_trusted_range_mask(pixels).as_1d()[:4])
json.dump({"corners": corners, "s0": experiment.beam.get_s0(), "trusted": trusted,
           "material": panel.get_material(), "mu": panel.get_mu(), "thickness": panel.get_thickness(),
           "parallax": panel.get_px_mm_strategy().name(),
           "polarisation": experiment.beam.get_polarization_fraction()}, sys.stdout)
"""


@GEOMETRIES
def test_dxtbx_reads_the_same_geometry(geometry: Geometry, dxtbx_python: str, tmp_path: Path):
    path = write_dials_geometry(geometry, tmp_path / "x.expt", saturation=65535.0, underload=0.0)
    command = [dxtbx_python, "-c", READ_WITH_DXTBX, str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    pixel = geometry.panels[0].pixel_size_mm[0]
    np.testing.assert_allclose(np.array(found["corners"]) / pixel, corners_px(geometry), rtol=0, atol=1e-4)
    np.testing.assert_allclose(found["s0"], [0, 0, -1 / geometry.wavelength], rtol=0, atol=1e-12)
    assert found["trusted"] == [False, True, True, False]
    assert found["polarisation"] == geometry.polarisation_fraction
    has_sensor = geometry.sensor_thickness_mm > 0
    assert found["material"] == ("Si" if has_sensor else "")
    assert found["parallax"] == ("ParallaxCorrectedPxMmStrategy" if has_sensor else "SimplePxMmStrategy")
    assert (found["thickness"], found["mu"]) == ((0.45, 3.7) if has_sensor else (0.0, 0.0))


def test_dials_shows_it(dxtbx_python: str, tmp_path: Path):
    path = write_dials_geometry(FLAT, tmp_path / "refined.expt", saturation=65535.0, underload=0.0)
    command = [dxtbx_python, "-m", "dials.command_line.show", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "pixel to millimeter strategy: ParallaxCorrectedPxMmStrategy" in done.stdout
    assert "distance: 151.7" in done.stdout
    assert "px: (2165.33,2268.00)" in done.stdout


def test_a_geom_says_where_pixels_and_mask_are(write_nxmx: Callable[..., Path], tmp_path: Path):
    pixels = np.arange(3 * 40 * 56, dtype=np.uint16).reshape(3, 40, 56)
    master = write_nxmx(lambda data: data.create_dataset("data", data=pixels))
    own = open_reader(master)
    bad = np.zeros((40, 56), bool)
    bad[7, 11:13] = True
    layout = data_layout(master)
    assert layout == (Slab("/entry/data/data", ("%", "ss", "fs"), (40, 56)),)
    path = write_crystfel_geometry(own.geometry, tmp_path / "x.geom", layout=layout, bad_pixels=bad)
    given = read_geometry(path, master)
    assert given.layout == layout
    np.testing.assert_array_equal(given.bad_pixels, bad)
    reader = open_reader(master, path)
    np.testing.assert_array_equal(reader.read(2), pixels[2])
    np.testing.assert_allclose(corners_px(reader.geometry), corners_px(own.geometry), rtol=0, atol=1e-4)
    reader.close()
    own.close()


def test_modules_that_are_stored_above_each_other_are_told_apart(
    write_nxmx: Callable[..., Path], tmp_path: Path
):
    pixels = np.arange(2 * 2 * 20 * 56, dtype=np.uint16).reshape(2, 2, 20, 56)
    modules = ((0, 0, 0, 1, 20, 56), (1, 0, 0, 1, 20, 56))
    spots = [{"offset": (2.8, 2.0 * n, 0.0), "angle": 5.0 * n} for n in (1, -1)]
    master = write_nxmx(lambda data: data.create_dataset("data", data=pixels), modules=modules, places=spots)
    own = open_reader(master)
    bad = np.zeros((40, 56), bool)
    bad[3, 4] = bad[25, 6] = True
    path = write_crystfel_geometry(
        own.geometry, tmp_path / "x.geom", layout=data_layout(master), bad_pixels=bad
    )
    with h5py.File(tmp_path / "x_mask.h5") as file:
        assert file["data/mask"].shape == (2, 20, 56)  # pyright: ignore[reportAttributeAccessIssue]
    given = read_geometry(path, master)
    assert [slab.axes[1] for slab in given.layout] == [0, 1]
    np.testing.assert_array_equal(given.bad_pixels, bad)
    np.testing.assert_allclose(corners_px(given.geometry), corners_px(own.geometry), rtol=0, atol=1e-4)
    reader = open_reader(master, path)
    np.testing.assert_array_equal(reader.read(1), pixels[1].reshape(40, 56))
    reader.close()
    own.close()


def test_a_master_with_links_leads_to_its_data_files(
    write_filewriter: Callable[..., Path], write_frames: Callable[..., Path], stack: NDArray[np.uint16]
):
    write_frames("d1.h5", stack, "entry/data/data")
    master = write_filewriter(("d1.h5",))
    assert data_layout(master) == (Slab("/entry/data/data", ("%", "ss", "fs"), (40, 56)),)


def test_files_without_a_known_layout_have_none(tmp_path: Path):
    (tmp_path / "x.cbf").write_text("###CBF")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["something"] = 1
    assert [data_layout(tmp_path / name) for name in ("x.cbf", "x.h5", "gone.h5")] == [(), (), ()]
    text = write_crystfel_geometry(FLAT, tmp_path / "x.geom").read_text()
    assert "data =" not in text
    assert "dim" not in text


def test_pixels_that_are_not_square_keep_both_sizes_and_are_noted(tmp_path: Path):
    panel = replace(FLAT.panels[0], pixel_size_mm=(0.075, 0.05))
    path = write_crystfel_geometry(replace(FLAT, panels=(panel,)), tmp_path / "x.geom")
    (back,) = read_geometry(path).geometry.panels
    assert back.pixel_size_mm == pytest.approx((0.075, 0.05), rel=1e-9)
    assert "; pixels are not square" in path.read_text()


def test_names_that_crystfel_can_have_are_kept_with_their_groups(tmp_path: Path):
    groups = {"q0": ("q0a0", "q0a1"), "a detector": ("q0a0", "q3a3")}
    given = read_geometry(write_crystfel_geometry(sixteen_panels(), tmp_path / "x.geom", groups=groups))
    assert [p.name for p in given.geometry.panels][:2] == ["q0a0", "q0a1"]
    assert given.groups["q0"] == ("q0a0", "q0a1")
    assert given.groups["a_detector"] == ("q0a0", "q3a3")
    assert len(given.groups["all"]) == 16


def test_names_that_mean_something_else_there_are_replaced(tmp_path: Path):
    panel = replace(FLAT.panels[0], name="/entry/instrument/detector/module")
    text = write_crystfel_geometry(replace(FLAT, panels=(panel,)), tmp_path / "x.geom").read_text()
    assert "p0/min_fs = 0" in text
    assert "group_all = p0" in text


def test_what_cannot_be_written_is_said(tmp_path: Path):
    upstream = replace(FLAT, panels=(replace(FLAT.panels[0], origin_mm=(-162.4, 170.1, 150.0)),))
    with pytest.raises(GeometryError, match="panel 0 has its corner -150 mm downstream"):
        write_crystfel_geometry(upstream, tmp_path / "x.geom")
    with pytest.raises(GeometryError, match=r"panel 0 fills rows 0 to 4361.*/d \(10, 10\) from 0"):
        write_crystfel_geometry(FLAT, tmp_path / "x.geom", layout=[Slab("/d", ("ss", "fs"), (10, 10))])
    for write in (write_crystfel_geometry, write_dials_geometry):
        with pytest.raises(GeometryError, match="No such file or directory; name another file"):
            write(FLAT, tmp_path / "no" / "x.geom")
