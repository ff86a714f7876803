"""One data set while its chunks arrive."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from flows.job import DataSet
from ispyb_io.records import DataCollection
from ispyb_io.ssx_files import write_ssx_cells, write_ssx_stats
from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import read_columns, read_summary, write_json
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import (
    ChunkSummary,
    FrameCounts,
    FrameRange,
    GeometryIdentity,
    Plan,
    UnitCell,
)
from ssx_processing.pipeline.chunk_job import ChunkJob, chunk_summary, is_done
from ssx_processing.pipeline.frame_ranges import frame_ranges
from ssx_processing.settings import ProcessingSettings

if TYPE_CHECKING:
    from flows.arrival import Arrival
    from flows.chunk_work import ChunkWork  # imports numba
    from ssx_processing.pipeline.trial import Trial

OF_LATTICE = ["a", "b", "c", "alpha", "beta", "gamma", "resolution_limit"]
PAGE_FILES_PAUSE = 49.0
"""Of so many times what writing them takes: there may be many lattices and many chunks."""


@dataclass
class DataSetRun:
    """Chunks planned, done and failed, with their sums."""

    data_set: DataSet
    plan: Plan
    chunk_jobs: list[ChunkJob]
    frames_per_chunk: int
    first_chunk: int
    """Index of its first chunk among those of all data sets of the job."""
    summaries: dict[int, ChunkSummary] = field(default_factory=dict)
    """By place in ``chunk_jobs``."""
    failures: dict[int, str] = field(default_factory=dict)
    """Reason, by place in ``chunk_jobs``."""
    works: dict[int, "ChunkWork"] = field(default_factory=dict)
    """By place, of the chunks computed or tried by this job."""
    notices: tuple[str, ...] = ()
    """What must be known about the cell that was given."""
    trial: "Trial | None" = None
    """What a frame takes."""
    goes_on: bool = False
    """It was left while it was still being collected: more frames are to come."""
    _lattices: dict[int, np.ndarray] = field(default_factory=dict)
    """By place: (n, 7) cells and resolution limits, as far as they were needed."""
    _page_files_due: float = 0.0
    """On the monotonic clock."""

    def add(self, place: int, summary: ChunkSummary, work: "ChunkWork | None" = None) -> None:
        """Take in a chunk that is done; what it took to find one that was done before is no news."""
        self.summaries[place] = summary
        if work is not None and not summary.reused:
            self.works[place] = work

    def fail(self, place: int, reason: str, work: "ChunkWork | None") -> None:
        """Take in that a chunk has failed."""
        self.failures[place] = reason
        if work is not None:
            self.works[place] = work

    @property
    def settings(self) -> ProcessingSettings:
        """What its chunks are processed with."""
        return self.chunk_jobs[0].settings

    @property
    def counts(self) -> FrameCounts:
        """Sum over the chunks done."""
        return reduce(add, (summary.counts for summary in self.summaries.values()), FrameCounts())

    @property
    def missing(self) -> tuple[str, ...]:
        """One sentence for each chunk that failed, in order, and for images that are not in the files."""
        lines = [f"{self.chunk_name(place)}: {reason}" for place, reason in sorted(self.failures.items())]
        there, collection = self.plan.frames_total, self.data_set.collection
        last = 0 if collection is None else collection.n_images or 0
        if self.goes_on:
            lines.append(f"images {there + 1}-{last if last > there else '...'}: still to come")
        elif last > there:
            lines.append(f"images {there + 1}-{last}: not in the files")
        return tuple(lines)

    @property
    def record_notices(self) -> tuple[str, ...]:
        """What is wrong in the record of the data collection, though nothing is missing for it."""
        collection, there = self.data_set.collection, self.plan.frames_total
        if collection is None or not collection.n_images or collection.n_images >= there:
            return ()
        said = f"numberOfImages in ISPyB is {collection.n_images}"
        return (f"{said}, the files have {there} frames: all are processed",)

    def grow(self, arrival: "Arrival") -> None:
        """Take in which files are there by now, and that more frames may come than were planned."""
        if arrival.paths != self.plan.paths:
            self.plan = replace(self.plan, paths=arrival.paths)
            self.chunk_jobs = [replace(job, paths=arrival.paths) for job in self.chunk_jobs]
        if arrival.expected > self.plan.frames_total:
            self._plan_up_to(arrival.expected)

    def end_at(self, n_frames: int) -> None:
        """No frames come after these; the last chunk may be short."""
        self._plan_up_to(n_frames)

    def leave_at(self, n_frames: int) -> None:
        """Leave it with these frames; more are to come."""
        self._plan_up_to(n_frames)
        self.goes_on = True

    def _plan_up_to(self, n_frames: int) -> None:
        ranges = frame_ranges(n_frames, self.frames_per_chunk)
        self.plan = replace(self.plan, frames_total=n_frames, ranges=ranges)
        any_job = self.chunk_jobs[0]
        self.chunk_jobs = [replace(any_job, frames=frames) for frames in ranges]
        write_plan(self)

    def task_name(self, place: int) -> str:
        """As Prefect's UI lists it, where frames count from 0."""
        frames = self.chunk_jobs[place].frames
        return f"chunk {self.first_chunk + place + 1:03d} frames {frames.start}-{frames.stop - 1}"

    def chunk_name(self, place: int) -> str:
        """For people, who count from 1."""
        frames = self.chunk_jobs[place].frames
        return f"chunk {self.first_chunk + place + 1} (images {frames.start + 1}-{frames.stop})"

    @property
    def message(self) -> str:
        """One line for lists of results."""
        lines = (*self.missing, *self.settings.sample.assumed, *self.notices, *self.record_notices)
        return progress_line(self.counts, len(self.summaries), len(self.chunk_jobs), lines)

    @property
    def median_cell(self) -> UnitCell | None:
        """Over all lattices; None without any."""
        cells = self._of_lattices()[:, :6]
        if len(cells) == 0:
            return None
        a, b, c, alpha, beta, gamma = np.median(cells, axis=0).tolist()
        return a, b, c, alpha, beta, gamma

    def refresh_page_files(self) -> None:
        """Replace them as chunks arrive, but spend no more than a fiftieth of the time on it."""
        started = time.monotonic()
        if started >= self._page_files_due:
            self.write_page_files()
            ended = time.monotonic()
            self._page_files_due = ended + PAGE_FILES_PAUSE * (ended - started)

    def write_page_files(self) -> None:
        """Replace the two JSON files that ISPyB's SSX page draws from."""
        lattices = self._of_lattices()
        limit = lattices[np.isfinite(lattices[:, 6]), 6]
        counts = self.counts
        write_ssx_stats(
            self.data_set.folder,
            n_hits=counts.frame_hits,
            n_indexed=counts.frames_indexed,
            lattice_type=lattice_type(self.chunk_jobs[0].settings.sample.gemmi_space_group),
            estimated_resolution=float(np.median(limit)) if len(limit) else None,
        )
        write_ssx_cells(self.data_set.folder, lattices[:, :6].tolist())

    def _of_lattices(self) -> np.ndarray:
        """(n, 7) cell and resolution limit of each lattice, in the order of the frames."""
        for place, summary in self.summaries.items():
            if place not in self._lattices:
                columns = read_columns(summary.folder, "lattices", OF_LATTICE)
                self._lattices[place] = np.column_stack([columns[name] for name in OF_LATTICE])
        return np.concatenate(
            [np.empty((0, 7)), *(self._lattices[place] for place in sorted(self.summaries))]
        )


