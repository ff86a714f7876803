"""Spots that an earlier chunk found on the same frames, so that only frames to be integrated are read again.

Spots depend on the pixels, the mask, the settings of the spots and the geometry in which they are sought,
which is the same for most cells (`Calibration.spot_geometry`): not on cell, indexing and integration.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import SUMMARY, read_columns, read_summary, write_json
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import SpotList
from ssx_processing.pipeline.calibration import Calibration, read_calibration
from ssx_processing.pipeline.chunk_columns import SPOT_COLUMNS
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.settings import content_key

OF_HITS = {"min_spots_for_hit", "min_signal_for_hit"}
"""Settings of the spots that say which frames are hits, not what a spot is."""
COUNTS = ("n_pixels", "n_saturated", "panel")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredSpots:
    """Spots of all frames of a chunk, as another chunk found them."""

    chunk: str
    """Key of that chunk."""
    masked: NDArray[np.int64]
    """(n, 2) row and column of hot pixels that chunks before it had found."""
    hot: NDArray[np.int64]
    """(n, 2) those that it found itself."""
    spots: dict[str, NDArray[Any]]
    """Columns of its table of spots, in the order of the frames."""
    background: dict[int, float]
    """Median of each frame's rings, counts per pixel."""

    def of_frame(self, frame: int) -> SpotList:
        """Spots of a frame."""
        rows = slice(*np.searchsorted(self.spots["frame"], [frame, frame + 1]))
        columns: dict[str, NDArray[Any]] = {
            **{name: self.spots[name][rows].astype(np.float64) for name in SPOT_COLUMNS},
            **{name: self.spots[name][rows].astype(np.int32) for name in COUNTS},
        }
        return SpotList(**columns)


def search_key(calibration: Calibration) -> str:
    """Stands for where on the detector spots are sought."""
    return content_key(
        {
            "geometry": asdict(calibration.spot_geometry or calibration.geometry),
            "bad_pixels": hashlib.sha256(calibration.bad_pixels.tobytes()).hexdigest(),
            "limits": [calibration.underload, calibration.saturation],
        }
    )


def spots_key(job: ChunkJob, search: str) -> str:
    """Stands for all that the spots of a chunk depend on.

    Parameters
    ----------
    search
        From `search_key`.
    """
    return content_key(
        {
            "input": job.identity,
            "frames": [job.frames.start, job.frames.stop],
            "spots": job.settings.spots.model_dump(exclude=OF_HITS),
            "hot_pixel_fraction": job.settings.calibration.hot_pixel_fraction,
            "search": search,
        }
    )


def remember_spots(job: ChunkJob, key: str) -> None:
    """Let later chunks find the spots of a chunk that will be written, all of whose frames were read."""
    write_json(_index(job, key), {"chunk": job.key})


def stored_spots(job: ChunkJob, key: str) -> StoredSpots | None:
    """Spots that were found before; None if there are none."""
    folder = _source(job, key)
    if folder is None:
        return None
    try:
        summary = read_summary(folder)
        spots = read_columns(folder, "spots", ["frame", *SPOT_COLUMNS, *COUNTS])
        frames = read_columns(folder, "frames", ["frame", "median_background"])
    except ChunkError as error:
        logger.warning("spots are sought again: %s", error)
        return None
    hot = summary["hot_pixels"]
    return StoredSpots(
        folder.name,
        np.array(hot["masked_from_other_chunks"], np.int64).reshape(-1, 2),
        np.array(hot["found"], np.int64).reshape(-1, 2),
        spots,
        dict(zip(frames["frame"].tolist(), frames["median_background"].tolist(), strict=True)),
    )


def n_with_spots(jobs: Sequence[ChunkJob]) -> int:
    """How many of the chunks can start from spots that were found before."""
    if not jobs or not RunFolder(jobs[0].run_folder).spots.is_dir():
        return 0
    search = search_key(read_calibration(jobs[0].calibration_folder))
    return sum(_source(job, spots_key(job, search)) is not None for job in jobs)


def _source(job: ChunkJob, key: str) -> Path | None:
    """Folder of the chunk that has the spots; None if there is none."""
    try:
        chunk = json.loads(_index(job, key).read_text())["chunk"]
    except (OSError, ValueError, KeyError):
        return None
    folder = RunFolder(job.run_folder).chunks / chunk
    return folder if (folder / SUMMARY).is_file() else None


def _index(job: ChunkJob, key: str) -> Path:
    return RunFolder(job.run_folder).spots / f"{key}.json"
