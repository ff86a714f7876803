"""The frames of one chunk -> one folder of tables. The file to read first.

`process_chunk` is what runs in parallel. It knows nothing of Prefect or ISPyB, takes paths and
settings, and returns a small summary. A chunk that exists is not computed again; where only its spots
exist, frames without a lattice are not read again.
"""

import logging
import threading
import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing import __version__
from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.hot_pixel_files import publish_hot_pixels, published_hot_pixels
from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.models import ChunkSummary
from ssx_processing.pipeline.calibration import Calibration, calibrated_processor, read_calibration
from ssx_processing.pipeline.chunk_job import ChunkJob, chunk_summary, is_done
from ssx_processing.pipeline.chunk_tables import ChunkTables
from ssx_processing.pipeline.detector_normals import NormalsCollector
from ssx_processing.pipeline.drift import drift_content
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.frame_result import FrameResult
from ssx_processing.pipeline.stored_spots import (
    StoredSpots,
    remember_spots,
    search_key,
    spots_key,
    stored_spots,
)
from ssx_processing.pipeline.stream_chunks import StreamTables, stream_tables
from ssx_processing.pipeline.stream_plan import are_streams
from ssx_processing.settings import ProcessingSettings

NONE = np.empty((0, 2), np.int64)
"""No pixels."""

logger = logging.getLogger(__name__)


def process_chunk(job: ChunkJob) -> ChunkSummary:
    """Process the frames of one chunk, or find that it was done.

    A frame that cannot be read is counted as unreadable. Frames of a CrystFEL stream are converted.

    Raises
    ------
    ImageReadError
        A file cannot be opened, or not one frame of the chunk can be read.
    DxtbxProcessError
        The process that reads other formats died or hung again and again; trying again may help.
    """
    if not is_done(job):
        _compute(job)
        return chunk_summary(job, reused=False)
    return chunk_summary(job, reused=True)


def _compute(job: ChunkJob) -> None:
    started = time.process_time()
    if are_streams(job.paths):
        found = stream_tables(job.paths, job.geometry_file, job.frames, job.settings.spots)
        content = _summary_content(job, found, time.process_time() - started)
        write_chunk(job.folder, found.tables(), content)
        return
    calibration = _calibration(job.calibration_folder)
    processor = _processor(job.calibration_folder, job.settings.model_dump_json(), threading.get_ident())
    of_spots = spots_key(job, search_key(calibration))
    stored = stored_spots(job, of_spots)
    masked = _hot_pixels_to_mask(job, stored)
    processor.mask(masked)
    tables, isolated = ChunkTables(), []
    drift = NormalsCollector(processor.geometry, processor.refiner, min_snr=calibration.refinement.min_snr)
    error: SsxError | None = None
    with FrameSet(job.paths, job.geometry_file) as frames:
        for frame in range(job.frames.start, job.frames.stop):
            path, index = frames.locate(frame)
            try:
                result = _process_frame(frames, frame, processor, stored)
            except (ImageReadError, GeometryError) as caught:
                error = caught
                logger.warning("frame %d cannot be read: %s", frame, caught)
                tables.add_unreadable(frame, path, index)
                continue
            tables.add(frame, path, index, result, processor)
            drift.add(result.lattices, result.spots)
            if stored is None:
                isolated.append(processor.hits.finder.isolated.copy())
    if error is not None and tables.counts.frames_unreadable == job.frames.n_frames:
        raise ImageReadError(
            f"frames {job.frames.start}-{job.frames.stop - 1}: not one can be read; the last: {error}"
        )
    found = stored.hot if stored else _hot_pixels(job, isolated, processor)
    content = _summary_content(job, tables, time.process_time() - started)
    content["reflections"] = tables.reflections
    content["drift"] = drift_content(drift)
    content["hot_pixels"] = {"masked_from_other_chunks": masked.tolist(), "found": found.tolist()}
    content["spots_from"] = stored.chunk if stored else None
    if stored is None and not tables.counts.frames_unreadable:  # those may be readable another time
        remember_spots(job, of_spots)  # first: a chunk that is there is never looked at again
    write_chunk(job.folder, tables.tables(), content)
    if len(found) and job.settings.spots.share_hot_pixels:
        publish_hot_pixels(job.hot_pixel_folder, job.key, found)
    logger.info("chunk %s: %s", job.key, tables.counts)


def _process_frame(
    frames: FrameSet, frame: int, processor: FrameProcessor, stored: StoredSpots | None
) -> FrameResult:
    """Process a frame; with its spots at hand it is read only if there is something to integrate."""
    if stored is None:
        return processor.process(frames.read(frame))
    spots, background = stored.of_frame(frame), stored.background[frame]
    return processor.process_spots(spots, background, lambda: frames.read(frame))


def _hot_pixels_to_mask(job: ChunkJob, stored: StoredSpots | None) -> NDArray[np.int64]:
    """(n, 2) array: row and column of the hot pixels known before the chunk."""
    if stored is not None:
        return stored.masked
    return published_hot_pixels(job.hot_pixel_folder) if job.settings.spots.share_hot_pixels else NONE


def _hot_pixels(
    job: ChunkJob, isolated: list[NDArray[np.int32]], processor: FrameProcessor
) -> NDArray[np.int64]:
    """(n, 2) array: row and column of the hot pixels that these frames show and nobody had masked."""
    flat = hot_pixels(
        np.concatenate(isolated or [np.empty(0, np.int32)]),
        len(isolated),
        job.settings.calibration.hot_pixel_fraction,
    )
    return np.stack(np.unravel_index(flat, processor.geometry.image_shape), axis=1)


@lru_cache(maxsize=4)
def _processor(calibration_folder: Path, settings_json: str, thread: int) -> FrameProcessor:
    """The processor of one calibration; a worker keeps it for its next chunk.

    One for each thread, since its buffers change with every frame.
    """
    settings = ProcessingSettings.model_validate_json(settings_json)
    return calibrated_processor(_calibration(calibration_folder), settings)


@lru_cache(maxsize=4)
def _calibration(folder: Path) -> Calibration:
    return read_calibration(folder)


def _summary_content(
    job: ChunkJob, tables: ChunkTables | StreamTables, cpu_seconds: float
) -> dict[str, object]:
    return {
        "key": job.key,
        "frames": [job.frames.start, job.frames.stop],
        "counts": asdict(tables.counts),
        "median_cell": tables.median_cell,
        "cpu_seconds": round(cpu_seconds, 3),
        "calibration": job.calibration_folder.name,
        "input": job.identity,
        "files": sorted({str(path) for path in job.paths}),
        "geometry_file": str(job.geometry_file) if job.geometry_file else None,
        "settings": job.settings.model_dump(mode="json"),
        "version": __version__,
    }