def jobs_of_plan(
    plan: Plan, settings: ProcessingSettings, calibration_folder: Path, run_folder: Path
) -> list[ChunkJob]:
    """The plan's chunks, each with all that a worker needs to know."""
    return [
        ChunkJob(
            plan.paths, plan.identity, frames, settings, calibration_folder, run_folder, plan.geometry_file
        )
        for frames in plan.ranges
    ]


def write_plan(run: DataSetRun) -> None:
    """Write plan.json: what was to be processed, how, and under which keys the results are."""
    first = run.chunk_jobs[0]
    collection = run.data_set.collection
    content = {
        "name": run.data_set.name,
        "data_collection_id": collection.data_collection_id if collection else None,
        "plan": asdict(run.plan),
        "geometry": asdict(run.data_set.geometry) if run.data_set.geometry else None,
        "calibration": first.calibration_folder.name,
        "frames_per_chunk": run.frames_per_chunk,
        "chunks": [chunk_job.key for chunk_job in run.chunk_jobs],
        "settings": first.settings.model_dump(mode="json"),
    }
    write_json(RunFolder(run.data_set.folder).plan, content)


def read_run(folder: Path, collection: DataCollection | None, first_chunk: int) -> DataSetRun:
    """A data set as it was processed last, without a look at its images.

    Raises
    ------
    ChunkError
        It was never planned here.
    """
    run_folder = RunFolder(folder)
    try:
        content = json.loads(run_folder.plan.read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(f"{run_folder.plan}: not readable ({error}); process the images first") from error
    geometry = content.get("geometry")  # runs of earlier versions have none
    if geometry is not None:
        geometry = GeometryIdentity(Path(geometry["path"]), geometry["sha256"])
    plan = Plan(
        paths=tuple(Path(path) for path in content["plan"]["paths"]),
        frames_total=content["plan"]["frames_total"],
        ranges=tuple(FrameRange(**frames) for frames in content["plan"]["ranges"]),
        identity=content["plan"]["identity"],
        wavelength=content["plan"]["wavelength"],
        geometry_file=geometry.path if geometry else None,
        frames_there=content["plan"].get("frames_there"),
    )
    settings = ProcessingSettings.model_validate(content["settings"])
    jobs = jobs_of_plan(plan, settings, run_folder.calibrations / content["calibration"], folder)
    data_set = DataSet(content["name"], plan.paths, folder, collection, geometry)
    size = content.get("frames_per_chunk", jobs[0].frames.n_frames)  # runs of earlier versions do not say
    run = DataSetRun(data_set, plan, jobs, size, first_chunk, notices=_cell_notices(jobs))
    for place, chunk_job in enumerate(jobs):
        if is_done(chunk_job):
            run.add(place, chunk_summary(chunk_job, reused=True))
        else:
            run.failures[place] = "not processed"
    return run


def _cell_notices(jobs: Sequence[ChunkJob]) -> tuple[str, ...]:
    """What the calibration said about the cell."""
    return tuple(read_summary(jobs[0].calibration_folder).get("cell_notices", ()))


def progress_line(
    counts: FrameCounts, chunks_done: int, chunks_expected: int, missing: Sequence[str] = ()
) -> str:
    """Counts, rates with their denominators, chunks, and what is missing; in one line.

    Examples
    --------
    >>> progress_line(FrameCounts(frames_total=20, frame_hits=8, frames_indexed=4), 1, 2, ["chunk 2: bad"])
    '1 of 2 chunks; 8 hits (40.0 %), 4 indexed (50.0 % of hits); chunk 2: bad'
    """
    parts = [
        f"{chunks_done} of {chunks_expected} chunks",
        f"{counts.frame_hits} hits ({counts.hit_rate:.1%}), "
        f"{counts.frames_indexed} indexed ({counts.indexing_rate:.1%} of hits)".replace("%", " %"),
    ]
    if counts.frames_unreadable:
        parts.append(f"{counts.frames_unreadable} frames unreadable")
    parts += missing  # last: ISPyB cuts long messages
    return "; ".join(parts)


def lattice_type(space_group: gemmi.SpaceGroup) -> str:
    """Pearson's symbol: crystal family and centring.

    Examples
    --------
    >>> lattice_type(gemmi.SpaceGroup("P43212")), lattice_type(gemmi.SpaceGroup("R3:H"))
    ('tP', 'hR')
    """
    families = {"triclinic": "a", "monoclinic": "m", "orthorhombic": "o", "tetragonal": "t", "cubic": "c"}
    family = families.get(space_group.crystal_system_str(), "h")
    return family + space_group.centring_type()
