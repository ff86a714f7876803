"""What is shown of a frame is what is there: pixels, spots, rings, the decision."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.kernels import geometry as geo
from ssx_processing.models import Geometry, Panel
from ssx_processing.pipeline.frame_page import coded_pixels, frame_page
from ssx_processing.pipeline.frame_picture import BAD_COLOUR, SATURATED_COLOUR, binned, frame_picture
from ssx_processing.pipeline.frame_view import FrameView, look_at_frame
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.pipeline.resolution_rings import (
    ICE_LABEL_AZIMUTH,
    LABEL_AZIMUTH,
    direct_beam,
    resolution_ring,
    resolutions_in_view,
)
from ssx_processing.settings import SpotSettings
from ssx_processing.simulation.chip import SimulatedChip
from ssx_processing.simulation.truth import read_truth


@pytest.fixture(scope="module")
def hit_frame(simulated_chip: SimulatedChip) -> int:
    return int(np.flatnonzero(read_truth(simulated_chip.truth).frames.is_hit)[0])


@pytest.fixture(scope="module")
def view(simulated_chip: SimulatedChip, hit_frame: int) -> FrameView:
    with FrameSet([simulated_chip.master]) as frames:
        return look_at_frame(frames, hit_frame, SpotSettings())


def tilted_panels() -> Geometry:
    """Two panels beside each other, the second turned by 30 degrees about the vertical."""
    turned = np.deg2rad(30.0)
    first = Panel((-30.0, 15.0, -80.0), (1, 0, 0), (0, -1, 0), (0.1, 0.1), 0, 0, 300, 300, "0")
    axis = (float(np.cos(turned)), 0.0, float(np.sin(turned)))
    second = Panel((0.5, 15.0, -80.0), axis, (0, -1, 0), (0.1, 0.1), 300, 0, 300, 300, "1")
    return Geometry((first, second), (300, 600), 1.0, sensor_thickness_mm=0.45, sensor_absorption_per_mm=1.2)


def test_the_spots_shown_are_those_that_a_chunk_would_find(view: FrameView, simulated_chip: SimulatedChip):
    with FrameSet([simulated_chip.master]) as frames:
        finder = HitFinder(frames.geometry, frames.bad_pixels, SpotSettings(), saturation=frames.saturation)
        spots = finder.find(frames.read(view.frame))
    assert np.array_equal(view.spots.x_px, spots.x_px)
    assert view.is_hit == finder.is_hit(spots)
    assert len(view.d) == len(spots) > 15


def test_the_decision_names_the_setting_that_it_hangs_on(simulated_chip: SimulatedChip, hit_frame: int):
    with FrameSet([simulated_chip.master]) as frames:
        strict = SpotSettings(min_spots_for_hit=1000)
        assert (
            "fewer than the 1000 of spots.min_spots_for_hit"
            in look_at_frame(frames, hit_frame, strict).decision
        )
        bright = SpotSettings(min_spots_for_hit=1, min_signal_for_hit=1e9)
        assert (
            "fewer than the 1e+09 of spots.min_signal_for_hit"
            in look_at_frame(frames, hit_frame, bright).decision
        )


def test_a_frame_that_is_not_there_is_refused(simulated_chip: SimulatedChip):
    with (
        FrameSet([simulated_chip.master]) as frames,
        pytest.raises(ImageReadError, match=r"no frame 160: .*0 to 159"),
    ):
        look_at_frame(frames, 160, SpotSettings())


def test_every_strong_pixel_of_a_spot_is_above_the_thresholds_shown(view: FrameView):
    lowest = np.interp(
        1 / view.d, view.rings.q, np.minimum(view.rings.threshold, np.roll(view.rings.threshold, 1))
    )
    assert np.mean(view.spots.peak_value >= 0.9 * lowest) > 0.98


@pytest.mark.parametrize("d", [3.2, 4.0, 8.0])
def test_rings_follow_the_geometry_of_tilted_panels(d: float):
    geometry = tilted_panels()
    ring = resolution_ring(geometry, d)
    assert ring is not None
    places = np.concatenate(ring.pieces)
    rectangles = geo.panel_rectangles(geometry)
    panel = np.array([geo.panel_of_pixel(x, y, rectangles) for x, y in places], np.int32)
    q = geo.pixel_to_q(
        places[:, 0].copy(), places[:, 1].copy(), panel, rectangles, geo.panel_axes(geometry),
        geo.incident_wave_vector(geometry), *geo.sensor(geometry),
    )  # fmt: skip
    assert set(panel) == {0, 1}
    np.testing.assert_allclose(1 / np.linalg.norm(q, axis=1), d, rtol=2e-3)


def test_labels_of_ice_stand_away_from_those_of_resolutions():
    geometry = tilted_panels()
    plain, ice = (resolution_ring(geometry, 3.9, azimuth) for azimuth in (LABEL_AZIMUTH, ICE_LABEL_AZIMUTH))
    assert plain is not None
    assert ice is not None
    assert np.hypot(*np.subtract(plain.label_at, ice.label_at)) > 50


def test_rings_that_miss_the_detector_are_none_and_others_are_in_view():
    geometry = tilted_panels()
    assert resolution_ring(geometry, 0.4) is None
    assert resolution_ring(geometry, 500.0) is None or direct_beam(geometry) is not None
    assert all(1 / d < 0.5 for d in resolutions_in_view((0.01, 0.5)))


def test_a_pixel_that_stands_alone_survives_binning(rng: np.random.Generator):
    image = rng.poisson(3.0, (101, 203)).astype(np.float32)
    image[57, 131] = 4000
    assert binned(image, 4).shape == (26, 51)
    assert binned(image, 4)[57 // 4, 131 // 4] == 4000


def test_the_picture_colours_bad_and_saturated_pixels(view: FrameView):
    saturated = np.zeros_like(view.is_saturated)
    saturated[700:704, 300:304] = True
    picture = np.asarray(frame_picture(replace(view, is_saturated=saturated), spots=False))
    rows, columns = view.image.shape
    assert picture.shape[1] == columns
    assert picture.shape[0] > rows  # numbers below
    assert tuple(picture[701, 301]) == SATURATED_COLOUR
    bad = view.is_bad[530]
    assert bad.all()
    assert np.mean((picture[530] == BAD_COLOUR).all(axis=1)) > 0.9  # rings cross it


def test_codes_give_the_counts_back(view: FrameView):
    coded = coded_pixels(view)
    usable = ~(view.is_bad | view.is_saturated)
    counts, image = coded.counts[coded.codes[usable]], view.image[usable].astype(float)
    few = image <= 100
    assert np.array_equal(counts[few], image[few])
    assert np.all((counts <= image) & (image < 1.2 * np.maximum(counts, 1) + 1))
    assert set(np.unique(coded.codes[view.is_bad])) == {0}


def test_codes_of_pixels_in_kev_keep_negative_values(view: FrameView, rng: np.random.Generator):
    image = rng.normal(0.0, 1.5, view.image.shape).astype(np.float32)
    image[700, 300] = 12.4 * 80
    gain = view.settings.model_copy(update={"gain": 12.4})
    floats = replace(view, image=image, is_saturated=np.zeros_like(view.is_bad), settings=gain)
    coded = coded_pixels(floats)
    usable = ~view.is_bad
    inside = usable & (np.abs(image) < 4)
    assert np.abs(coded.counts[coded.codes[inside]] - image[inside]).max() < 12.4 / 8 + 1e-3
    assert coded.counts[coded.codes[700, 300]] == pytest.approx(12.4 * 80, rel=0.1)


def test_the_page_stands_alone_and_holds_the_pixels_and_the_spots(view: FrameView):
    page = frame_page(view)
    assert len(page) < 10e6
    assert not re.findall(r'(?:src|href)="https?:', page.replace(get_plotlyjs(), ""))
    coded = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert coded is not None
    with Image.open(io.BytesIO(base64.b64decode(coded[1]))) as picture:
        assert np.array_equal(np.asarray(picture), coded_pixels(view).codes)
    content = re.search(r'<script id="content" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert content is not None
    drawn = json.loads(content[1])
    assert len(drawn["spots"]["x"]) == len(view.spots)
    assert view.decision in page
    assert f"(image {view.frame + 1})" in page


def test_names_of_files_cannot_break_the_page(view: FrameView):
    page = frame_page(replace(view, path=Path("<b>a</b>.h5")))
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a" in page
