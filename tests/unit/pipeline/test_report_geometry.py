"""The page's section on the geometry, of a calibration and chunks that were really made."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.report_data import ReportData, read_report_data
from ssx_processing.pipeline.report_geometry import geometry_section
from ssx_processing.pipeline.report_geometry_plots import drift_plots, total_drift
from ssx_processing.pipeline.report_notices import notices
from ssx_processing.pipeline.report_plots import PlotWriter
from tests.unit.pipeline.conftest import ProcessedChip


@pytest.fixture
def data(processed_chip: ProcessedChip) -> ReportData:
    plan = processed_chip.plan
    content = {
        "name": "chip",
        "plan": {
            "paths": [str(path) for path in plan.paths],
            "frames_total": plan.frames_total,
            "wavelength": plan.wavelength,
            "ranges": [asdict(frames) for frames in plan.ranges],
        },
        "calibration": processed_chip.calibration.folder.name,
        "chunks": [chunk.key for chunk in processed_chip.chunks],
        "settings": processed_chip.settings.model_dump(mode="json"),
    }
    path = RunFolder(processed_chip.folder).plan
    write_json(path, content)
    try:
        return read_report_data(processed_chip.folder, None)
    finally:
        path.unlink()


def test_parameters_are_shown_with_their_errors_and_what_is_to_be_known(data: ReportData):
    html = geometry_section(data, PlotWriter())
    assert data.calibration is not None
    refinement = data.calibration.refinement
    for name, sd in zip(refinement.names, refinement.sds, strict=True):
        assert re.search(rf"{name}.*?{sd:.4f}", html, re.DOTALL)
    assert "distance and cell scale" in html.lower()
    assert "Correlation of refined parameters" in html


def test_still_detector_makes_no_notice_and_a_moving_one_does(data: ReportData):
    total = total_drift(data)
    assert total is not None
    assert np.abs(total.shifts[:2]).max() < 5 * max(total.sds[:2])
    assert not [n for n in notices(data) if "moved" in n.title]
    moved = replace(data, chunks=tuple(_moved(chunk, 0.05) for chunk in data.chunks))
    (notice,) = [n for n in notices(moved) if "moved" in n.title]
    assert f"{len(data.chunks)} of {len(data.chunks)} chunks" in notice.title
    assert "-0.67 ±" in notice.lines[0] or "-0.66 ±" in notice.lines[0] or "-0.65 ±" in notice.lines[0]


def _moved(chunk, x_mm: float):
    """The chunk with normal equations of a detector further along x."""
    return replace(
        chunk, drift=replace(chunk.drift, rhs=chunk.drift.rhs + chunk.drift.matrix @ [x_mm, 0, 0, 0, 0])
    )


def test_every_chunk_is_a_point_of_the_track(data: ReportData):
    centre, distance = drift_plots(data)
    for plot in (centre, distance):
        for track in json.loads(plot.figure.to_json() or "")["data"]:
            assert len(track["text"]) == len(data.chunks)


def test_geometry_that_was_not_refined_is_told(data: ReportData):
    assert data.calibration is not None
    kept = GeometryRefinement(notes=("the geometry was not refined: 3 lattices",))
    plain = replace(data, calibration=replace(data.calibration, refinement=kept))
    html = geometry_section(plain, PlotWriter())
    assert "The geometry was not refined: 3 lattices." in html
    assert "Correlation of refined parameters" not in html
    assert [n for n in notices(plain) if n.title == "The geometry is that of the files"]
