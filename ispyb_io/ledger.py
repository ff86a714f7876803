"""The ledger: which groups, processings and chunks there are, each once.

Every write is a get-or-create under a unique key and may be repeated, by several writers at a time:
the result is the same, and no row doubles.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, func, inspect, or_, select

from ispyb_io import ledger_tables
from ispyb_io.attempts import with_later_attempt
from ispyb_io.column_types import table
from ispyb_io.ledger_claims import Claims
from ispyb_io.ledger_groups import GROUP, HISTORY, MEMBER, GroupLedger, require
from ispyb_io.ledger_records import Chunk, Processing, WorkStatus, chunk_from, processing_from
from ispyb_io.ledger_totals import LedgerTotals, recent_counts, totals_of
from ispyb_io.protocol import RejectedError
from ispyb_io.results import shorten
from ispyb_io.transactions import put, reading, writing

PROCESSING = table(ledger_tables.SsxProcessing)
CHUNK = table(ledger_tables.SsxChunk)
WORK = table(ledger_tables.SsxChunkWork)
UNFINISHED = (WorkStatus.PLANNED, WorkStatus.RUNNING)
LONGEST_MESSAGE = 2000
"""Characters; MariaDB refuses the whole row for a text of more than 65535 bytes."""


class Ledger(GroupLedger):
    """The ledger in the database behind an engine; safe to use from several threads and processes.

    Parameters
    ----------
    engine
        From ``open_engine``: the ISPyB database if it has the ledger's tables, or one of our own.
        It is the caller's to dispose of.
    clock
        Local time.
    proposal
        Only its groups and their processings are listed, and those of files without a group.
    """

    @cached_property
    def claims(self) -> Claims:
        """Who works on what."""
        return Claims(self._engine)

    def totals(self) -> LedgerTotals:
        """How much there is of what, over all proposals."""
        return totals_of(self._engine)

    def recent_counts(self, n: int) -> list[dict[str, Any]]:
        """Counts of the results that ended last, the newest first, of all proposals."""
        return recent_counts(self._engine, n)

    def create_tables(self) -> None:
        """Make the tables that are not there; needs the right to do so.

        A ledger of a former version is brought up to date in place: it lacks whole tables only.
        """
        try:
            with writing(self._engine, "create the ledger's tables") as connection:
                had_history = inspect(connection).has_table(HISTORY.name)
                ledger_tables.LedgerBase.metadata.create_all(connection)
                if not had_history:
                    connection.execute(ledger_tables.first_history())
        except RejectedError as error:
            raise RejectedError(
                f"{error}; the ledger's tables are not there or of a former version: their owner runs the "
                "statements that ssx ispyb ledger-sql prints"
            ) from error

    def begin(
        self,
        key: str,
        *,
        folder: Path,
        settings: Mapping[str, Any],
        versions: Mapping[str, Any],
        group_id: int | None = None,
        data_collection_group_id: int | None = None,
        started_by: str = "",
        again: bool = False,
        result_is_lost: bool = False,
    ) -> Processing:
        """Enter a processing as running; one that has a result already is returned as it is.

        Parameters
        ----------
        key
            Hash of the input's identity and of the settings: a processing of the same key gives the
            same result.
        again
            Begin it though it has a result, e.g. to try the failed chunks of a partial one. That result
            stands, with its status, until there is another; the message says that an attempt began.
        result_is_lost
            The files of the result it had are gone: it begins as if it never had one.
        """
        with writing(self._engine, f"processing {key}") as connection:
            before = connection.execute(_by_key(key)).first()
            stands = _has_result(before) and not result_is_lost
            if before is not None and stands and not again:
                return processing_from(before)
            now = self._now()
            values = {
                "ssxProcessingGroupId": group_id,
                "dataCollectionGroupId": data_collection_group_id,
                "attempts": 1 if before is None else before.attempts + 1,
                "startedBy": started_by[:45],
                "started": now,
            }
            if before is not None and stands:
                values["message"] = _with_attempt(before.message, f"began {now:%Y-%m-%d %H:%M}")
            else:
                what = {"folder": str(folder), "settings": dict(settings), "versions": dict(versions)}
                values |= _running(before) | what
            put(connection, PROCESSING, {"processingKey": key}, values)
            return processing_from(connection.execute(_by_key(key)).one())

    def finish(
        self,
        key: str,
        status: WorkStatus,
        *,
        message: str = "",
        counts: Mapping[str, Any] | None = None,
        program_ids: Collection[int] = (),
        versions: Mapping[str, Any] | None = None,
        attempts: int | None = None,
    ) -> Processing:
        """Enter the outcome of a processing: success, partial or failed.

        A failed attempt leaves the result of an earlier one as it is, whose files are still there; the
        message notes it. Program ids only ever add up.

        Parameters
        ----------
        versions
            What computed the result, if others began it.
        attempts
            Count attempts from here on anew; None: as they were counted.
        """
        if status in UNFINISHED:
            raise RejectedError(f"{status} is no outcome; expected success, partial or failed")
        with writing(self._engine, f"processing {key}") as connection:
            before = require(connection, _by_key(key), "processing", key)
            values: dict[str, Any] = {
                "autoProcProgramIds": sorted({*before.autoProcProgramIds, *program_ids})
            }
            if status is WorkStatus.FAILED and _has_result(before):
                values["message"] = _with_attempt(before.message, f"failed: {message}")
            else:
                keep_counts = counts is None or (status is WorkStatus.FAILED and not counts)
                values |= {
                    "status": status.value,
                    "ended": self._now(),
                    "message": shorten(message, LONGEST_MESSAGE),
                    "counts": before.counts if keep_counts else dict(counts or {}),
                    "versions": before.versions if versions is None else dict(versions),
                    "attempts": before.attempts if attempts is None else attempts,
                }
            put(connection, PROCESSING, {"processingKey": key}, values)
            return processing_from(connection.execute(_by_key(key)).one())

    def add_program_ids(self, key: str, program_ids: Collection[int]) -> None:
        """Enter ISPyB's ids of what was delivered, at whatever time; they only add up."""
        with writing(self._engine, f"processing {key}") as connection:
            before = require(connection, _by_key(key), "processing", key).autoProcProgramIds
            together = sorted({*before, *program_ids})
            if together != before:
                put(connection, PROCESSING, {"processingKey": key}, {"autoProcProgramIds": together})

    def processing(self, key: str) -> Processing | None:
        """Return the processing with this key, None if it was never begun."""
        with reading(self._engine) as connection:
            row = connection.execute(_by_key(key)).first()
        return None if row is None else processing_from(row)

    def finished(self, key: str) -> bool:
        """Tell whether the processing has a result, whole or partial; a failed one has none."""
        processing = self.processing(key)
        return processing is not None and processing.status.has_result

    def processings(
        self, *, group_id: int | None = None, data_collection_group_id: int | None = None
    ) -> list[Processing]:
        """List the processings, oldest first, of one group or of all."""
        query = select(PROCESSING).order_by(PROCESSING.c.ssxProcessingId)
        if self._proposal is not None:
            own = select(GROUP.c.ssxProcessingGroupId).where(self._is_own())
            group = PROCESSING.c.ssxProcessingGroupId
            query = query.where(or_(group.is_(None), group.in_(own)))
        if group_id is not None:
            query = query.where(PROCESSING.c.ssxProcessingGroupId == group_id)
        if data_collection_group_id is not None:
            query = query.where(PROCESSING.c.dataCollectionGroupId == data_collection_group_id)
        with reading(self._engine) as connection:
            return [processing_from(row) for row in connection.execute(query)]

    def high_water_mark(self, started_by: str) -> int:
        """Derive the dataCollectionId up to which everything that ``started_by`` began has a result.

        It may be given to ``find_groups(newer_than=...)`` if ``started_by`` begins what it finds in
        the order it finds it. 0 before anything was begun.
        """
        mine = (
            select(MEMBER.c.dataCollectionId)
            .join(PROCESSING, PROCESSING.c.ssxProcessingGroupId == MEMBER.c.ssxProcessingGroupId)
            .where(PROCESSING.c.startedBy == started_by)
        )
        has_result = [status.value for status in WorkStatus if status.has_result]
        waiting = mine.where(PROCESSING.c.status.not_in(has_result)).subquery()
        known = mine.subquery()
        with reading(self._engine) as connection:
            first_waiting = connection.execute(select(func.min(waiting.c.dataCollectionId))).scalar()
            last_known = connection.execute(select(func.max(known.c.dataCollectionId))).scalar()
        return first_waiting - 1 if first_waiting is not None else (last_known or 0)

    def record_chunk(self, processing_key: str, chunk: Chunk) -> None:
        """Enter the state of a chunk; one with other content takes the place of the former.

        A late "running" does not undo the success of the same content.
        """
        self.record_chunks(processing_key, [chunk])

    def record_chunks(self, processing_key: str, chunks: Sequence[Chunk]) -> None:
        """Enter the states of chunks in one transaction: all of them or none."""
        for chunk in chunks:
            if chunk.status is WorkStatus.PARTIAL:
                raise RejectedError(f"chunk {chunk.index}: a chunk is whole or failed, never partial")
        with writing(self._engine, f"processing {processing_key}") as connection:
            processing = require(connection, _by_key(processing_key), "processing", processing_key)
            known = select(CHUNK).where(
                CHUNK.c.ssxProcessingId == processing.ssxProcessingId,
                CHUNK.c.chunkIndex.in_([chunk.index for chunk in chunks]),
            )
            before = {row.chunkIndex: row for row in connection.execute(known)}
            for chunk in chunks:
                self._record(connection, processing.ssxProcessingId, chunk, before.get(chunk.index))

    def _record(
        self, connection: Connection, processing_id: int, chunk: Chunk, before: Row[Any] | None
    ) -> None:
        if (
            before is not None
            and (before.chunkKey, before.status) == (chunk.key, WorkStatus.SUCCESS.value)
            and chunk.status in UNFINISHED
        ):
            return
        values = {
            "chunkKey": chunk.key,
            "frameStart": chunk.start,
            "frameStop": chunk.stop,
            "status": chunk.status.value,
            "attempts": chunk.attempts,
            "message": shorten(chunk.message, LONGEST_MESSAGE),
            "folder": "" if chunk.folder is None else str(chunk.folder),
            "counts": chunk.counts,
        }
        if before is None or any(getattr(before, name) != value for name, value in values.items()):
            key = {"ssxProcessingId": processing_id, "chunkIndex": chunk.index}
            chunk_id = put(connection, CHUNK, key, values | {"changedAt": self._now()})
        else:
            chunk_id = before.ssxChunkId
        if chunk.seconds is not None:
            work = {"chunkKey": chunk.key, "seconds": chunk.seconds, "worker": shorten(chunk.worker)}
            put(connection, WORK, {"ssxChunkId": chunk_id}, work)

    def chunks(self, processing_key: str) -> list[Chunk]:
        """List the chunks of a processing in the order of the plan."""
        query = (
            select(CHUNK)
            .join(PROCESSING, PROCESSING.c.ssxProcessingId == CHUNK.c.ssxProcessingId)
            .where(PROCESSING.c.processingKey == processing_key)
            .order_by(CHUNK.c.chunkIndex)
        )
        with reading(self._engine) as connection:
            work: dict[tuple[int, str], Any] = {}
            if inspect(connection).has_table(WORK.name):  # not in a ledger of a former version
                of_chunks = WORK.c.ssxChunkId.in_(query.with_only_columns(CHUNK.c.ssxChunkId).order_by(None))
                rows = connection.execute(select(WORK).where(of_chunks))
                work = {(row.ssxChunkId, row.chunkKey): row for row in rows}
            chunks = connection.execute(query).all()
        return [chunk_from(row, work.get((row.ssxChunkId, row.chunkKey))) for row in chunks]


def _has_result(row: Row[Any] | None) -> bool:
    return row is not None and WorkStatus(row.status).has_result


def _running(before: Row[Any] | None) -> dict[str, Any]:
    """State of a processing without a result; what an attempt before it counted and sent stays."""
    return {
        "status": WorkStatus.RUNNING.value,
        "ended": None,
        "message": "",
        "counts": {} if before is None else before.counts,
        "autoProcProgramIds": [] if before is None else before.autoProcProgramIds,
    }


def _with_attempt(message: str, what: str) -> str:
    return with_later_attempt(message, what, limit=LONGEST_MESSAGE)


def _by_key(key: str) -> Select[Any]:
    return select(PROCESSING).where(PROCESSING.c.processingKey == key)
