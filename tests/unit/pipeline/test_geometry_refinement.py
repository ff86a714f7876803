"""Wrong geometries of simulated hits are put right, and what cannot be known is said."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.detector_refinement import detector_parts, moved_detector
from ssx_processing.kernels.geometry import beam_centre_px, panel_axes
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.detector_normals import NormalsCollector
from ssx_processing.pipeline.drift import drift_content, drift_of, read_drift
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.geometry_refinement import refine_geometry
from ssx_processing.settings import CalibrationSettings
from tests.unit.pipeline.spot_lists import SimulatedHits, simulated_hits, tiled


@pytest.fixture(scope="module")
def hits() -> SimulatedHits:
    return simulated_hits(200)


def processor_of(hits: SimulatedHits, geometry: Geometry) -> FrameProcessor:
    return FrameProcessor(geometry, hits.bad_pixels, math.inf, hits.settings)


def wrong(
    geometry: Geometry, x_px: float, y_px: float, distance: float, tilt_x: float, tilt_y: float
) -> Geometry:
    """The detector shifted (pixels, part of the distance) and tilted (degrees)."""
    parts = detector_parts(geometry)
    length = float(np.linalg.norm(parts.pivot))
    shift = [0.075 * x_px, 0.075 * y_px, -distance * length, math.radians(tilt_x), math.radians(tilt_y)]
    return moved_detector(geometry, parts, np.array(shift))


def difference(geometry: Geometry, true: Geometry) -> tuple[np.ndarray, float, np.ndarray]:
    """Beam centre (px), distance (part), tilts (degrees) against the truth."""
    centre = np.array(beam_centre_px(geometry)) - beam_centre_px(true)
    distance = np.linalg.norm(detector_parts(geometry).pivot) / np.linalg.norm(detector_parts(true).pivot) - 1
    panel = geometry.panels[0]
    return centre, float(distance), np.degrees(np.cross(panel.fast_axis, panel.slow_axis)[:2])


@pytest.mark.parametrize("offset", [(3.0, 0.0, 0.005, 0.3, -0.3), (-2.0, 2.0, -0.005, -0.3, 0.1)])
def test_shift_distance_and_tilts_are_recovered_from_200_hits(hits: SimulatedHits, offset):
    processor = processor_of(hits, wrong(hits.geometry, *offset))
    done = refine_geometry(processor, hits.spots, CalibrationSettings())
    centre, distance, tilts = difference(processor.geometry, hits.geometry)
    assert np.abs(centre).max() < 0.05
    assert abs(distance) < 3e-4
    assert np.abs(tilts).max() < 0.02
    assert done.level == "detector"
    # the errors stated are those made
    assert abs(distance) < 4e-2 * done.sds[done.names.index("distance")]
    assert done.shifts[done.names.index("distance")] == pytest.approx(-100 * offset[2], abs=0.05)
    assert done.rmsd_after_px < done.rmsd_before_px
    assert any("told apart" in note for note in done.notes)
    assert done.unit_cell == pytest.approx(hits.settings.sample.unit_cell, rel=1e-3)


def test_orientations_are_better_with_the_refined_geometry_and_population(hits: SimulatedHits):
    processor = processor_of(hits, wrong(hits.geometry, 1.0, -1.0, 0.005, 0.3, -0.3))

    def median_misset() -> float:
        angles = []
        for spots, true in zip(hits.spots, hits.a_matrices, strict=True):
            for lattice in processor.index(spots).lattices[:1]:
                rotations = processor.indexer.lattice.rotations
                u = [lattice.a_matrix @ np.linalg.inv(true @ _as_hkl(r, true)) for r in rotations]
                angles.append(min(np.degrees(Rotation.from_matrix(_nearest(x)).magnitude()) for x in u))
        return float(np.median(angles))

    before = median_misset()
    refine_geometry(processor, hits.spots, CalibrationSettings())
    assert median_misset() < min(0.016, 0.9 * before)


def _as_hkl(rotation: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A rotation of the crystal as a change of indices."""
    u = _nearest(a @ np.diag(1 / np.linalg.norm(a, axis=0)))
    b = u.T @ a
    return np.linalg.inv(b) @ rotation @ b


def _nearest(m: np.ndarray) -> np.ndarray:
    """Nearest rotation."""
    u, _, vt = np.linalg.svd(m)
    return u @ vt


def test_few_lattices_refine_the_centre_only_and_fewer_nothing(hits: SimulatedHits):
    for n, level in ((20, "centre"), (3, "none")):
        processor = processor_of(hits, wrong(hits.geometry, 1.0, 0.0, 0.0, 0.0, 0.0))
        done = refine_geometry(processor, hits.spots[:n], CalibrationSettings())
        assert done.level == level
        centre, distance, _ = difference(processor.geometry, hits.geometry)
        assert distance == pytest.approx(0.0, abs=1e-9)
        assert (np.abs(centre).max() < 0.1) == (level == "centre")
        assert any("lattices" in note for note in done.notes)


