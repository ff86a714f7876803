"""What is said of CrystFEL geometry files that are wrong, or do not fit the images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssx_processing.errors import GeometryError
from ssx_processing.formats.geometry_file import read_geometry
from tests.unit.formats.crystfel_files import (
    BEAM,
    PANEL,
    WriteGeom,
    WriteImages,
)


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
        ("p0/fs", "badx/min_x=1\nbadx/max_x=0\nbadx/min_y=1\nbadx/max_y=2\np0/fs", r"max_x = 0: is less"),
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
    geom: WriteGeom, images: WriteImages, text: str, others: dict[str, Any], message: str
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
