"""Another cut between hits and no hits, from the numbers that are kept of every frame; no image is read.

A frame that was no hit was not indexed either: how many of those would index is not known.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import SUMMARY, read_table
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import FrameStatus
from ssx_processing.pipeline.hit_finding import is_hit
from ssx_processing.settings import ProcessingSettings

COLUMNS = ("frame", "status", "n_spots", "total_intensity")
LADDER = (0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
"""Cuts tried, relative to the one used."""


@dataclass(frozen=True)
class ProcessedFrames:
    """The frames of one or more runs, as they were processed last."""

    settings: ProcessingSettings
    paths: tuple[Path, ...]
    """Images of all runs."""
    geometry_file: str | None
    """That stood in for their own geometry."""
    frames: pd.DataFrame
    """Readable frames of the chunks there are: frame, status, n_spots, total_intensity."""
    n_unreadable: int
    n_missing_chunks: int


@dataclass(frozen=True)
class Recut:
    """What another cut would make of the frames."""

    min_spots: int
    min_signal: float
    """Photons."""
    n_frames: int
    """Readable ones."""
    n_hits: int
    n_new: int
    """Hits that were none; they have not been indexed."""
    n_lost: int
    """No hits that were hits."""
    n_lost_indexed: int
    """Of these, indexed."""
    n_indexed: int
    """Hits that are indexed already."""

    @property
    def hit_rate(self) -> float:
        """n_hits / n_frames; 0 without frames."""
        return self.n_hits / self.n_frames if self.n_frames else 0.0

    @property
    def n_tried(self) -> int:
        """Hits that indexing was tried on."""
        return self.n_hits - self.n_new

    @property
    def indexing_rate(self) -> float:
        """n_indexed / n_tried; 0 without any."""
        return self.n_indexed / self.n_tried if self.n_tried else 0.0


def run_folders(folder: Path) -> list[Path]:
    """The folder of a run, or those of the data collections of a group.

    Raises
    ------
    ChunkError
        Nothing was processed there.
    """
    found = [folder] if RunFolder(folder).plan.is_file() else []
    found += sorted(path.parent for path in folder.glob("collection-*/plan.json"))
    if not found:
        raise ChunkError(f"{folder}: nothing was processed here; name the folder given to ssx process --out")
    return found


def read_processed_frames(folders: Sequence[Path]) -> ProcessedFrames:
    """The frames tables of all chunks that the plans of these runs name.

    Raises
    ------
    ChunkError
        A plan or a table cannot be read, or not one chunk is there.
    """
    plans = [_read_plan(RunFolder(folder).plan) for folder in folders]
    chunks = [
        RunFolder(folder).chunks / key
        for folder, plan in zip(folders, plans, strict=True)
        for key in plan["chunks"]
    ]
    there = [chunk for chunk in chunks if (chunk / SUMMARY).is_file()]
    if not there:
        raise ChunkError(f"{folders[0]}: no chunk is processed yet; run ssx process first")
    frames = pd.concat([read_table(chunk, "frames", COLUMNS) for chunk in there], ignore_index=True)
    readable = frames["status"] != FrameStatus.UNREADABLE
    return ProcessedFrames(
        settings=ProcessingSettings.model_validate(plans[0]["settings"]),
        paths=tuple(Path(path) for plan in plans for path in plan["plan"]["paths"]),
        geometry_file=plans[0]["plan"].get("geometry_file"),
        frames=frames[readable].reset_index(drop=True),
        n_unreadable=int((~readable).sum()),
        n_missing_chunks=len(chunks) - len(there),
    )


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(f"{path}: not readable ({error}); process the images again") from error
    lacking = [name for name in ("chunks", "settings", "plan") if name not in content]
    if lacking:
        raise ChunkError(f"{path}: has no {lacking[0]}; process the images again")
    return content


def recut(processed: ProcessedFrames, min_spots: int, min_signal: float) -> Recut:
    """What a cut makes of the frames, beside what the processing made of them.

    Parameters
    ----------
    min_spots, min_signal
        In place of ``spots.min_spots_for_hit`` and ``spots.min_signal_for_hit``.
    """
    settings = processed.settings.spots.model_copy(
        update={"min_spots_for_hit": min_spots, "min_signal_for_hit": min_signal}
    )
    frames = processed.frames
    pairs = zip(frames["n_spots"].tolist(), frames["total_intensity"].tolist(), strict=True)
    hit = np.array([is_hit(n_spots, total, settings) for n_spots, total in pairs], bool)
    was_hit = (frames["status"] != FrameStatus.NO_HIT).to_numpy(bool)
    indexed = (frames["status"] == FrameStatus.INTEGRATED).to_numpy(bool)
    return Recut(
        min_spots=min_spots,
        min_signal=min_signal,
        n_frames=len(frames),
        n_hits=int(hit.sum()),
        n_new=int((hit & ~was_hit).sum()),
        n_lost=int((was_hit & ~hit).sum()),
        n_lost_indexed=int((indexed & ~hit).sum()),
        n_indexed=int((indexed & hit).sum()),
    )


def ladder(used: int) -> list[int]:
    """Cuts around the one used, ascending, that one among them.

    Examples
    --------
    >>> ladder(15)
    [5, 8, 10, 13, 15, 18, 22, 30, 45]
    >>> ladder(1)
    [1, 2, 3]
    """
    return sorted({max(1, round(used * factor)) for factor in LADDER})
