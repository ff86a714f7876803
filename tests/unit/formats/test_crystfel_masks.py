"""Bad pixels of CrystFEL geometry files: regions, edges, masks, limits of values."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ssx_processing.errors import GeometryError
from ssx_processing.formats.geometry_file import geometry_identity, read_geometry
from tests.unit.formats.crystfel_files import (
    BEAM,
    NEXT_PANEL,
    PANEL,
    WriteGeom,
    WriteImages,
)


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
    region = "bad_a/min_fs = 5\nbad_a/max_fs = 5\nbad_a/min_ss = 18\nbad_a/max_ss = 21"
    assert np.argwhere(bad(geom(BEAM, PANEL, NEXT_PANEL, region))).tolist() == [[n, 5] for n in range(18, 22)]
    other = NEXT_PANEL.replace("= 20", "= 0").replace("= 39", "= 19") + "\np1/data = /other"
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


def test_masks_are_read_from_the_data_file(geom: WriteGeom, images: WriteImages):
    mask = np.ones((20, 40), np.uint16)
    mask[3, 4], mask[5, 6] = 0, 1 + 8
    text = "mask = /data/mask\nmask_good = 0x0001\nmask_bad = 0x8"
    found = bad(geom(BEAM, text, PANEL), images(data__mask=mask))
    assert np.argwhere(found).tolist() == [[3, 4], [5, 6]]


def test_masks_are_read_from_files_of_their_own(geom: WriteGeom, images: WriteImages, tmp_path: Path):
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
    geom: WriteGeom, images: WriteImages
):
    masks = np.zeros((5, 20, 40), np.uint8)
    masks[0, 1, 1] = masks[2, 2, 2] = masks[4, 3, 3] = masks[1, 4, 4] = 1
    dims = "dim0 = %\ndim1 = ss\ndim2 = fs\nmask = /data/mask\nmask_bad = 1"
    found = bad(geom(BEAM, dims, PANEL), images((5, 20, 40), data__mask=masks))
    assert np.argwhere(found).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_pixels_that_no_panel_covers_belong_to_the_image(geom: WriteGeom, images: WriteImages):
    given = read_geometry(geom(BEAM, PANEL), images((25, 50)))
    assert given.geometry.image_shape == (25, 50)
    assert given.bad_pixels is not None
    assert given.bad_pixels.sum() == 25 * 50 - 20 * 40
