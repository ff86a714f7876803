"""What the Prefect UI shows of a result: a summary first, then tables of chunks and shells."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flows.file_links import url_of
from flows.messages import one_line
from flows.outcome import Outcome
from flows.result_table import result_rows, reuse_line
from flows.summary_plot import summary_image
from ispyb_io.ledger_records import Chunk
from ssx_processing.models import ShellStatistics

logger = logging.getLogger(__name__)


@contextmanager
def only_shown() -> Iterator[None]:
    """What cannot be shown, as Prefect's server is away, is missed in its pages and fails nothing."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("not shown in Prefect: %s", one_line(error))


@only_shown()
def begin_progress() -> Any:
    """Prefect artifact: how many of the frames are processed; returns its id for `publish_progress`."""
    return create_progress_artifact(progress=0.0, key="progress", description="frames processed")


@only_shown()
def publish_progress(artifact: UUID | None, fraction: float) -> None:
    """Change it; nothing where there is none."""
    if artifact is not None:
        update_progress_artifact(artifact, progress=100 * fraction)


@only_shown()
def publish_summary(outcome: Outcome, file_url: str, chunks: Sequence[Chunk] = ()) -> None:
    """Prefect artifact: a picture, the table, what is missing, where the files are.

    Parameters
    ----------
    chunks
        To be drawn; none of a merge alone.
    file_url
        Where a browser finds the file {path}; browsers open no file:// from a page of a server.
    """
    missing = "\n".join(f"- {line}" for line in outcome.merge.missing)
    rows = "\n".join(f"| {name} | {value} |" for name, value in result_rows(outcome))
    files = "\n".join(
        f"- {_linked(path, file_url)}" for path in (*outcome.reports, outcome.merge.folder / "merged.mtz")
    )
    changes = "\n".join(f"- {line}" for line in outcome.changes)
    text = f"# {outcome.name}: {outcome.status}\n\n{outcome.message}\n\n"
    if missing:
        text += f"## Not in the result\n\n{missing}\n\n"
    if changes:
        text += f"## Changed since the last result\n\n{changes}\n\n"
    text += f"{summary_image(chunks, outcome.merge.shells)}\n\n| | |\n|---|---|\n{rows}\n\n"
    text += f"{reuse_line(outcome)}\n\n## Files\n\n{files}\n"
    create_markdown_artifact(text, key="summary", description=outcome.message)


def _linked(path: Path, file_url: str) -> str:
    url = url_of(path, file_url)
    return f"`{path}`" if url.startswith("file:") else f"[{path.name}]({url}) `{path}`"


@only_shown()
def publish_shells(outcome: Outcome) -> None:
    """Prefect artifact: merging statistics by resolution."""
    shells = outcome.merge.shells
    table = {
        field.name: [_shown(getattr(shell, field.name)) for shell in shells]
        for field in fields(ShellStatistics)
    }
    create_table_artifact(table, key="shells", description="Merging statistics by resolution, d in Å")


def _shown(value: float) -> float | None:
    """To three places; JSON knows no nan."""
    return None if math.isnan(value) else round(value, 3)


@only_shown()
def publish_chunks(chunks: Sequence[Chunk]) -> None:
    """Prefect artifact: one row for each chunk; people count chunks and images from 1."""
    rows = [
        {
            "chunk": chunk.index + 1,
            "images": chunk.images,
            "status": str(chunk.status),
            "tries": chunk.attempts,
            "hits": chunk.counts.get("frame_hits"),
            "indexed": chunk.counts.get("frames_indexed"),
            "seconds": chunk.seconds,
            "message": chunk.message,
        }
        for chunk in chunks
    ]
    failed = sum(not chunk.status.has_result for chunk in chunks)
    description = f"{len(rows)} chunks, {failed} failed" if failed else f"{len(rows)} chunks, all done"
    create_table_artifact(rows, key="chunks", description=description)
