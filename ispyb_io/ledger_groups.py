"""The ledger's groups: what is processed together, and since when, by whom and why."""

import datetime
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, select

from ispyb_io import ledger_tables
from ispyb_io.column_types import table
from ispyb_io.ledger_records import (
    GroupKind,
    Member,
    MembershipChange,
    ProcessingGroup,
    Rule,
    group_from,
    member_from,
)
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.transactions import insert_row, put, reading, writing

GROUP = table(ledger_tables.SsxProcessingGroup)
RULE = table(ledger_tables.SsxProcessingGroupRule)
MEMBER = table(ledger_tables.SsxProcessingGroupMember)
HISTORY = table(ledger_tables.SsxProcessingGroupHistory)


class GroupLedger:
    """The part of the ledger that knows groups and their members; see ``Ledger``."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], datetime.datetime] = datetime.datetime.now,
        proposal: str | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._proposal = proposal

    def ensure_group(
        self,
        proposal: str,
        name: str,
        *,
        kind: GroupKind = GroupKind.COLLECTED,
        data_collection_group_id: int | None = None,
        rule: Rule | None = None,
        created_by: str = "",
    ) -> ProcessingGroup:
        """Return the group of this name in the proposal, made if it is not there."""
        if not name or len(name) > 100:
            raise RejectedError(f"a group's name has 1 to 100 characters, got {len(name)}: {name[:40]!r}")
        if (rule is not None) != (kind is GroupKind.RULE):
            raise RejectedError(f"a group of kind {kind} with the rule {rule}; only kind rule has one")
        with writing(self._engine, f"group {proposal} {name}") as connection:
            query = _groups().where(GROUP.c.proposal == proposal, GROUP.c.name == name)
            if connection.execute(query).first() is None:
                values = {
                    "proposal": proposal,
                    "name": name,
                    "kind": kind.value,
                    "dataCollectionGroupId": data_collection_group_id,
                    "createdBy": created_by[:45],
                    "createdAt": self._now(),
                }
                id_ = insert_row(connection, GROUP, values)
                _insert_rule(connection, id_, rule)
            group = group_from(connection.execute(query).one())
        if (group.kind, group.data_collection_group_id, group.rule) != (kind, data_collection_group_id, rule):
            raise RejectedError(
                f"the name {name!r} in {proposal} belongs to a group of kind {group.kind} with "
                f"data collection group {group.data_collection_group_id} and the rule {group.rule}, wanted "
                f"kind {kind} with {data_collection_group_id} and {rule}; choose another name"
            )
        return group

    def groups(self, proposal: str | None = None) -> list[ProcessingGroup]:
        """List the groups, of one proposal or of all."""
        query = self._own_groups()
        if proposal is not None:
            query = query.where(GROUP.c.proposal == proposal)
        with reading(self._engine) as connection:
            return [group_from(row) for row in connection.execute(query)]

    def find_groups(self, name: str | int) -> list[ProcessingGroup]:
        """List the groups of this name, in whatever proposal; or the one with this id of the ledger."""
        column = GROUP.c.ssxProcessingGroupId if isinstance(name, int) else GROUP.c.name
        query = self._own_groups().where(column == name)
        with reading(self._engine) as connection:
            return [group_from(row) for row in connection.execute(query)]

    def _own_groups(self) -> Select[Any]:
        query = _groups().order_by(GROUP.c.ssxProcessingGroupId)
        return query if self._proposal is None else query.where(self._is_own())

    def _is_own(self) -> ColumnElement[bool]:
        return func.lower(GROUP.c.proposal) == (self._proposal or "").lower()

    def set_member(self, group_id: int, member: Member, *, changed_by: str = "") -> None:
        """Put a data collection into a group, or keep it out of it with a reason."""
        self.set_members(group_id, [member], changed_by=changed_by)

    def set_members(self, group_id: int, members: Collection[Member], *, changed_by: str = "") -> None:
        """Put data collections into a group, or keep them out of it: all of them or none."""
        with writing(self._engine, f"group {group_id}") as connection:
            for member in members:
                self._put_member(connection, group_id, member, changed_by)

    def add_members(
        self, group_id: int, data_collection_ids: Collection[int], *, changed_by: str = "", reason: str = ""
    ) -> list[int]:
        """Put data collections into a group; those already there, or kept out of it, stay as they are.

        Returns
        -------
        Those that are new.
        """
        with writing(self._engine, f"group {group_id}") as connection:
            query = select(MEMBER.c.dataCollectionId).where(MEMBER.c.ssxProcessingGroupId == group_id)
            known = set(connection.execute(query).scalars())
            new = sorted(set(data_collection_ids) - known)
            for id_ in new:
                self._put_member(
                    connection, group_id, Member(data_collection_id=id_, reason=reason), changed_by
                )
        return new

    def _put_member(self, connection: Connection, group_id: int, member: Member, changed_by: str) -> None:
        """Enter a member and the change; what is so already is no change."""
        require(connection, _groups().where(GROUP.c.ssxProcessingGroupId == group_id), "group", group_id)
        key = {"ssxProcessingGroupId": group_id, "dataCollectionId": member.data_collection_id}
        before = connection.execute(
            select(MEMBER).where(*(MEMBER.c[name] == value for name, value in key.items()))
        ).first()
        if before is not None and member_from(before) == member:
            return
        values = {
            "included": member.included,
            "reason": member.reason,
            "changedBy": changed_by[:45],
            "changedAt": self._now(),
        }
        put(connection, MEMBER, key, values)
        last = select(func.max(HISTORY.c.changeNumber)).where(
            *(HISTORY.c[name] == value for name, value in key.items())
        )
        number = (connection.execute(last).scalar() or 0) + 1
        insert_row(connection, HISTORY, {**key, "changeNumber": number, **values})

    def members(self, group_id: int) -> list[Member]:
        """List the members of a group, those kept out too."""
        query = (
            select(MEMBER)
            .where(MEMBER.c.ssxProcessingGroupId == group_id)
            .order_by(MEMBER.c.dataCollectionId)
        )
        with reading(self._engine) as connection:
            return [member_from(row) for row in connection.execute(query)]

    def excluded(self, data_collection_group_id: int) -> dict[int, str]:
        """Reasons of the data collections that are kept out of a group of ISPyB, by their ids."""
        query = (
            select(MEMBER.c.dataCollectionId, MEMBER.c.reason)
            .join(GROUP, GROUP.c.ssxProcessingGroupId == MEMBER.c.ssxProcessingGroupId)
            .where(
                GROUP.c.dataCollectionGroupId == data_collection_group_id,
                GROUP.c.kind == GroupKind.COLLECTED.value,
                MEMBER.c.included.is_(False),
            )
            .order_by(MEMBER.c.dataCollectionId)
        )
        with reading(self._engine) as connection:
            return {row.dataCollectionId: row.reason for row in connection.execute(query)}

    def history(self, group_id: int) -> list[MembershipChange]:
        """List all changes of the members of a group, the oldest first."""
        query = (
            select(HISTORY)
            .where(HISTORY.c.ssxProcessingGroupId == group_id)
            .order_by(HISTORY.c.ssxProcessingGroupHistoryId)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            MembershipChange(member=member_from(row), changed_by=row.changedBy, changed_at=row.changedAt)
            for row in rows
        ]

    def _now(self) -> datetime.datetime:
        return self._clock().replace(microsecond=0)


def require(connection: Connection, query: Select[Any], what: str, which: object) -> Row[Any]:
    """Return the row; NotFoundError if there is none."""
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no {what} {which} in the ledger; begin it first")
    return row


def _groups() -> Select[Any]:
    """Groups with their rules."""
    of = RULE.c.dataCollectionGroupId.label("ruleDataCollectionGroupId")
    with_rule = RULE.c.ssxProcessingGroupId == GROUP.c.ssxProcessingGroupId
    return select(GROUP, RULE.c.relation, of).select_from(GROUP).outerjoin(RULE, with_rule)


def _insert_rule(connection: Connection, group_id: int, rule: Rule | None) -> None:
    if rule is not None:
        values = {
            "ssxProcessingGroupId": group_id,
            "relation": rule.relation.value,
            "dataCollectionGroupId": rule.data_collection_group_id,
        }
        insert_row(connection, RULE, values)
