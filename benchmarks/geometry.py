"""How well wrong geometries are put right: simulated images, offsets put in, recovered, standard deviations.

    python benchmarks/geometry.py [hits]

The images are searched for spots once. Then the geometry of the processing is made wrong by known
offsets and refined as before the chunks of a data set are processed. Errors are against the true
detector of the simulation. The last columns: lattices, median misorientation to the true crystals
before and after, seconds.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ssx_processing.formats.frames import FrameSet
from ssx_processing.kernels.detector_refinement import detector_parts, moved_detector
from ssx_processing.kernels.geometry import beam_centre_px, moved
from ssx_processing.kernels.unit_cell import b_matrix, lattice_rotations, misorientation_deg
from ssx_processing.models import Geometry, SpotList
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.geometry_refinement import refine_geometry
from ssx_processing.settings import CalibrationSettings, ProcessingSettings
from ssx_processing.simulation.chip import simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.truth import Truth, read_truth

OFFSETS = (
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0015, 0.0, 0.0),
    (3.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.005, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.3, -0.3),
    (3.0, -2.0, 0.005, 0.3, -0.3),
    (-3.0, 2.0, -0.005, -0.3, 0.2),
)
"""Beam centre x, y (px), distance (part of it), tilts about x, y (degrees)."""


def wrong(true: Geometry, offset: tuple[float, ...]) -> Geometry:
    parts, pixel = detector_parts(true), true.panels[0].pixel_size_mm[0]
    length = float(np.linalg.norm(parts.pivot))
    x, y, distance, tilt_x, tilt_y = offset
    return moved_detector(
        true,
        parts,
        np.array([pixel * x, pixel * y, -distance * length, math.radians(tilt_x), math.radians(tilt_y)]),
    )


def misset_deg(processor: FrameProcessor, spots: list[SpotList], truth: Truth) -> float:
    sample, crystals = processor.settings.sample, truth.crystals
    b, rotations = b_matrix(sample.unit_cell), lattice_rotations(sample.unit_cell, sample.gemmi_space_group)
    return float(
        np.median(
            [
                min(
                    misorientation_deg(lattice.a_matrix, true, b, rotations)
                    for true in crystals.a_matrix[crystals.frame == frame]
                )
                for frame, of_frame in enumerate(spots)
                for lattice in processor.index(of_frame).lattices
            ]
        )
    )


def errors(found: Geometry, true: Geometry, done: GeometryRefinement) -> str:
    centre = np.array(beam_centre_px(found)) - beam_centre_px(true)
    lengths = [np.linalg.norm(detector_parts(geometry).pivot) for geometry in (found, true)]
    normal = np.cross(found.panels[0].fast_axis, found.panels[0].slow_axis)
    tilt = np.degrees([-normal[1], normal[0]])
    sd = dict(zip(done.names, done.sds, strict=True))
    return (
        f"{centre[0]:+.3f} {centre[1]:+.3f} ({sd['beam centre fast']:.3f}), "
        f"{100 * (lengths[0] / lengths[1] - 1):+.4f} ({sd['distance']:.4f}), "
        f"{tilt[0]:+.4f} {tilt[1]:+.4f} ({sd['tilt about x']:.4f})"
    )


def main(n_hits: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chip = simulate_chip(Path(folder), ChipSettings(n_frames=n_hits, hit_fraction=1.0, seed=21))
        truth, settings = read_truth(chip.truth), ProcessingSettings(sample=chip.sample)
        with FrameSet([chip.master]) as frames:
            finder = FrameProcessor(frames.geometry, frames.bad_pixels, frames.saturation, settings)
            spots = [finder.hits.find(frames.read(i)) for i in range(frames.n_frames)]
            pixel, (x, y) = 0.075, truth.settings.detector.beam_centre_error_px
            true = moved(frames.geometry, np.array([-x * pixel, y * pixel, 0.0]))
            print("errors of centre px (sd), distance % (sd), tilts deg (sd); lattices, misset deg, s")
            for offset in OFFSETS:
                processor = FrameProcessor(
                    wrong(true, offset), frames.bad_pixels, frames.saturation, settings
                )
                before, started = misset_deg(processor, spots, truth), time.perf_counter()
                done = refine_geometry(processor, spots, CalibrationSettings())
                seconds = time.perf_counter() - started
                after = misset_deg(processor, spots, truth)
                print(f"{offset}: {errors(processor.geometry, true, done)};", end=" ")
                print(f"{done.n_lattices}, {before:.4f} -> {after:.4f}, {seconds:.1f}")
                print(*(f"    {note}" for note in done.notes), sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
