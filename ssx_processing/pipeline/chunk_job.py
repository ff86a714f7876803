"""What a chunk is made from, and what it handed on once it is done; quick to import."""

from dataclasses import dataclass
from pathlib import Path

from ssx_processing.formats.chunk_folder import SUMMARY, read_summary
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import ChunkSummary, FrameCounts, FrameRange, UnitCell
from ssx_processing.settings import ProcessingSettings, content_key


@dataclass(frozen=True)
class ChunkJob:
    """One chunk to be processed: paths and settings only, so that it travels to any worker."""

    paths: tuple[Path, ...]
    identity: str
    """Of the plan: stands for the files."""
    frames: FrameRange
    settings: ProcessingSettings
    calibration_folder: Path
    run_folder: Path
    geometry_file: Path | None = None
    """Of the plan; its content is part of the identity."""

    @property
    def key(self) -> str:
        """Content key: same files, frames, settings that matter, calibration and algorithm."""
        relevant = self.settings.model_dump(include={"sample", "spots", "indexing", "integration"})
        return content_key(
            {
                "input": self.identity,
                "frames": [self.frames.start, self.frames.stop],
                "calibration": self.calibration_folder.name,
                **relevant,
            }
        )

    @property
    def folder(self) -> Path:
        """Where its tables are, or will be."""
        return RunFolder(self.run_folder).chunks / self.key

    @property
    def hot_pixel_folder(self) -> Path:
        """Where chunks of the same calibration tell each other of hot pixels."""
        return RunFolder(self.run_folder).hot_pixels / self.calibration_folder.name


def is_done(job: ChunkJob) -> bool:
    """Whether the chunk was processed before."""
    return (job.folder / SUMMARY).is_file()


def chunk_summary(job: ChunkJob, *, reused: bool) -> ChunkSummary:
    """What its folder says of a chunk that is done.

    Raises
    ------
    ChunkError
        The folder has no summary that can be read.
    """
    content = read_summary(job.folder)
    cell: UnitCell | None = tuple(content["median_cell"]) if content["median_cell"] else None  # pyright: ignore[reportAssignmentType]
    return ChunkSummary(
        key=job.key,
        folder=job.folder,
        frames=job.frames,
        counts=FrameCounts(**content["counts"]),
        reused=reused,
        cpu_seconds=content["cpu_seconds"],
        median_cell=cell,
        spots_reused=content.get("spots_from") is not None,
    )
