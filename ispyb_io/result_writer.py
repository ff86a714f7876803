"""Results as rows of ISPyB: found again by natural key, updated in place, status last, never deleted.

A program of ours is known by ``processingEnvironment``: ``ssxorch:<key>`` for a data collection, and
``ssxorch:<key> merge:<name>`` for a merged result; it is found through its integrations, which every
schema has. What is below a program is in ``result_rows.py``; how results of one thing are linked, in
``attempts.py`` and docs/explanations/decisions/0015-results-are-kept-and-linked.md.

Every function here runs inside one transaction of ``transactions.writing``.
"""

import datetime
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from ispyb_io import result_tables as results_in
from ispyb_io.attempts import (
    Attempt,
    environment,
    holder,
    is_about,
    linked_messages,
    with_later_attempt,
)
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.image_rows import ImageRows
from ispyb_io.processing_jobs import put_job
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.result_rows import INTEGRATION, ResultRows
from ispyb_io.results import CollectionResult, ImageQuality, MergedMember, MergedResult, ResultStatus
from ispyb_io.ssx_result_rows import put_ssx_result
from ispyb_io.tables import DataCollection

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = table(results_in.AutoProcProgram)
COLLECTION = table(DataCollection)
IDS = ("dataCollectionId", "processingJobId")
"""Columns of a program that some schemas lack."""


