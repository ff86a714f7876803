"""Copies of the group records that were read, to go on from while ISPyB is away."""

import datetime
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy import Engine, delete, insert, select

from ispyb_io.column_types import table
from ispyb_io.outbox_tables import SsxGroupCopy
from ispyb_io.records import DataCollectionGroup
from ispyb_io.transactions import reading, writing

COPY = table(SsxGroupCopy)


class GroupCopies:
    """Copies of the records of one ISPyB, in the file of the outbox, which makes the tables.

    Parameters
    ----------
    engine, destination, clock
        As of ``Outbox``.
    """

    def __init__(
        self,
        engine: Engine,
        destination: str,
        clock: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._engine = engine
        self._destination = destination
        self._clock = clock

    def keep(self, group: DataCollectionGroup) -> None:
        """Take a copy in place of the former one."""
        key = {"destination": self._destination, "dataCollectionGroupId": group.group_id}
        values = {"readAt": self._clock(), "record": group.model_dump_json()}
        with writing(self._engine, "keep a copy") as connection:
            connection.execute(delete(COPY).filter_by(**key))
            connection.execute(insert(COPY).values(key | values))

    def find(self, group_id: int) -> tuple[DataCollectionGroup, datetime.datetime] | None:
        """Return a group's record and when it was read; None if it never was, or by another version."""
        query = select(COPY).filter_by(destination=self._destination, dataCollectionGroupId=group_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        try:
            return DataCollectionGroup.model_validate_json(row.record), row.readAt
        except ValidationError:
            return None