def test_at_small_angles_the_distance_is_the_one_with_which_the_given_cell_fits(hits: SimulatedHits):
    """Spots within a narrow cone only, and the detector said to be 0.5 % further away than it is."""
    x, y = beam_centre_px(hits.geometry)
    near = [_kept(spots, np.hypot(spots.x_px - x, spots.y_px - y) < 170) for spots in hits.spots]
    processor = processor_of(hits, wrong(hits.geometry, 0.0, 0.0, 0.005, 0.0, 0.0))
    done = refine_geometry(processor, near, CalibrationSettings(max_distance_sd=1e-4))
    assert any("cannot be told apart" in note and "correlation" in note for note in done.notes)
    assert done.unit_cell is not None
    # the scale is held, the shape is not
    given = hits.settings.sample.unit_cell
    assert np.prod(done.unit_cell[:3]) == pytest.approx(np.prod(given[:3]), rel=2e-5)
    assert done.unit_cell == pytest.approx(given, rel=2e-3)
    assert abs(difference(processor.geometry, hits.geometry)[1]) < 1e-3


def _kept(spots: SpotList, keep: np.ndarray) -> SpotList:
    return SpotList(**{name: values[keep] for name, values in vars(spots).items()})


def test_a_geometry_that_is_not_to_be_refined_stays(hits: SimulatedHits):
    given = wrong(hits.geometry, 1.0, 0.0, 0.0, 0.0, 0.0)
    processor = processor_of(hits, given)
    done = refine_geometry(processor, hits.spots[:40], CalibrationSettings(refine_geometry="off"))
    assert processor.geometry == given
    assert done.level == "none"
    # crystals look displaced instead, which is allowed for
    assert processor.population.displacement_sd_mm > 0.04


def test_panels_out_of_place_are_put_back_relative_to_each_other(hits: SimulatedHits):
    true, rng = tiled(hits.geometry, 2, 2), np.random.default_rng(3)
    groups = {panel.name: (i,) for i, panel in enumerate(true.panels)}
    parts = detector_parts(true, list(groups.values()))
    moves = np.concatenate([rng.uniform(-0.075, 0.075, (4, 3)), rng.uniform(-1e-3, 1e-3, (4, 3))], axis=1)
    given = moved_detector(true, parts, np.zeros(5), moves)
    processor = processor_of(hits, given)
    done = refine_geometry(processor, hits.on(true), CalibrationSettings(refine_geometry="panels"), groups)
    assert done.level == "panels"
    assert done.group_names == tuple(groups)
    before, after = (out_of_place_px(geometry, true) for geometry in (given, processor.geometry))
    assert before > 0.4
    assert after < 0.05
    # all together were not turned about the beam, which no spot could tell
    assert abs(points_off(processor.geometry, given)[1]) < 5e-5


def out_of_place_px(geometry: Geometry, true: Geometry) -> float:
    """Rms distance across the beam of points on the panels from their places, a turn of all left out."""
    off, _ = points_off(geometry, true)
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1)))) / 0.075


def points_off(geometry: Geometry, true: Geometry) -> tuple[np.ndarray, float]:
    """Distances (mm) of points on the panels from their places, and the turn about the beam taken out."""
    found, at = (_points(g)[:, :2] for g in (geometry, true))
    off = found - at
    turn = float(np.sum(off[:, 1] * at[:, 0] - off[:, 0] * at[:, 1]) / np.sum(at**2))
    return off - turn * np.column_stack([-at[:, 1], at[:, 0]]), turn


def _points(geometry: Geometry) -> np.ndarray:
    return np.array(
        [
            o + u * panel.n_fast * f + v * panel.n_slow * s
            for panel, (o, f, s) in zip(geometry.panels, panel_axes(geometry), strict=True)
            for u in (0.1, 0.9)
            for v in (0.1, 0.9)
        ]
    )


def test_drift_shows_in_the_chunk_in_which_it_happened(hits: SimulatedHits):
    """The second chunk's detector is half a pixel aside of where both are said to be."""
    processor = processor_of(hits, hits.geometry)
    refine_geometry(processor, hits.spots[:100], CalibrationSettings())
    normals = []
    for spots_of_chunk, aside in ((hits.spots[100:150], 0.0), (hits.spots[150:], 0.5)):
        collector = NormalsCollector(processor.geometry, processor.refiner)
        for spots in spots_of_chunk:
            moved = _shifted(spots, aside)
            collector.add(processor.index(moved).lattices, moved)
        normals.append(read_drift(drift_content(collector)))
    first, second, both = (drift_of(part, hits.geometry) for part in (normals[:1], normals[1:], normals))
    assert first is not None
    assert second is not None
    assert both is not None
    assert abs(first.shifts[0]) < 4 * first.sds[0] + 0.01
    assert not first.is_drift()
    assert second.shifts[0] == pytest.approx(0.5, abs=0.06)
    assert second.is_drift()
    assert both.shifts[0] == pytest.approx(0.25, abs=0.06)
    assert both.n_lattices == first.n_lattices + second.n_lattices


def test_a_chunk_with_few_lattices_says_nothing_of_drift(hits: SimulatedHits):
    processor = processor_of(hits, hits.geometry)
    collector = NormalsCollector(processor.geometry, processor.refiner)
    assert (
        drift_of([normal for normal in [read_drift(drift_content(collector))] if normal], hits.geometry)
        is None
    )
    for spots in hits.spots[:3]:
        collector.add(processor.index(spots).lattices, spots)
    assert drift_of([collector.total], hits.geometry) is None
    assert read_drift(None) is None


def _shifted(spots: SpotList, x_px: float) -> SpotList:
    return SpotList(**{**vars(spots), "x_px": spots.x_px + x_px})