class ResultWriter:
    """Writes one result through one connection."""

    def __init__(self, connection: Connection, flavour: Flavour, now: datetime.datetime) -> None:
        self._connection = connection
        self._flavour = flavour
        self._now = now.replace(microsecond=0)
        self._rows = ResultRows(connection, flavour, self._now)

    def write_collection_result(self, result: CollectionResult) -> int:
        """Write the one row that a data collection has for this key; returns the autoProcProgramId."""
        id_ = result.data_collection_id
        self._require_collections([id_])
        member = MergedMember(**result.model_dump(include=set(MergedMember.model_fields)))
        existing = self._find(result.key, [id_], None)
        if existing is not None and _stands(existing, result):
            return self._note(existing, result)
        program_id, _ = self._put_program(existing, result, [member])
        self._finish_program(program_id, result)
        attempts = self._attempts([id_], None)
        self._link(attempts)
        self._give_page(id_, attempts)
        holds = holder(attempts).program_id == program_id
        put_ssx_result(self._connection, self._flavour, result, self._now, holds=holds)
        return program_id

    def write_merged_result(self, result: MergedResult) -> int:
        """Write the one row that a merge of this name has for this key; returns the autoProcProgramId."""
        ids = [member.data_collection_id for member in result.members]
        self._require_collections(ids)
        ever = {*ids, *result.ever_members}
        existing = self._find(result.key, ever, result.name)
        if existing is not None and _stands(existing, result):
            return self._note(existing, result)
        program_id, integrations = self._put_program(existing, result, result.members)
        if result.status is ResultStatus.SUCCESS:
            self._rows.put_merged_numbers(program_id, result, integrations)
        self._finish_program(program_id, result)
        self._link(self._attempts(ever, result.name))
        return program_id

    def write_images(self, quality: ImageQuality, images: "pd.DataFrame") -> int:
        """Write the rows of images of a data collection's result; returns the autoProcProgramId."""
        id_ = quality.data_collection_id
        attempts = self._attempts([id_], None)
        own = next((a for a in attempts if a.environment == environment(quality.key)), None)
        if own is None:
            raise RejectedError(
                f"data collection {id_} has no result {quality.key} in ISPyB; its images come after it"
            )
        earlier = [attempt.program_id for attempt in attempts if attempt.place <= own.place]
        rows = ImageRows(self._connection, self._flavour, self._now)
        rows.put(id_, own.program_id, earlier, images)
        return own.program_id

    def _require_collections(self, ids: list[int]) -> None:
        query = select(COLLECTION.c.dataCollectionId).where(COLLECTION.c.dataCollectionId.in_(ids))
        missing = sorted(set(ids) - set(self._connection.execute(query).scalars()))
        if missing:
            raise NotFoundError(f"there is no data collection {', '.join(map(str, missing))} in ISPyB")

    def _attempts(self, data_collection_ids: Collection[int], name: str | None) -> list[Attempt]:
        """Our programs about these data collections, or about merges of this name with any of them."""
        on_them = select(INTEGRATION.c.autoProcProgramId).where(
            INTEGRATION.c.dataCollectionId.in_(data_collection_ids)
        )
        there = [name for name in IDS if self._flavour.has(PROGRAM.name, name)]
        query = select(
            PROGRAM.c.autoProcProgramId,
            PROGRAM.c.processingEnvironment,
            PROGRAM.c.processingStatus,
            PROGRAM.c.processingMessage,
            PROGRAM.c.processingStartTime,
            *(PROGRAM.c[name] for name in there),
        ).where(PROGRAM.c.autoProcProgramId.in_(on_them))
        rows = self._connection.execute(query.order_by(PROGRAM.c.autoProcProgramId)).mappings()
        return [
            Attempt(
                program_id=row["autoProcProgramId"],
                environment=row["processingEnvironment"],
                status=self._flavour.status_of(row["processingStatus"]),
                started=row["processingStartTime"],
                message=row["processingMessage"] or "",
                data_collection_id=row.get("dataCollectionId"),
                job_id=row.get("processingJobId"),
            )
            for row in rows
            if is_about(row["processingEnvironment"], name)
        ]

    def _find(self, key: str, data_collection_ids: Collection[int], name: str | None) -> Attempt | None:
        """The oldest program of this key."""
        attempts = self._attempts(data_collection_ids, name)
        return next((a for a in attempts if a.environment == environment(key, name)), None)

    def _put_program(
        self,
        existing: Attempt | None,
        result: CollectionResult | MergedResult,
        members: Sequence[MergedMember],
    ) -> tuple[int, list[int]]:
        """Put the program, RUNNING until all is there as some readers see dirty rows, and what is below it.

        Returns its id and those of its integrations.
        """
        name = result.name if isinstance(result, MergedResult) else None
        values: dict[str, Any] = {
            "processingEnvironment": environment(result.key, name),
            "processingPrograms": result.program,
            "processingCommandLine": result.command_line,
            "processingStatus": self._flavour.status(ResultStatus.RUNNING),
            "processingJobId": put_job(self._rows, self._flavour, existing, result, members),
        }
        if existing is None:
            program_id = self._rows.add(PROGRAM, values | self._parent(name, members))
        else:
            program_id = self._rows.put(PROGRAM, {"autoProcProgramId": existing.program_id}, values)
        integrations = [self._rows.put_integration(program_id, member) for member in members]
        self._rows.put_attachments(program_id, result.attachments)
        if result.status is not ResultStatus.RUNNING:
            self._rows.put_messages(program_id, result.messages)
        return program_id, integrations

    def _parent(self, name: str | None, members: Sequence[MergedMember]) -> dict[str, int]:
        """The program that a merge of one data collection builds on; a merge of several has none."""
        if name is None or len(members) > 1:
            return {}
        of_collection = self._attempts([members[0].data_collection_id], None)
        return {"parentAutoProcProgramId": holder(of_collection).program_id} if of_collection else {}

    def _finish_program(self, program_id: int, result: CollectionResult | MergedResult) -> None:
        self._rows.put(
            PROGRAM,
            {"autoProcProgramId": program_id},
            {
                "processingMessage": result.message,
                "processingStartTime": result.started,
                "processingEndTime": result.ended,
                "processingStatus": self._flavour.status(result.status),
            },
        )

    def _note(self, existing: Attempt, result: CollectionResult | MergedResult) -> int:
        """Leave a success as it is; its message tells of a repetition that failed."""
        if result.status is ResultStatus.FAILED:
            own = with_later_attempt(existing.own_message, f"{result.key[:8]} failed: {result.message}")
            self._say(existing, own + existing.message[len(existing.own_message) :])
        return existing.program_id

    def _link(self, attempts: Sequence[Attempt]) -> None:
        """Let the messages of results of one thing name the one before and the one after."""
        messages = linked_messages(attempts)
        for attempt in attempts:
            if messages[attempt.program_id] != attempt.message:
                self._say(attempt, messages[attempt.program_id])

    def _say(self, attempt: Attempt, message: str) -> None:
        key = {"autoProcProgramId": attempt.program_id}
        self._rows.put(PROGRAM, key, {"processingMessage": message})

    def _give_page(self, data_collection_id: int, attempts: Sequence[Attempt]) -> None:
        """Let the result that holds, and no other of ours, be counted at the data collection."""
        if not self._flavour.has(PROGRAM.name, "dataCollectionId"):
            return
        chosen = holder(attempts)
        for attempt in sorted(attempts, key=lambda a: a is chosen):  # taken away before it is given
            id_ = data_collection_id if attempt is chosen else None
            if attempt.data_collection_id != id_:
                self._rows.put(PROGRAM, {"autoProcProgramId": attempt.program_id}, {"dataCollectionId": id_})


def _stands(existing: Attempt, result: CollectionResult | MergedResult) -> bool:
    """Whether a success stays as it is: a repetition began, or failed, or is an older one that comes late."""
    if existing.status is not ResultStatus.SUCCESS:
        return False
    older = result.started and existing.started and result.started < existing.started
    return bool(older) or result.status is not ResultStatus.SUCCESS
