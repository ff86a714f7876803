"""What the ledger takes and gives, in our names."""

import datetime
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from sqlalchemy import Row

from ispyb_io.records import Record, Relation

HashText = Annotated[str, Field(min_length=1, max_length=64)]


class GroupKind(StrEnum):
    """Where a processing group comes from."""

    COLLECTED = "collected"
    """It is a DataCollectionGroup, as the beamline made it."""
    CHOSEN = "chosen"
    """A person chose its members."""
    RULE = "rule"
    """Its members are found by a rule; later ones join."""


class WorkStatus(StrEnum):
    """State of a processing or of a chunk."""

    PLANNED = "planned"
    RUNNING = "running"
    SUCCESS = "success"
    PARTIAL = "partial"
    """Of a processing only: there is a result, but some chunks are not in it; the message says which."""
    FAILED = "failed"

    @property
    def has_result(self) -> bool:
        """Whether there is something to show."""
        return self in (WorkStatus.SUCCESS, WorkStatus.PARTIAL)


class Rule(Record):
    """How the members of a group are found."""

    relation: Relation
    data_collection_group_id: int
    """The group of ISPyB that the others are related to."""


class ProcessingGroup(Record):
    """Data collections that are processed together."""

    group_id: int
    """Of the ledger, not ISPyB's."""
    proposal: str
    name: str
    kind: GroupKind
    data_collection_group_id: int | None
    created_by: str
    created_at: datetime.datetime
    rule: Rule | None = None
    """Of a group made by a rule."""


class Member(Record):
    """A data collection in a processing group, or kept out of it."""

    data_collection_id: int
    included: bool = True
    reason: Annotated[str, Field(max_length=255)] = ""
    """Why it is kept out; required then."""

    @model_validator(mode="after")
    def _exclusion_has_reason(self) -> Self:
        if not self.included and not self.reason.strip():
            raise ValueError(
                f"data collection {self.data_collection_id} is excluded without a reason; give one"
            )
        return self


class MembershipChange(Record):
    """One entry of the history of a group."""

    member: Member
    """As it was from then on."""
    changed_by: str
    changed_at: datetime.datetime


class Processing(Record):
    """One processing of a group with one input and one set of settings."""

    key: HashText
    group_id: int | None
    """Processing group in the ledger; None for images without ISPyB."""
    data_collection_group_id: int | None
    status: WorkStatus
    attempts: int
    """How many times it was begun."""
    started_by: str
    started: datetime.datetime | None
    """When it was begun last."""
    ended: datetime.datetime | None
    message: str
    folder: Path
    counts: dict[str, Any]
    program_ids: tuple[int, ...]
    """ISPyB's autoProcProgramIds: per data collection, and of the merge."""
    settings: dict[str, Any]
    versions: dict[str, Any]


class Chunk(Record):
    """A range of frames of a processing, and what became of it."""

    index: Annotated[int, Field(ge=0)]
    """Place in the plan, from 0."""
    key: HashText
    """Content key; the name of its folder."""
    start: Annotated[int, Field(ge=0)]
    """First frame, from 0 over all files."""
    stop: int
    """One after the last frame."""
    status: WorkStatus
    attempts: Annotated[int, Field(ge=0)] = 0
    """How many times it was tried in all, as the caller counts them."""
    message: str = ""
    """Why it failed, in plain words."""
    folder: Path | None = None
    counts: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = None
    """Wall time of the try that computed it, or failed last; None if that is not known, and to leave it."""
    worker: str = ""
    """``host:pid`` of the process that did."""

    @property
    def images(self) -> str:
        """For people, who count from 1."""
        return f"{self.start + 1}-{self.stop}"

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"chunk {self.index} has no frames: start {self.start}, stop {self.stop}")
        return self


def newest_result(processings: Iterable[Processing]) -> Processing | None:
    """The processing that ended last of those with a result; None if none has one."""
    with_result = (processing for processing in processings if processing.status.has_result)
    return max(with_result, key=lambda processing: str(processing.ended), default=None)


def group_from(row: Row[Any]) -> ProcessingGroup:
    """Make a processing group of its row, joined with that of its rule."""
    relation, of = row.relation, row.ruleDataCollectionGroupId
    return ProcessingGroup(
        group_id=row.ssxProcessingGroupId,
        proposal=row.proposal,
        name=row.name,
        kind=GroupKind(row.kind),
        data_collection_group_id=row.dataCollectionGroupId,
        created_by=row.createdBy,
        created_at=row.createdAt,
        rule=None if relation is None else Rule(relation=Relation(relation), data_collection_group_id=of),
    )


def member_from(row: Row[Any]) -> Member:
    """Make a member of its row, or of one of its history."""
    return Member(data_collection_id=row.dataCollectionId, included=row.included, reason=row.reason)


def processing_from(row: Row[Any]) -> Processing:
    """Make a processing of its row."""
    return Processing(
        key=row.processingKey,
        group_id=row.ssxProcessingGroupId,
        data_collection_group_id=row.dataCollectionGroupId,
        status=WorkStatus(row.status),
        attempts=row.attempts,
        started_by=row.startedBy,
        started=row.started,
        ended=row.ended,
        message=row.message,
        folder=Path(row.folder),
        counts=row.counts,
        program_ids=tuple(row.autoProcProgramIds),
        settings=row.settings,
        versions=row.versions,
    )


def chunk_from(row: Row[Any], work: Row[Any] | None) -> Chunk:
    """Make a chunk of its row and that of its work."""
    return Chunk(
        index=row.chunkIndex,
        key=row.chunkKey,
        start=row.frameStart,
        stop=row.frameStop,
        status=WorkStatus(row.status),
        attempts=row.attempts,
        message=row.message,
        folder=Path(row.folder) if row.folder else None,
        counts=row.counts,
        seconds=None if work is None else work.seconds,
        worker="" if work is None else work.worker,
    )
