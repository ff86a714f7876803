"""CrystFEL geometry files: positions and other values, as the manual page has them."""

import logging

import gemmi
import numpy as np
import pytest

from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.geometry_file import geometry_identity, read_geometry
from ssx_processing.kernels.geometry import beam_centre_px
from tests.unit.formats.crystfel_files import (
    BEAM,
    NEXT_PANEL,
    PANEL,
    WriteGeom,
    WriteImages,
)


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
    given = read_geometry(
        geom(
            BEAM, "coffset = 0.001", PANEL, "coffset = 0.002", NEXT_PANEL, "p1/res = 5000", "p0/no_index = 0"
        )
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
    text = "rigid_group_a = p0\nrigid_group_b = p1\nrigid_group_collection_both = a,b\ngroup_all = a, b"
    given = read_geometry(geom(BEAM, text, PANEL, NEXT_PANEL))
    assert given.groups == {"a": ("p0",), "b": ("p1",), "all": ("p0", "p1")}
    assert given.collections == {"both": ("a", "b")}


def test_counts_per_photon_are_read(geom: WriteGeom):
    assert read_geometry(geom(BEAM, PANEL)).gain is None
    assert read_geometry(geom(BEAM, "adu_per_photon = 3.5", PANEL)).gain == 3.5
    assert read_geometry(geom(BEAM, "adu_per_eV = 0.001", PANEL)).gain == pytest.approx(12.4, rel=1e-6)


def test_values_that_the_data_file_has_are_read_there(geom: WriteGeom, images: WriteImages):
    text = "photon_energy = /LCLS/energy\nclen = /LCLS/position\ncoffset = 0.5\nres = 10000"
    data = images(LCLS__energy=[9000.0, np.nan, 9001.0, 9002.0], LCLS__position=-400.0)
    given = read_geometry(geom(text, PANEL), data).geometry
    assert given.wavelength == pytest.approx(gemmi.hc / 9001)
    assert given.panels[0].origin_mm[2] == pytest.approx(-100)


def test_a_photon_energy_that_varies_much_is_told(
    geom: WriteGeom, images: WriteImages, caplog: pytest.LogCaptureFixture
):
    text = BEAM.replace("12.4 keV", "/LCLS/energy eV")
    with caplog.at_level(logging.WARNING):
        read_geometry(geom(text, PANEL), images(LCLS__energy=[9000.0, 9001.0]))
        assert not caplog.records
        read_geometry(geom(text, PANEL), images(LCLS__energy=[9000.0, 9100.0]))
    assert "/LCLS/energy varies from 9000 to 9100" in caplog.text


def test_identity_is_that_of_the_content(geom: WriteGeom):
    before = geometry_identity(geom(BEAM, PANEL))
    assert read_geometry(geom(BEAM, PANEL)).sha256 == before.sha256
    assert geometry_identity(geom(BEAM, PANEL)) == before
    assert geometry_identity(geom(BEAM, PANEL, "; moved")) != before
