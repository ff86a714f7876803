"""The tables of the outbox, in an SQLite file of our own.

They are spelt as the ledger's are. Here rows may be deleted: nobody else reads them.
"""

import datetime

from sqlalchemy import DateTime, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class OutboxBase(DeclarativeBase):
    """The tables of the outbox."""

    type_annotation_map = {int: Integer, str: String, datetime.datetime: DateTime}  # noqa: RUF012


class SsxOutbox(OutboxBase):
    """A result on its way to ISPyB."""

    __tablename__ = "SsxOutbox"
    __table_args__ = (
        Index("ssx_outbox_next", "state", "destination", "ssxOutboxId"),
        # ids are never used twice, or a record that came late would pass for an early one
        {"sqlite_autoincrement": True},
    )
    ssxOutboxId: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    resultKey: Mapped[str]
    resultStatus: Mapped[str]
    processingKey: Mapped[str | None]
    proposal: Mapped[str | None]
    record: Mapped[str] = mapped_column(Text)
    state: Mapped[str]
    enqueued: Mapped[datetime.datetime]
    attempts: Mapped[int]
    changedAt: Mapped[datetime.datetime]
    reason: Mapped[str] = mapped_column(Text)
    autoProcProgramId: Mapped[int | None]


class SsxGroupCopy(OutboxBase):
    """The record of a data collection group as it was read last."""

    __tablename__ = "SsxGroupCopy"
    destination: Mapped[str] = mapped_column(primary_key=True)
    dataCollectionGroupId: Mapped[int] = mapped_column(primary_key=True)
    readAt: Mapped[datetime.datetime]
    record: Mapped[str] = mapped_column(Text)
