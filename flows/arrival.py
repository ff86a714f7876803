"""Which frames of a data set are there by now, and whether more are to come."""

import time
from dataclasses import dataclass
from pathlib import Path

from flows.job import DataSet
from flows.job_of_request import files_of
from flows.settings import SiteSettings
from ispyb_io.records import DataCollection
from ssx_processing.formats.frames import FrameSet


@dataclass(frozen=True)
class Arrival:
    """The frames of a data set at one moment."""

    paths: tuple[Path, ...]
    """Files that are there."""
    there: int
    """Frames, from the first on, that can be read."""
    expected: int
    """Frames that record or files announce."""
    lacking: str
    """Why it cannot be taken for complete; empty if it can."""
    is_over: bool
    """What is lacking will not come any more: the site's patience is at its end."""

    @property
    def goes_on(self) -> bool:
        """Whether more frames are to come."""
        return bool(self.lacking) and not self.is_over

    def frames_to_process(self, frames_per_chunk: int) -> int:
        """Frames that can be processed now: in whole chunks, as long as more are to come."""
        return self.there // frames_per_chunk * frames_per_chunk if self.goes_on else self.there


def look_at_files(data_set: DataSet, site: SiteSettings) -> Arrival:
    """Look at the files of a data collection.

    Raises
    ------
    SsxError, OSError
        No file is there, or one cannot be opened.
    """
    collection = data_set.collection
    files = data_set.paths if collection is None else files_of(collection)
    paths = tuple(path.resolve() for path in files)
    with FrameSet(paths, data_set.geometry_file) as frames:
        there, n_frames = frames.frames_available(), frames.n_frames
        missing = frames.missing() if there < n_frames else ""
        changed_ns = max(file["mtime_ns"] for file in frames.identity()["files"])
    n_images = 0 if collection is None or collection.n_images is None else collection.n_images
    changed = changed_ns / 1e9
    lacking = missing
    if not lacking and n_frames < n_images:
        lacking = f"{data_set.name}: {n_frames} of {n_images} frames are there"
    is_settled = collection is None or has_ended(collection)
    if not lacking and not is_settled and time.time() - changed < site.quiet_time_s:
        lacking = f"{data_set.name}: files changed within the last {site.quiet_time_s:g} s"
    is_over = collection is not None and time.time() - _last_sign(collection, changed) > site.patience_s
    return Arrival(paths, there, max(n_frames, n_images), lacking, is_over)


def has_ended(collection: DataCollection) -> bool:
    """Whether the record says that the detector is done."""
    return collection.end_time is not None or collection.run_status is not None


def _last_sign(collection: DataCollection, changed: float) -> float:
    """When something was last seen to happen, s since the epoch."""
    if collection.end_time is not None:
        return collection.end_time.timestamp()
    started = collection.start_time.timestamp() if collection.start_time else 0.0
    return max(started, changed)
