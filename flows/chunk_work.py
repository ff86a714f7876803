"""A chunk as a worker computes it: how long it took and who did it, also where it fails.

Imported by workers: knows nothing of Prefect.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ssx_processing.errors import DxtbxProcessError, SsxError
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
    log: tuple["LogLine", ...] = ()
    """What the steps had to say meanwhile."""
    may_pass: bool = False
    """Of a try that failed: another may succeed."""


@dataclass(frozen=True)
class LogLine:
    """One line for the log of the chunk's task."""

    level: int
    name: str
    """Of the logger."""
    text: str


LONGEST_LOG = 200
"""Lines; of what follows the number is told."""


class _Lines(logging.Handler):
    """Keeps the lines of this thread's chunk."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[LogLine] = []
        self.more = 0
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if threading.get_ident() != self._thread:
            return
        if len(self.lines) < LONGEST_LOG:
            self.lines.append(LogLine(record.levelno, record.name, record.getMessage()))
        else:
            self.more += 1

    @property
    def all(self) -> tuple[LogLine, ...]:
        """The lines, and how many there are no more of."""
        rest = [LogLine(logging.INFO, __name__, f"... and {self.more} more lines")] if self.more else []
        return (*self.lines, *rest)


@contextmanager
def _kept_lines() -> Iterator[_Lines]:
    """Lines of the processing's loggers in the block."""
    handler, logger = _Lines(), logging.getLogger("ssx_processing")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    try:
        yield handler
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def work_on_chunk(job: ChunkJob) -> tuple[ChunkSummary, ChunkWork]:
    """Process a chunk; whatever it raises carries the work along."""
    started = time.perf_counter()
    with _kept_lines() as kept:
        try:
            summary = process_chunk(job)
        except Exception as error:
            work = _work_since(started, kept.all, may_pass=may_pass(error))
            error.__dict__["chunk_work"] = work  # travels with the error when it is pickled
            raise
    return summary, _work_since(started, kept.all)


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help: an error of disk or network, or of the process that runs dxtbx.

    Input that is read and wrong stays wrong.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DxtbxProcessError | MemoryError):
            return True
        if isinstance(cause, OSError) and not isinstance(cause, SsxError) and cause.errno is not None:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def work_of(error: BaseException) -> ChunkWork | None:
    """Work that ended with an error; None if its worker could not say, as it was killed."""
    return getattr(error, "chunk_work", None)


def _work_since(started: float, log: tuple[LogLine, ...], *, may_pass: bool = False) -> ChunkWork:
    seconds = round(time.perf_counter() - started, 3)
    return ChunkWork(seconds, f"{socket.gethostname()}:{os.getpid()}", log, may_pass)
