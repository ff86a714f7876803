"""DIALS's experiment lists as geometry: hierarchy, masks, real files, and what is refused."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssx_processing.errors import GeometryError
from ssx_processing.formats.frame_reader import open_reader
from ssx_processing.formats.geometry_file import read_geometry

STILLS = "hewl_i24_4stills"


def panel(**changes: Any) -> dict[str, Any]:
    """A panel as DIALS writes it."""
    return {
        "name": "m",
        "origin": [0.0, 0.0, 0.0],
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, -1.0, 0.0],
        "image_size": [30, 20],
        "pixel_size": [0.1, 0.1],
        "trusted_range": [0, 5000],
        "thickness": 0.32,
        "mu": 3.6,
        "mask": [],
        "gain": 1.0,
        "pedestal": 0.0,
        "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy"},
    } | changes


def experiments(*panels: dict[str, Any], hierarchy: dict[str, Any] | None = None) -> dict[str, Any]:
    """An experiment list of one still."""
    children = [{"panel": number} for number in range(len(panels))]
    root = {"name": "", "origin": [0, 0, -100], "fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0]}
    return {
        "__id__": "ExperimentList",
        "experiment": [{"__id__": "Experiment", "beam": 0, "detector": 0, "imageset": 0}],
        "imageset": [{"__id__": "ImageSet", "images": ["x.cbf"], "mask": "", "gain": None}],
        "beam": [{"direction": [0.0, 0.0, 1.0], "wavelength": 1.1, "polarization_fraction": 0.99}],
        "detector": [{"panels": list(panels), "hierarchy": hierarchy or {**root, "children": children}}],
    }


@pytest.fixture
def expt(tmp_path: Path) -> Callable[[Any], Path]:
    """Write an experiment list."""

    def write(content: Any) -> Path:
        path = tmp_path / "x.expt"
        path.write_text(json.dumps(content))
        return path

    return write


def test_panels_are_stacked_below_each_other(expt: Callable[[Any], Path]):
    other = panel(name="n", image_size=[25, 10], origin=[1.0, 2.0, 3.0], mask=[[0, 1, 5, 3]])
    given = read_geometry(expt(experiments(panel(), other)))
    first, second = given.geometry.panels
    assert given.geometry.image_shape == (30, 30)
    assert (first.slow_start, second.slow_start, second.fast_start) == (0, 20, 0)
    assert (second.n_slow, second.n_fast) == (10, 25)
    assert second.origin_mm == (1.0, 2.0, -97.0)
    expected = np.zeros((30, 30), bool)
    expected[20:, 25:] = True
    expected[21:23, :5] = True
    np.testing.assert_array_equal(given.bad_pixels, expected)
    assert (given.underload, given.saturation, given.gain) == (0.0, 5000.0, 1.0)
    geometry = given.geometry
    assert (geometry.sensor_thickness_mm, geometry.sensor_absorption_per_mm) == (0.32, 3.6)
    assert geometry.wavelength == 1.1
    assert geometry.beam_direction == (0.0, 0.0, -1.0)
    assert geometry.polarisation_fraction == pytest.approx(0.99)


def test_frames_of_groups_multiply(expt: Callable[[Any], Path]):
    """A quarter turn about the beam within a shift: worked out by hand."""
    quadrant = {"name": "q", "origin": [10, 0, 0], "fast_axis": [0, 1, 0], "slow_axis": [-1, 0, 0]}
    root = {"name": "d", "origin": [0, 5, -100], "fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0]}
    hierarchy = {**root, "children": [{**quadrant, "children": [{"panel": 0}]}]}
    given = read_geometry(expt(experiments(panel(origin=[2, 3, 0]), hierarchy=hierarchy)))
    (placed,) = given.geometry.panels
    assert placed.origin_mm == pytest.approx((10 - 3, 5 + 2, -100))
    assert placed.fast_axis == pytest.approx((0, 1, 0))
    assert placed.slow_axis == pytest.approx((1, 0, 0))
    assert given.groups == {"d": ("m",), "q": ("m",)}


WRITE_HIERARCHY = """
import json, math, sys
from dxtbx.model import Beam, Detector, Experiment, ExperimentList
detector = Detector()
root = detector.hierarchy()
root.set_local_frame((1, 0, 0), (0, 1, 0), (1, 2, -150))
for k in range(2):
    c, s = math.cos(0.3 + k), math.sin(0.3 + k)
    group = root.add_group()
    group.set_local_frame((c, s, 0), (-s, c, 0), (10 * k, -5, 0.5 * k))
    for m in range(2):
        panel = group.add_panel()
        panel.set_image_size((20 + m, 30))
        panel.set_pixel_size((0.1, 0.2))
        panel.set_local_frame((math.cos(0.2 + m), 0, math.sin(0.2 + m)), (0, 1, 0), (3 * m, 2, 0.1))
