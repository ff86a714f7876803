"""What the Prefect UI shows of a result: a summary first, then tables of chunks and shells."""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.outcome import Outcome
from flows.result_table import result_rows
from ispyb_io.ledger_records import Chunk
from ssx_processing.models import ShellStatistics


def publish_summary(outcome: Outcome, file_url: str) -> None:
    """Prefect artifact: the table, what is missing, where the files are.

    Parameters
    ----------
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
    text += f"| | |\n|---|---|\n{rows}\n\n## Files\n\n{files}\n"
    create_markdown_artifact(text, key="summary", description=outcome.message)


def _linked(path: Path, file_url: str) -> str:
    url = file_url.format(path=quote(str(path)))
    return f"`{path}`" if url.startswith("file:") else f"[{path.name}]({url}) `{path}`"


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
