"""CrystFEL geometry files: closed forms, rules of the manual page, and what is said of wrong ones."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmi
import h5py
import numpy as np
import pytest

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.geometry_file import geometry_identity, read_geometry
from ssx_processing.kernels.geometry import beam_centre_px

WriteGeom = Callable[..., Path]

BEAM = "photon_energy = 12.4 keV\nclen = 0.1\nres = 10000\n"
"""Pixels of 0.1 mm at 100 mm."""
PANEL = """
p0/min_fs = 0
p0/max_fs = 39
p0/min_ss = 0
p0/max_ss = 19
p0/fs = -1.0x
p0/ss = -1.0y
p0/corner_x = 12.5
p0/corner_y = 8
"""


@pytest.fixture
def geom(tmp_path: Path) -> WriteGeom:
    """Write a geometry file with this text."""

    def write(*texts: str) -> Path:
        path = tmp_path / "detector.geom"
        path.write_text("\n".join(texts))
        return path

    return write


def test_crystfel_frame_is_turned_half_about_the_vertical():
    x, y, z = np.eye(3)
    np.testing.assert_array_equal(crystfel_to_laboratory(z), -z)  # along the beam
    np.testing.assert_array_equal(crystfel_to_laboratory(y), y)  # up
    turned = crystfel_to_laboratory([x, y, z])
    assert np.linalg.det(turned) == pytest.approx(1)


def test_panel_of_one_sensor_is_placed_in_the_laboratory(geom: WriteGeom):
    given = read_geometry(geom(BEAM, PANEL))
    (panel,) = given.geometry.panels
    # x is to the left seen along the beam, so the corner at +x is on the negative side of ours
    assert panel.origin_mm == pytest.approx((-1.25, 0.8, -100.0))
    assert panel.fast_axis == (1.0, 0.0, 0.0)
    assert panel.slow_axis == (0.0, -1.0, 0.0)
    assert panel.pixel_size_mm == pytest.approx((0.1, 0.1))
    assert given.geometry.image_shape == (20, 40)
    assert given.geometry.wavelength == pytest.approx(12.398420 / 12.4, rel=1e-6)
    assert beam_centre_px(given.geometry) == pytest.approx((12.5, 8.0))
    assert given.bad_pixels is not None
    assert not given.bad_pixels.any()


def test_defaults_hold_for_panels_first_mentioned_after_them(geom: WriteGeom):
    second = PANEL.replace("p0", "p1").replace("ss = 0", "ss = 20").replace("ss = 19", "ss = 39")
    given = read_geometry(
        geom(BEAM, "coffset = 0.001", PANEL, "coffset = 0.002", second, "p1/res = 5000", "p0/no_index = 0")
    )
    one, two = given.geometry.panels
    assert (one.origin_mm[2], two.origin_mm[2]) == pytest.approx((-101.0, -102.0))
    assert (one.pixel_size_mm[0], two.pixel_size_mm[0]) == pytest.approx((0.1, 0.2))
    assert (one.slow_start, two.slow_start) == (0, 20)


def test_tilted_panels_and_unequal_steps_keep_their_lengths(geom: WriteGeom):
    text = PANEL.replace("-1.0x", "-1.2x +.5z").replace("-1.0y", "- y")
    (panel,) = read_geometry(geom(BEAM, text)).geometry.panels
    assert panel.fast_axis == pytest.approx((1.2 / 1.3, 0.0, -0.5 / 1.3))
    assert panel.slow_axis == pytest.approx((0.0, -1.0, 0.0))
    assert panel.pixel_size_mm == pytest.approx((0.13, 0.1))


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("clen = 0.1", "clen = 250 mm", (0, 0, -150)),
        ("clen = 0.1", "clen = 0.25 m ; measured", (0, 0, -150)),
        ("clen = 0.1", "clen = 0.1\ncoffset = -0.01", (0, 0, 10)),
        ("clen = 0.1", "clen = 0.1\ndetector_shift_x = 2 mm", (-2, 0, 0)),
        ("clen = 0.1", "clen = 0.1\ndetector_shift_y = 0.002", (0, 2, 0)),
    ],
)
def test_the_detector_moves_as_the_file_says(
    geom: WriteGeom, old: str, new: str, change: tuple[float, float, float]
):
    before = np.array(read_geometry(geom(BEAM, PANEL)).geometry.panels[0].origin_mm)
    after = read_geometry(geom(BEAM.replace(old, new), PANEL)).geometry.panels[0].origin_mm
    assert after - before == pytest.approx(change)


@pytest.mark.parametrize(
    "text",
    ["photon_energy = 12398.42", "photon_energy = 12.39842 keV", "wavelength = 1 A", "wavelength = 1e-10 m"],
)
def test_the_wavelength_may_be_given_in_every_unit(geom: WriteGeom, text: str):
    given = read_geometry(geom(text, BEAM.replace("photon_energy", "; "), PANEL))
    assert given.geometry.wavelength == pytest.approx(1.0, rel=1e-6)


def test_groups_are_kept_down_to_their_panels(geom: WriteGeom):
    second = PANEL.replace("p0", "p1").replace("ss = 0", "ss = 20").replace("ss = 19", "ss = 39")
    text = "rigid_group_a = p0\nrigid_group_b = p1\nrigid_group_collection_both = a,b\ngroup_all = a, b"
    given = read_geometry(geom(BEAM, text, PANEL, second))
    assert given.groups == {"a": ("p0",), "b": ("p1",), "all": ("p0", "p1")}
    assert given.collections == {"both": ("a", "b")}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("max_adu = 7500", -np.inf, 7500),
        ("flag_morethan = 7500\nflag_lessthan = -3", -3, np.nextafter(7500, np.inf)),
        ("flag_equal = 65535", -np.inf, 65535),
        ("flag_equal = -32768", -32767, np.inf),
        ("", -np.inf, np.inf),
    ],
)
def test_limits_of_values_are_read(geom: WriteGeom, text: str, low: float, high: float):
    given = read_geometry(geom(BEAM, text, PANEL))
    assert (given.underload, given.saturation) == (low, high)


def test_counts_per_photon_are_read(geom: WriteGeom):
    assert read_geometry(geom(BEAM, PANEL)).gain is None
    assert read_geometry(geom(BEAM, "adu_per_photon = 3.5", PANEL)).gain == 3.5
    assert read_geometry(geom(BEAM, "adu_per_eV = 0.001", PANEL)).gain == pytest.approx(12.4, rel=1e-6)


def bad(path: Path, data: Path | None = None) -> np.ndarray:
    given = read_geometry(path, data)
    assert given.bad_pixels is not None
    return given.bad_pixels


def test_bad_regions_in_the_image_include_both_ends(geom: WriteGeom):
    region = "bad_a/min_fs = 5\nbad_a/max_fs = 6\nbad_a/min_ss = 18\nbad_a/max_ss = 30\nbad_a/panel = p0"
    expected = np.zeros((20, 40), bool)
    expected[18:20, 5:7] = True
    np.testing.assert_array_equal(bad(geom(BEAM, PANEL, region)), expected)


def test_bad_regions_in_the_image_may_go_across_panels(geom: WriteGeom):
    second = PANEL.replace("p0", "p1").replace("ss = 0", "ss = 20").replace("ss = 19", "ss = 39")
    region = "bad_a/min_fs = 5\nbad_a/max_fs = 5\nbad_a/min_ss = 18\nbad_a/max_ss = 21"
    assert np.argwhere(bad(geom(BEAM, PANEL, second, region))).tolist() == [[n, 5] for n in range(18, 22)]
    other = second.replace("= 20", "= 0").replace("= 39", "= 19") + "\np1/data = /other"
    with pytest.raises(GeometryError, match="bad_a has no panel"):
        read_geometry(geom(BEAM, PANEL, other.replace("max_fs = 19", "max_fs = 39"), region))


def test_bad_regions_in_space_count_in_pixels_of_the_panel(geom: WriteGeom):
    region = "bad_a/min_x = -1\nbad_a/max_x = 1\nbad_a/min_y = 6.9\nbad_a/max_y = 20"
    # centres of pixels are at x = 12.5 - (fast + 0.5), y = 8 - (slow + 0.5)
    assert np.argwhere(bad(geom(BEAM, PANEL, region))).tolist() == [[0, 11], [0, 12], [0, 13]]


def test_edges_gaps_and_panels_not_to_be_used_are_bad(geom: WriteGeom):
    second = PANEL.replace("p0", "p1").replace("ss = 0", "ss = 22").replace("ss = 19", "ss = 41")
    mask = bad(geom(BEAM, PANEL, "p0/mask_edge_pixels = 2", second, "p1/no_index = 1"))
    assert mask.shape == (42, 40)
    assert not mask[2:18, 2:38].any()
    mask[2:18, 2:38] = True
    assert mask.all()


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Write an HDF5 file with /data/data of this shape, and these other datasets."""

    def write(shape: tuple[int, ...] = (20, 40), **others: Any) -> Path:
        path = tmp_path / "images.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("data/data", shape=shape, dtype="i2")
            for name, value in others.items():
                file[name.replace("__", "/")] = value
        return path

    return write


