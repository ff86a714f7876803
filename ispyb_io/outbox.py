"""The outbox: results on their way to ISPyB, kept until ISPyB has them.

A result is first put here, in one transaction on the disk of this machine, and then delivered
(``delivery.py``), at once or whenever ISPyB answers again. A record is *waiting* until ISPyB has it
(*delivered*) or says that it never will (*refused*). Who is killed in between leaves a waiting record,
and writing it to ISPyB once more changes nothing there.
"""

import datetime
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, delete, func, insert, select, true, update

from ispyb_io.column_types import table
from ispyb_io.outbox_records import OutboxRecord, RecordState, kind_and_subject, record_from
from ispyb_io.outbox_tables import OutboxBase, SsxOutbox
from ispyb_io.protocol import NotFoundError
from ispyb_io.results import Outgoing, ResultStatus
from ispyb_io.transactions import reading, writing

OUTBOX = table(SsxOutbox)
IS_WAITING = OUTBOX.c.state == RecordState.WAITING.value
DELIVERED_KEPT = datetime.timedelta(days=30)
"""For so long one can still look up what was delivered when."""


class Outbox:
    """The records for one ISPyB in an outbox; safe to use from several threads and processes.

    Parameters
    ----------
    engine
        From ``open_engine(..., durable=True)``; an SQLite file on a local disk.
    destination
        The ISPyB: see ``engines.destination_of``. Records for another one are listed, never delivered.
    proposal
        Only this proposal's records are listed, tried again and dropped; none: all. Delivered are all.
    clock
        Local time.
    """

    def __init__(
        self,
        engine: Engine,
        destination: str,
        *,
        proposal: str | None = None,
        clock: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._engine = engine
        self._proposal = proposal
        self._clock = clock
        self.destination = destination

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(self._engine.url.database or "").absolute()

    def create_tables(self) -> None:
        """Make the tables that are not there."""
        with writing(self._engine, "create the outbox") as connection:
            OutboxBase.metadata.create_all(connection)

    def append(
        self,
        result: Outgoing,
        processing_key: str | None = None,
        proposal: str | None = None,
    ) -> int:
        """Put a result at the end of the queue; returns its id in the outbox.

        What still waits to say that the same result is running is needless then, and goes. It stays
        before a failure, which tells less: files, rates and cell would be missing in ISPyB.
        """
        kind, subject = kind_and_subject(result)
        now = self._clock()
        with writing(self._engine, "append") as connection:
            if result.status is not ResultStatus.FAILED:
                connection.execute(
                    delete(OUTBOX).where(
                        self._waits_here,
                        OUTBOX.c.subject == subject,
                        OUTBOX.c.resultKey == result.key,
                        OUTBOX.c.resultStatus == ResultStatus.RUNNING.value,
                    )
                )
            values = {
                "destination": self.destination,
                "kind": kind,
                "subject": subject,
                "resultKey": result.key,
                "resultStatus": result.status.value,
                "processingKey": processing_key,
                "proposal": proposal,
                "record": result.model_dump_json(),
                "state": RecordState.WAITING.value,
                "enqueued": now,
                "attempts": 0,
                "changedAt": now,
                "reason": "",
            }
            (record_id,) = connection.execute(insert(OUTBOX).values(values)).inserted_primary_key or (0,)
        return record_id

    def next_waiting(self) -> OutboxRecord | None:
        """Oldest record that waits for this ISPyB; None if ISPyB has everything."""
        found = self._records(_in_order().where(self._waits_here).limit(1))
        return found[0] if found else None

    def records(self, state: RecordState) -> list[OutboxRecord]:
        """List the records in a state, oldest first; those for another ISPyB too."""
        return self._records(_in_order().where(OUTBOX.c.state == state.value, self._visible))

    def among(self, record_ids: Collection[int]) -> list[OutboxRecord]:
        """List those of the records that are still there, whatever their state."""
        chosen = OUTBOX.c.ssxOutboxId.in_(list(record_ids))
        return self._records(_in_order().where(chosen, self._visible))

    def count_waiting(self) -> int:
        """Count the records that wait for this ISPyB."""
        query = select(func.count()).where(self._waits_here)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def mark_tried(self, record: OutboxRecord, reason: str) -> None:
        """Note why a record still waits."""
        self._change(record, attempts=OUTBOX.c.attempts + 1, reason=reason)

    def mark_refused(self, record: OutboxRecord, reason: str) -> None:
        """Note that ISPyB will never take a record."""
        refused = RecordState.REFUSED.value
        self._change(record, attempts=OUTBOX.c.attempts + 1, reason=reason, state=refused)

    def mark_delivered(self, record: OutboxRecord, program_id: int | None) -> None:
        """Note that ISPyB has a record."""
        delivered = RecordState.DELIVERED.value
        self._change(
            record,
            attempts=OUTBOX.c.attempts + 1,
            reason="",
            state=delivered,
            autoProcProgramId=program_id,
        )

    def retry(self, record_id: int | None = None) -> int:
        """Let a refused record, or all, wait again for the ISPyB configured now; returns how many do.

        One that waits for another ISPyB is moved to this one, if it is named.

        Raises
        ------
        NotFoundError
            The record named is neither refused nor waiting for another ISPyB.
        """
        refused = OUTBOX.c.state == RecordState.REFUSED.value
        if record_id is None:
            chosen = refused & (OUTBOX.c.destination == self.destination)
        else:
            elsewhere = IS_WAITING & (OUTBOX.c.destination != self.destination)
            chosen = (OUTBOX.c.ssxOutboxId == record_id) & (refused | elsewhere)
        changes = {"state": RecordState.WAITING.value, "destination": self.destination}
        with writing(self._engine, "retry") as connection:
            n_chosen = connection.execute(
                update(OUTBOX).where(chosen, self._visible).values(changes | {"changedAt": self._clock()})
            ).rowcount
        if record_id is not None and not n_chosen:
            raise NotFoundError(_not_there(record_id, "is tried again"))
        return n_chosen

    def drop(self, record_id: int) -> OutboxRecord:
        """Forget a record that is refused, or waits for another ISPyB; returns what it was.

        Raises
        ------
        NotFoundError
            There is no such record.
        """
        found = [
            record
            for record in self.among([record_id])
            if record.state is RecordState.REFUSED
            or (record.state is RecordState.WAITING and record.destination != self.destination)
        ]
        if not found:
            raise NotFoundError(_not_there(record_id, "may be dropped"))
        with writing(self._engine, "drop") as connection:
            connection.execute(delete(OUTBOX).where(OUTBOX.c.ssxOutboxId == record_id))
        return found[0]

    def thin_out(self) -> None:
        """Forget what was delivered long ago."""
        old = self._clock() - DELIVERED_KEPT
        with writing(self._engine, "thin out") as connection:
            connection.execute(
                delete(OUTBOX).where(OUTBOX.c.state == RecordState.DELIVERED.value, OUTBOX.c.changedAt < old)
            )

    @property
    def _waits_here(self) -> ColumnElement[bool]:
        return IS_WAITING & (OUTBOX.c.destination == self.destination)

    @property
    def _visible(self) -> ColumnElement[bool]:
        return true() if self._proposal is None else func.lower(OUTBOX.c.proposal) == self._proposal.lower()

    def _change(self, record: OutboxRecord, **values: Any) -> None:
        """Change a record that still waits; one that went meanwhile, as needless, stays gone."""
        where = (OUTBOX.c.ssxOutboxId == record.record_id, IS_WAITING)
        with writing(self._engine, "change") as connection:
            connection.execute(update(OUTBOX).where(*where).values(changedAt=self._clock(), **values))

    def _records(self, query: Select[*tuple[Any, ...]]) -> list[OutboxRecord]:
        with reading(self._engine) as connection:
            return [record_from(row) for row in connection.execute(query)]


def _in_order() -> Select[*tuple[Any, ...]]:
    return select(*OUTBOX.columns).order_by(OUTBOX.c.ssxOutboxId)


def _not_there(record_id: int, what: str) -> str:
    return (
        f"the outbox has no record {record_id} that {what}: only one that ISPyB refused, or that waits for "
        "another ISPyB; see ssx ispyb outbox"
    )