beam = Beam((0, 0.01, 1), 1.3)
listed = ExperimentList([Experiment(detector=detector, beam=beam)])
truth = [[p.get_origin(), p.get_fast_axis(), p.get_slow_axis()] for p in detector]
s0 = beam.get_s0()
json.dump({"expt": listed.to_dict(), "truth": truth, "s0": s0}, sys.stdout)
"""


def test_dxtbx_places_panels_of_its_own_file_alike(dxtbx_python: str, expt: Callable[[Any], Path]):
    command = [dxtbx_python, "-c", WRITE_HIERARCHY]
    written = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    geometry = read_geometry(expt(written["expt"])).geometry
    placed = [[p.origin_mm, p.fast_axis, p.slow_axis] for p in geometry.panels]
    np.testing.assert_allclose(placed, written["truth"], rtol=0, atol=1e-12)
    s0 = np.array(geometry.beam_direction) / geometry.wavelength
    np.testing.assert_allclose(s0, written["s0"], rtol=0, atol=1e-12)


def test_geometry_of_real_stills_is_that_of_dxtbx(real_data: Path):
    truth = json.loads((real_data / STILLS / "geometry.json").read_text())
    given = read_geometry(real_data / STILLS / "raw" / "i24_lyso_still-imported.json")
    (placed,), (expected,) = given.geometry.panels, truth["panels"]
    assert placed.origin_mm == tuple(expected["origin_mm"])
    assert (placed.n_fast, placed.n_slow) == tuple(expected["size_fast_slow"])
    assert given.geometry.wavelength == truth["wavelength_A"]
    assert given.geometry.sensor_thickness_mm == expected["thickness_mm"]
    assert given.saturation == expected["trusted"][1]
    assert given.underload == 0
    mask = np.zeros((2527, 2463), bool)
    for fast_0, slow_0, fast_1, slow_1 in expected["mask"]:
        mask[slow_0:slow_1, fast_0:fast_1] = True
    np.testing.assert_array_equal(given.bad_pixels, mask)


def test_experiments_with_geometries_of_their_own_are_refused(real_data: Path):
    with pytest.raises(GeometryError, match=r"indexed\.expt: its experiments differ in geometry: beam dir"):
        read_geometry(real_data / STILLS / "raw" / "indexed.expt")


def test_positions_without_parallax_stay_without(expt: Callable[[Any], Path]):
    flat = panel(px_mm_strategy={"type": "SimplePxMmStrategy"})
    assert read_geometry(expt(experiments(flat))).geometry.sensor_thickness_mm == 0


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("__id__",), "DataBlock", "no experiment list"),
        (("experiment",), [], "holds no experiments"),
        (("experiment", 0, "beam"), 3, "not as DIALS writes it"),
        (("beam", 0, "wavelength"), float("nan"), "its wavelength is nan"),
        (("beam", 0, "__id__"), "polychromatic", "polychromatic"),
        (("imageset", 0, "mask"), "m.pickle", r"imageset has mask = m\.pickle; masks of DIALS"),
        (("imageset", 0, "dx"), "dx.pickle", "displacements are not supported"),
        (("detector", 0, "panels", 0, "fast_axis"), [0, 1, 0], "m: its axes span no plane"),
        (("detector", 0, "panels", 0, "image_size"), [0, 20], "has 0 x 20 pixels"),
        (("detector", 0, "panels", 0, "pedestal"), 3.0, "has a pedestal"),
        (("detector", 0, "panels", 0, "px_mm_strategy"), {"type": "Offset"}, "px_mm_strategy is Offset"),
        (("detector", 0, "hierarchy", "children"), [], "panel 'm' is in no group"),
    ],
)
def test_what_would_change_positions_or_masks_is_refused(
    expt: Callable[[Any], Path], where: tuple[str | int, ...], value: Any, message: str
):
    content: Any = deepcopy(experiments(panel()))
    inner = content
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(GeometryError, match=r"x\.expt: .*" + message):
        read_geometry(expt(content))


def test_a_missing_field_is_named(expt: Callable[[Any], Path]):
    lacking = panel()
    del lacking["pixel_size"]
    with pytest.raises(GeometryError, match="lacks the field 'pixel_size'"):
        read_geometry(expt(experiments(lacking)))


def test_modules_of_one_nxmx_image_keep_their_places(
    expt: Callable[[Any], Path], write_nxmx: Callable[..., Path]
):
    """As dxtbx cuts them: two modules beside each other, the second lower."""
    pixels = np.arange(2 * 40 * 56, dtype=np.uint16).reshape(2, 40, 56)
    master = write_nxmx(
        lambda data: data.create_dataset("data", data=pixels), modules=((0, 0, 20, 30), (10, 30, 30, 26))
    )
    panels = panel(image_size=[30, 20]), panel(image_size=[26, 30], origin=[3, -1, 0], mask=[[0, 0, 2, 1]])
    reader = open_reader(master, expt(experiments(*panels)))
    one, two = reader.geometry.panels
    assert (one.fast_start, one.slow_start, two.fast_start, two.slow_start) == (0, 0, 30, 10)
    assert two.origin_mm == (3.0, -1.0, -100.0)
    expected = np.ones((40, 56), bool)
    expected[:20, :30] = expected[10:, 30:] = False
    expected[10, 30:32] = True
    np.testing.assert_array_equal(reader.bad_pixels, expected)
    np.testing.assert_array_equal(reader.read(1), pixels[1])
    reader.close()


def test_panels_of_another_size_than_the_modules_are_refused(
    expt: Callable[[Any], Path], write_nxmx: Callable[..., Path]
):
    master = write_nxmx(lambda data: data.create_dataset("data", data=np.zeros((2, 40, 56), np.uint16)))
    with pytest.raises(GeometryError, match=r"master\.nxs.*\(40, 56\).*\(40, 30\)"):
        open_reader(master, expt(experiments(panel(), panel())))


def test_images_that_dxtbx_reads_take_the_geometry_given(dxtbx_python: str, real_data: Path, tmp_path: Path):
    image = real_data / "thaumatin_grid_dls_19stills" / "raw" / "thau_3_2_0001.cbf.bz2"
    own = open_reader(image)
    given = open_reader(image, real_data / STILLS / "raw" / "i24_lyso_still-imported.json")
    assert own.geometry.panels[0].origin_mm != given.geometry.panels[0].origin_mm
    assert given.geometry.panels[0].origin_mm == (-216.98, 224.83, -289.3)
    assert given.saturation == min(own.saturation, 54896)
    assert not (own.bad_pixels & ~given.bad_pixels).any()
    np.testing.assert_array_equal(given.read(0).copy(), own.read(0))
    given.close()
    own.close()
