"""What a person must know before trusting the page's numbers, most urgent first."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.report_data import ReportData
from ssx_processing.pipeline.report_geometry_plots import drift_points

MIN_HITS_TO_JUDGE = 20
LOW_INDEXING_RATE = 0.5
LARGE_BEAM_SHIFT_PX = 5.0
LARGE_CELL_CHANGE = 0.01
LOW_COMPLETENESS = 0.95
MAX_LINES = 5


@dataclass(frozen=True)
class Notice:
    """One thing that is wrong or needs a look."""

    is_severe: bool
    """The result is not whole, or there is none."""
    title: str
    lines: tuple[str, ...] = ()


def notices(data: ReportData) -> list[Notice]:
    """All notices of a run; empty if all is well."""
    found = [*_whole(data), *_merging(data), *_frames(data), *_geometry(data)]
    return sorted(found, key=lambda notice: not notice.is_severe)


def _whole(data: ReportData) -> Iterator[Notice]:
    """Chunks of this data set, or of others it was merged with, that are not in the result."""
    n_missing = len(data.missing_chunks)
    if n_missing:
        n_frames = sum(chunk.frames.n_frames for chunk in data.missing_chunks)
        done = len(data.chunks) - n_missing
        title = (
            f"Partial result: {done} of {len(data.chunks)} chunks are in it; "
            f"{n_frames} of {data.frames_total} frames are missing"
        )
        yield Notice(True, title, data.missing)
    elif data.missing:
        yield Notice(True, "Partial result: the merge lacks chunks", data.missing)


def _merging(data: ReportData) -> Iterator[Notice]:
    if data.merge is None:
        why = (data.merge_problem,) if data.merge_problem else ()
        yield Notice(True, "There are no merged intensities", why)
        return
    summary = data.merge.summary
    if summary.chunks_merged != summary.chunks_expected and not data.missing:
        yield Notice(
            True, f"Partial result: {summary.chunks_merged} of {summary.chunks_expected} chunks merged"
        )
    counted = f"{summary.chunks_merged} of {summary.chunks_expected} chunks merged"  # said above already
    warnings = tuple(warning for warning in summary.warnings if warning != counted)
    if summary.overall.completeness < LOW_COMPLETENESS:
        low = f"completeness is only {summary.overall.completeness:.3f}"
        warnings = (*warnings, f"{low}: collect more frames or cut the resolution")
    if warnings:
        yield Notice(False, "Look at this before using the intensities", warnings)


def _frames(data: ReportData) -> Iterator[Notice]:
    counts = data.counts
    if counts.frames_unreadable:
        share = f"{counts.frames_unreadable} of {counts.frames_total} frames could not be read"
        yield Notice(False, share, ("Is the file still being written, or was it truncated?",))
    if counts.frames_total and not counts.frame_hits:
        spots = data.settings.spots.min_spots_for_hit
        yield Notice(
            True,
            f"No hit among {counts.frames_total} frames",
            (
                f"No frame has {spots} spots or more. Were the beam on, the shutter open, the sample in the "
                "beam? If spots are seen by eye, lower spots.min_spots_for_hit or spots.min_snr.",
            ),
        )
    elif counts.frame_hits and not counts.lattices_indexed:
        advice = "Check unit cell, wavelength, detector distance and beam centre, in this order."
        yield Notice(True, f"None of {counts.frame_hits} hits could be indexed", (advice,))
    elif counts.frame_hits >= MIN_HITS_TO_JUDGE and counts.indexing_rate < LOW_INDEXING_RATE:
        yield Notice(
            False,
            f"Only {counts.frames_indexed} of {counts.frame_hits} hits were indexed",
            ("Check unit cell, detector distance and beam centre; see the calibration below.",),
        )


def _geometry(data: ReportData) -> Iterator[Notice]:
    calibration, settings = data.calibration, data.settings
    if calibration is not None and calibration.cell_notices:
        yield Notice(False, "The unit cell given needs a look", calibration.cell_notices)
    if calibration is not None and data.counts.frame_hits:
        shift = float(np.hypot(*calibration.beam_shift_px))
        if shift > LARGE_BEAM_SHIFT_PX:
            yield Notice(
                False,
                f"The beam centre was corrected by {shift:.1f} pixels",
                ("The position in the image files is wrong; have it corrected at the beamline.",),
            )
        if settings.calibration.refine_geometry != "off" and calibration.refinement.level == "none":
            yield Notice(False, "The geometry is that of the files", calibration.refinement.notes)
    yield from _drift(data)
    if len(data.lattices) >= MIN_HITS_TO_JUDGE:
        expected = np.array(settings.sample.unit_cell[:3])
        found = data.lattices[CELL_COLUMNS[:3]].median().to_numpy()
        change = found / expected - 1
        worst = int(np.argmax(np.abs(change)))
        if abs(change[worst]) > LARGE_CELL_CHANGE:
            name = CELL_COLUMNS[worst]
            yield Notice(
                False,
                f"Cell length {name} is {change[worst]:+.1%} off: {found[worst]:.2f} Å found, "
                f"{expected[worst]:.2f} Å expected",
                ("All lengths off alike points to distance or wavelength; one alone to the crystal.",),
            )


def _drift(data: ReportData) -> Iterator[Notice]:
    """Chunks in which the detector was elsewhere than in the calibration."""
    points = drift_points(data)
    lines = [
        f"images {images}: "
        + ", ".join(
            f"{name} {shift:+.2f} ± {sd:.2f} {unit}"
            for name, shift, sd, unit in zip(
                point.names[:3], point.shifts[:3], point.sds[:3], point.units[:3], strict=True
            )
        )
        for images, _, point in points
        if point.is_drift()
    ]
    if lines:
        share = f"{len(lines)} of {len(points)} chunks"
        more = (f"and {len(lines) - MAX_LINES} more",) if len(lines) > MAX_LINES else ()
        yield Notice(False, f"The detector or the beam moved: {share}", (*lines[:MAX_LINES], *more))
