"""What the outbox keeps of each result: what it is of, how far it has come, and the result itself."""

import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row

from ispyb_io.protocol import RejectedError
from ispyb_io.records import Record
from ispyb_io.results import CollectionResult, ImageQuality, MergedResult, Outgoing, ResultStatus

KINDS: dict[str, type[Outgoing]] = {
    "collection": CollectionResult,
    "merged": MergedResult,
    "images": ImageQuality,
}


class RecordState(StrEnum):
    """How far a record has come."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"


class OutboxRecord(Record):
    """A result in the outbox."""

    record_id: int
    destination: str
    """The ISPyB that it is for."""
    kind: str
    subject: str
    """What it is a result of, e.g. "data collection 12"."""
    status: ResultStatus
    """Of the result."""
    processing_key: str | None
    """Of the ledger's processing that it belongs to."""
    proposal: str | None
    content: str
    """The result, as JSON."""
    state: RecordState
    enqueued: datetime.datetime
    attempts: int
    changed_at: datetime.datetime
    """When it was tried, delivered or refused last."""
    reason: str
    """Why ISPyB does not have it yet, or refused it."""
    program_id: int | None
    """autoProcProgramId in ISPyB, once delivered."""

    def result(self) -> Outgoing:
        """Give the result back.

        Raises
        ------
        RejectedError
            It was written by another version, which knew other values.
        """
        try:
            return KINDS[self.kind].model_validate_json(self.content)
        except (KeyError, ValidationError) as error:
            raise RejectedError(
                f"record {self.record_id} of the outbox was written by another version and cannot be read: "
                f"{type(error).__name__}; process or merge again"
            ) from error


def kind_and_subject(result: Outgoing) -> tuple[str, str]:
    """Tell results apart: what kind one is, and of what."""
    if isinstance(result, CollectionResult):
        return "collection", f"data collection {result.data_collection_id}"
    if isinstance(result, ImageQuality):
        return "images", f"images of data collection {result.data_collection_id}"
    return "merged", f"merge {result.name}"


def record_from(row: Row[Any]) -> OutboxRecord:
    """Make the record of a row of the outbox."""
    return OutboxRecord(
        record_id=row.ssxOutboxId,
        destination=row.destination,
        kind=row.kind,
        subject=row.subject,
        status=ResultStatus(row.resultStatus),
        processing_key=row.processingKey,
        proposal=row.proposal,
        content=row.record,
        state=RecordState(row.state),
        enqueued=row.enqueued,
        attempts=row.attempts,
        changed_at=row.changedAt,
        reason=row.reason,
        program_id=row.autoProcProgramId,
    )
