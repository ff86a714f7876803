"""Sums over the ledger, for those who watch a site and not a result; the database adds up."""

import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select

from ispyb_io import ledger_tables
from ispyb_io.column_types import table
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.records import Record
from ispyb_io.transactions import reading

PROCESSING, CHUNK = table(ledger_tables.SsxProcessing), table(ledger_tables.SsxChunk)
COUNTED = ("frames_total", "frames_unreadable", "frame_hits", "frames_indexed", "lattices_indexed")


class LedgerTotals(Record):
    """How much there is of what."""

    processings: dict[WorkStatus, int]
    """By status; merges again are processings too."""
    chunks: dict[WorkStatus, int]
    """By status, each chunk once, however many merges use it."""
    counts: dict[str, int]
    """Sums of `COUNTED` over the chunks done, each once."""
    last_ended: datetime.datetime | None
    """When the last processing ended."""


def totals_of(engine: Engine) -> LedgerTotals:
    """Add up the ledger behind an engine."""
    with reading(engine) as connection:
        return LedgerTotals(
            processings=_by_status(connection, PROCESSING, func.count()),
            chunks=_by_status(connection, CHUNK, func.count(CHUNK.c.chunkKey.distinct())),
            counts=_sums(connection),
            last_ended=connection.execute(select(func.max(PROCESSING.c.ended))).scalar(),
        )


def recent_counts(engine: Engine, n: int) -> list[dict[str, Any]]:
    """Counts of the results that ended last, the newest first."""
    query = (
        select(PROCESSING.c.counts)
        .where(PROCESSING.c.status.in_([s.value for s in WorkStatus if s.has_result]))
        .order_by(PROCESSING.c.ended.desc())
        .limit(n)
    )
    with reading(engine) as connection:
        return list(connection.execute(query).scalars())


def _by_status(connection: Connection, of: Table, number: Any) -> dict[WorkStatus, int]:
    found = dict(connection.execute(select(of.c.status, number).group_by(of.c.status)).tuples().all())
    return {status: found.get(status.value, 0) for status in WorkStatus}


def _sums(connection: Connection) -> dict[str, int]:
    each = (
        select(*(func.max(CHUNK.c.counts[name].as_integer()).label(name) for name in COUNTED))
        .where(CHUNK.c.status == WorkStatus.SUCCESS.value)
        .group_by(CHUNK.c.chunkKey)
        .subquery()
    )
    row = connection.execute(select(*(func.sum(each.c[name]).label(name) for name in COUNTED))).one()
    return {name: int(getattr(row, name) or 0) for name in COUNTED}
