"""Our tables, with the unique keys that ISPyB lacks.

They may live in the ISPyB database, where its owner runs what ``ssx ispyb ledger-sql`` prints, or in a
database of their own. So they refer to ISPyB's rows by plain ids, without foreign keys, and are named
and spelt as ISPyB's tables are.

The ledger grows by tables, never by columns of a table that is there: then what makes a new ledger also
brings an old one up to date, on every server.
"""

import datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    DateTime,
    Float,
    Insert,
    Integer,
    String,
    Text,
    UniqueConstraint,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ispyb_io.column_types import Key, Text45, Text255, reference


def _exact(length: int) -> String:
    """Text of a unique key: MariaDB's usual collation would take "Dark" and "dark" for the same."""
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(binary, "mysql", "mariadb")


ExactText100 = Annotated[str, mapped_column(_exact(100))]
Hash = Annotated[str, mapped_column(_exact(64))]


class LedgerBase(DeclarativeBase):
    """The tables of the ledger."""

    type_annotation_map = {  # noqa: RUF012
        float: Float,
        int: Integer,
        datetime.datetime: DateTime,
        dict[str, Any]: JSON,
        list[int]: JSON,
    }


class SsxProcessingGroup(LedgerBase):
    """Data collections that are processed together."""

    __tablename__ = "SsxProcessingGroup"
    __table_args__ = (UniqueConstraint("proposal", "name", name="ssx_group_name"),)
    ssxProcessingGroupId: Mapped[Key]
    proposal: Mapped[ExactText100]
    name: Mapped[ExactText100]
    kind: Mapped[Text45]
    dataCollectionGroupId: Mapped[int | None] = mapped_column(index=True)
    createdBy: Mapped[Text45]
    createdAt: Mapped[datetime.datetime]


class SsxProcessingGroupMember(LedgerBase):
    """A data collection in a group, or kept out of it with a reason."""

    __tablename__ = "SsxProcessingGroupMember"
    __table_args__ = (UniqueConstraint("ssxProcessingGroupId", "dataCollectionId", name="ssx_member"),)
    ssxProcessingGroupMemberId: Mapped[Key]
    ssxProcessingGroupId: Mapped[int] = reference("SsxProcessingGroup.ssxProcessingGroupId")
    dataCollectionId: Mapped[int] = mapped_column(index=True)
    included: Mapped[bool]
    reason: Mapped[Text255]
    changedBy: Mapped[Text45]
    changedAt: Mapped[datetime.datetime]


class SsxProcessingGroupHistory(LedgerBase):
    """One change of a membership, from the first on; rows are added and never changed."""

    __tablename__ = "SsxProcessingGroupHistory"
    __table_args__ = (
        UniqueConstraint(
            "ssxProcessingGroupId", "dataCollectionId", "changeNumber", name="ssx_membership_change"
        ),
    )
    ssxProcessingGroupHistoryId: Mapped[Key]
    ssxProcessingGroupId: Mapped[int] = reference("SsxProcessingGroup.ssxProcessingGroupId")
    dataCollectionId: Mapped[int] = mapped_column(index=True)
    changeNumber: Mapped[int]
    included: Mapped[bool]
    reason: Mapped[Text255]
    changedBy: Mapped[Text45]
    changedAt: Mapped[datetime.datetime]


class SsxProcessingGroupRule(LedgerBase):
    """How members are found for a group that was made by a rule."""

    __tablename__ = "SsxProcessingGroupRule"
    __table_args__ = (UniqueConstraint("ssxProcessingGroupId", name="ssx_rule"),)
    ssxProcessingGroupRuleId: Mapped[Key]
    ssxProcessingGroupId: Mapped[int] = reference("SsxProcessingGroup.ssxProcessingGroupId")
    relation: Mapped[Text45]
    dataCollectionGroupId: Mapped[int]


class SsxProcessing(LedgerBase):
    """One processing of a group with one input and one set of settings; its key is the hash of these."""

    __tablename__ = "SsxProcessing"
    __table_args__ = (UniqueConstraint("processingKey", name="ssx_processing_key"),)
    ssxProcessingId: Mapped[Key]
    processingKey: Mapped[Hash]
    ssxProcessingGroupId: Mapped[int | None] = reference("SsxProcessingGroup.ssxProcessingGroupId")
    dataCollectionGroupId: Mapped[int | None] = mapped_column(index=True)
    status: Mapped[Text45]
    attempts: Mapped[int]
    startedBy: Mapped[Text45]
    started: Mapped[datetime.datetime | None]
    ended: Mapped[datetime.datetime | None]
    message: Mapped[str] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    counts: Mapped[dict[str, Any]]
    autoProcProgramIds: Mapped[list[int]]
    settings: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]


class SsxChunk(LedgerBase):
    """A range of frames of a processing."""

    __tablename__ = "SsxChunk"
    __table_args__ = (UniqueConstraint("ssxProcessingId", "chunkIndex", name="ssx_chunk_index"),)
    ssxChunkId: Mapped[Key]
    ssxProcessingId: Mapped[int] = reference("SsxProcessing.ssxProcessingId")
    chunkIndex: Mapped[int]
    chunkKey: Mapped[Hash]
    frameStart: Mapped[int]
    frameStop: Mapped[int]
    status: Mapped[Text45]
    attempts: Mapped[int]
    message: Mapped[str] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    counts: Mapped[dict[str, Any]]
    changedAt: Mapped[datetime.datetime]


class SsxChunkWork(LedgerBase):
    """What a chunk took when it was computed, or tried, last."""

    __tablename__ = "SsxChunkWork"
    __table_args__ = (UniqueConstraint("ssxChunkId", name="ssx_chunk_work"),)
    ssxChunkWorkId: Mapped[Key]
    ssxChunkId: Mapped[int] = reference("SsxChunk.ssxChunkId")
    chunkKey: Mapped[Hash]
    seconds: Mapped[float]
    worker: Mapped[Text255]


class SsxClaim(LedgerBase):
    """Who works on a processing, or did last."""

    __tablename__ = "SsxClaim"
    __table_args__ = (UniqueConstraint("claimKey", name="ssx_claim_key"),)
    ssxClaimId: Mapped[Key]
    claimKey: Mapped[Hash]
    proposal: Mapped[ExactText100] = mapped_column(index=True)
    token: Mapped[Text45]
    host: Mapped[Text255]
    pid: Mapped[int]
    processStart: Mapped[Text45]
    beat: Mapped[int]
    isHeld: Mapped[bool]


def first_history() -> Insert:
    """Statement that begins the history of members from before there was one with how they are now."""
    member, history = SsxProcessingGroupMember.__table__, SsxProcessingGroupHistory.__table__
    names = ["ssxProcessingGroupId", "dataCollectionId", "included", "reason", "changedBy", "changedAt"]
    is_known = (
        select(history.c.changeNumber)
        .where(*(history.c[name] == member.c[name] for name in names[:2]))
        .exists()
    )
    source = select(*(member.c[name] for name in names), literal_column("1")).where(~is_known)
    return insert(SsxProcessingGroupHistory).from_select([*names, "changeNumber"], source)
