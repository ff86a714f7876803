import base64
import math
import re
from xml.etree import ElementTree as ET

import pytest

from flows.summary_plot import summary_image
from ispyb_io.ledger_records import Chunk, WorkStatus
from ssx_processing.models import ShellStatistics
from ssx_processing.pipeline.report_colours import BLUE, GREEN, ORANGE, RED


def chunk(index: int, hits: int | None) -> Chunk:
    counts = {} if hits is None else {"frame_hits": hits, "frames_indexed": hits // 2}
    status = WorkStatus.FAILED if hits is None else WorkStatus.SUCCESS
    return Chunk(
        index=index,
        key=f"{index:016x}",
        start=100 * index,
        stop=100 * (index + 1),
        status=status,
        counts=counts,
    )


def shell(d_min: float, cc_half: float) -> ShellStatistics:
    return ShellStatistics(20.0, d_min, 100, 20, 25, 0.8, 5.0, 3.0, cc_half, 0.9, 0.1)


def drawing(image: str) -> ET.Element:
    found = re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,(.*)\)", image)
    assert found is not None
    return ET.fromstring(base64.b64decode(found[1]))  # noqa: S314  # our own


def of_colour(svg: ET.Element, colour: str) -> list[ET.Element]:
    return [one for one in svg.iter() if colour in (one.get("fill"), one.get("stroke"))]


def test_each_chunk_has_its_bars_as_high_as_its_rates_and_a_failed_one_is_red():
    svg = drawing(summary_image([chunk(0, 40), chunk(1, None), chunk(2, 10)], []))
    hits, indexed, failed = (of_colour(svg, colour) for colour in (ORANGE, BLUE, RED))
    assert (len(hits), len(indexed), len(failed)) == (2, 2, 1)
    heights = [float(bar.get("height", "nan")) for bar in (*hits, *indexed)]
    assert heights[0] == pytest.approx(4 * heights[1], abs=0.5)
    assert heights[0] == pytest.approx(2 * heights[2], abs=0.5)
    assert "chunk (1 failed: red)" in [text.text for text in svg.iter() if text.tag.endswith("text")]


def test_a_shell_without_a_correlation_leaves_a_gap():
    svg = drawing(summary_image([], [shell(4.0, 0.9), shell(3.0, 0.5), shell(2.5, math.nan)]))
    lines = {
        one.get("stroke"): one.get("points", "").split() for one in svg.iter() if one.tag.endswith("polyline")
    }
    assert (len(lines[BLUE]), len(lines[GREEN])) == (2, 3)


def test_without_anything_to_draw_there_is_no_picture():
    assert summary_image([], []) == ""
