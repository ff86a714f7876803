"""A chunk as a worker computes it: how long it took and who did it, also where it fails.

Imported by workers: knows nothing of Prefect.
"""

import os
import socket
import time
from dataclasses import dataclass

from ssx_processing.models import ChunkSummary
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.process_chunk import process_chunk


@dataclass(frozen=True)
class ChunkWork:
    """The work of one try."""

    seconds: float
    """Wall time."""
    worker: str
    """``host:pid`` of the process."""


def work_on_chunk(job: ChunkJob) -> tuple[ChunkSummary, ChunkWork]:
    """Process a chunk; whatever it raises carries the work along."""
    started = time.perf_counter()
    try:
        summary = process_chunk(job)
    except Exception as error:
        error.__dict__["chunk_work"] = _work_since(started)  # travels with the error when it is pickled
        raise
    return summary, _work_since(started)


def work_of(error: BaseException) -> ChunkWork | None:
    """Work that ended with an error; None if its worker could not say, as it was killed."""
    return getattr(error, "chunk_work", None)


def _work_since(started: float) -> ChunkWork:
    seconds = round(time.perf_counter() - started, 3)
    return ChunkWork(seconds, f"{socket.gethostname()}:{os.getpid()}")