def test_values_that_the_data_file_has_are_read_there(geom: WriteGeom, images: Callable[..., Path]):
    text = "photon_energy = /LCLS/energy\nclen = /LCLS/position\ncoffset = 0.5\nres = 10000"
    data = images(LCLS__energy=[9000.0, np.nan, 9001.0, 9002.0], LCLS__position=-400.0)
    given = read_geometry(geom(text, PANEL), data).geometry
    assert given.wavelength == pytest.approx(gemmi.hc / 9001)
    assert given.panels[0].origin_mm[2] == pytest.approx(-100)


def test_a_photon_energy_that_varies_much_is_told(
    geom: WriteGeom, images: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    text = BEAM.replace("12.4 keV", "/LCLS/energy eV")
    with caplog.at_level(logging.WARNING):
        read_geometry(geom(text, PANEL), images(LCLS__energy=[9000.0, 9001.0]))
        assert not caplog.records
        read_geometry(geom(text, PANEL), images(LCLS__energy=[9000.0, 9100.0]))
    assert "/LCLS/energy varies from 9000 to 9100" in caplog.text


def test_masks_are_read_from_the_data_file(geom: WriteGeom, images: Callable[..., Path]):
    mask = np.ones((20, 40), np.uint16)
    mask[3, 4], mask[5, 6] = 0, 1 + 8
    text = "mask = /data/mask\nmask_good = 0x0001\nmask_bad = 0x8"
    found = bad(geom(BEAM, text, PANEL), images(data__mask=mask))
    assert np.argwhere(found).tolist() == [[3, 4], [5, 6]]


def test_masks_are_read_from_files_of_their_own(geom: WriteGeom, images: Callable[..., Path], tmp_path: Path):
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["m"] = np.eye(20, 40, dtype=np.uint8)
    text = "mask3_data = /m\nmask3_file = mask.h5\nmask3_badbits = 0xff"
    given = read_geometry(geom(BEAM, text, PANEL), images())
    np.testing.assert_array_equal(given.bad_pixels, np.eye(20, 40, dtype=bool))
    before = geometry_identity(given.path)
    with h5py.File(tmp_path / "mask.h5", "r+") as file:
        file["more"] = 1
    assert geometry_identity(given.path) != before


def test_a_mask_of_every_frame_is_looked_at_first_in_the_middle_and_last(
    geom: WriteGeom, images: Callable[..., Path]
):
    masks = np.zeros((5, 20, 40), np.uint8)
    masks[0, 1, 1] = masks[2, 2, 2] = masks[4, 3, 3] = masks[1, 4, 4] = 1
    dims = "dim0 = %\ndim1 = ss\ndim2 = fs\nmask = /data/mask\nmask_bad = 1"
    found = bad(geom(BEAM, dims, PANEL), images((5, 20, 40), data__mask=masks))
    assert np.argwhere(found).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_pixels_that_no_panel_covers_belong_to_the_image(geom: WriteGeom, images: Callable[..., Path]):
    given = read_geometry(geom(BEAM, PANEL), images((25, 50)))
    assert given.geometry.image_shape == (25, 50)
    assert given.bad_pixels is not None
    assert given.bad_pixels.sum() == 25 * 50 - 20 * 40


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p0/corner_x = 12.5", "", r"panel p0 has no corner_x"),
        ("clen = 0.1", "", r"panel p0 has no clen"),
        ("res = 10000", "", r"panel p0 has no res"),
        ("clen = 0.1", "clen = about 100", r"line 2: p0/clen = about 100: expected a number or an HDF5 path"),
        ("clen = 0.1", "clen = 0.1 cm", r"line 2: .*expected the unit m or mm"),
        ("clen = 0.1", "clen = -0.1", r"panel p0 is -100 mm downstream"),
        ("clen = 0.1", "clen = /LCLS/z", r"line 2: .*is in the HDF5 file of the images"),
        ("photon_energy = 12.4 keV", "", r"gives neither wavelength nor photon_energy"),
        ("photon_energy = 12.4 keV", "photon_energy = 12400\nwavelength = 1 A", r"expected one of"),
        ("photon_energy = 12.4 keV", "photon_energy = 0", r"line 1: photon_energy = 0: is a wavelength"),
        ("photon_energy = 12.4 keV", "wavelength = 1", r"line 1: .*expected the unit A or m"),
        ("photon_energy", "electron_voltage", r"line 1: electron_voltage.*not supported"),
        ("p0/fs = -1.0x", "p0/fs = -1.0x + 2w", r"line 9: p0/fs.*expected a vector"),
        ("p0/fs = -1.0x", "p0/fs = -1.0y", r"p0/ss.*parallel"),
        ("p0/fs = -1.0x", "p0/fs = 1x 2x", r"expected a vector"),
        ("p0/max_fs = 39", "p0/max_fs = wide", r"line 6: p0/max_fs = wide: expected a number"),
        ("p0/max_fs = 39", "p0/max_fs = -1", r"expected 0 <= min <= max"),
        ("p0/max_fs = 39", "p0/max_fs = 1e9", r"line 6: .*expected 0 <= min <= max < 100000"),
        ("p0/corner_x = 12.5", "p0/corner_x = 1e20", r"panel p0 is at .*check corner_x"),
        ("res = 10000", "res = 0.1", r"line 3: .*expected pixels per metre"),
        ("p0/max_fs = 39", "p0/max_fs 39", r"line 6: 'p0/max_fs 39', expected name = value"),
        ("p0/max_fs = 39", "p0/max_fs = 39\np0/tilt = 3", r"line 7: p0/tilt = 3: unknown field"),
        ("res = 10000", "res = 10000\ndim0 = %\ndim2 = ss", r"dim2 = ss: has no dim1"),
        ("res = 10000", "res = 10000\ndim0 = fs\ndim1 = ss", r"expected ss before fs"),
        ("res = 10000", "res = 10000\ndim0 = %\ndim1 = xs\ndim2 = fs", r"line 5: .*expected %, ss, fs or"),
        ("res = 10000", "res = 10000\nflag_equal = 17", r"use flag_lessthan"),
        ("res = 10000", "res = 10000\nsaturation_map = /s", r"give max_adu"),
        ("res = 10000", "res = 10000\nrigid_group_a = p0,p7", r"there is no panel 'p7'"),
        ("res = 10000", "res = 10000\ngroup_a = b\ngroup_b = a", r"there is no panel"),
        ("res = 10000", "res = 10000\nrigid_group_collection_c = a", r"there is no group 'a'"),
        ("p0/fs", "badx/panel = p9\nbadx/min_fs = 1\np0/fs", r"there is no such panel"),
        ("p0/fs", "badx/min_x = 1\nbadx/min_fs = 1\np0/fs", r"mixes fs/ss with x/y"),
        ("p0/fs", "badx/min_x = 1\np0/fs", r"badx has no max_x"),
        ("p0/fs", "badx/min_x=1\nbadx/max_x=0\nbadx/min_y=1\nbadx/max_y=2\np0/fs", r"badx/max_x = 0: is less"),
        ("p0/fs", "badx/min_fs=40\nbadx/max_fs=50\nbadx/min_ss=0\nbadx/max_ss=1\np0/fs", r"mask nothing"),
        ("p0/fs", "badx/colour = 1\np0/fs", r"unknown field; a bad region has"),
    ],
)  # fmt: skip
def test_wrong_files_are_told_by_line_and_field(geom: WriteGeom, old: str, new: str, message: str):
    text = BEAM + PANEL
    assert old in text
    with pytest.raises(GeometryError, match=r"detector\.geom[:,] .*" + message):
        read_geometry(geom(text.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("text", "others", "message"),
    [
        ("mask = /nowhere\nmask_bad = 1", {}, r"line 1: p0/mask0_data.*images\.h5 has no such mask"),
        ("mask = /data/mask", {}, "has neither mask0_goodbits nor mask0_badbits"),
        ("mask = /data/mask\nmask_bad = 1", {"data__mask": np.zeros((3, 3))}, r"has shape \(3, 3\)"),
        ("mask = /m\nmask_file = none.h5\nmask_bad = 1", {}, r"none\.h5 is no HDF5 file"),
        ("detector_shift_x = /shift", {}, r"images\.h5 has no such dataset"),
        ("detector_shift_x = /shift", {"shift": "left"}, r"expected a number"),
        ("", {"shape": (20, 39)}, r"panel p0 reaches to ss 19, fs 39, but /data/data.*20 x 39"),
    ],
)  # fmt: skip
def test_data_files_without_what_they_should_have_are_told(
    geom: WriteGeom, images: Callable[..., Path], text: str, others: dict[str, Any], message: str
):
    with pytest.raises(GeometryError, match=message):
        read_geometry(geom(text, BEAM, PANEL), images(**others))


def test_panels_that_share_pixels_are_refused(geom: WriteGeom):
    second = PANEL.replace("p0", "p1").replace("max_ss = 19", "max_ss = 30").replace("ss = 0", "ss = 19")
    with pytest.raises(GeometryError, match=r"line 18: p1/min_ss = 19: shares pixels with panel p0"):
        read_geometry(geom(BEAM, PANEL, second))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "describes no panel"),
        (b"\x89HDF\xff", "neither a CrystFEL geometry file"),
        (b"{", "begins like JSON"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(GeometryError, match=message):
        read_geometry(tmp_path / "x")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(GeometryError, match=r"none\.geom: No such file"):
        read_geometry(tmp_path / "none.geom")


def test_identity_is_that_of_the_content(geom: WriteGeom):
    before = geometry_identity(geom(BEAM, PANEL))
    assert read_geometry(geom(BEAM, PANEL)).sha256 == before.sha256
    assert geometry_identity(geom(BEAM, PANEL)) == before
    assert geometry_identity(geom(BEAM, PANEL, "; moved")) != before
