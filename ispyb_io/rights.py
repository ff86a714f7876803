"""What an account may do with the tables, found by trying: statements that touch no row, rolled back.

Grants in words (SHOW GRANTS) leave out what comes by roles, by wildcards and by proxies; the server knows.
"""

from collections.abc import Collection, Iterable
from typing import Literal

from sqlalchemy import Engine, Executable, Table, false, insert, null, select, update

from ispyb_io.flavour import Flavour
from ispyb_io.protocol import IspybError
from ispyb_io.records import Record
from ispyb_io.result_tables import ImageQualityIndicators
from ispyb_io.site_tables import ExperimentType, ispyb_tables
from ispyb_io.tables import Base, BLSession
from ispyb_io.transactions import reading

Action = Literal["SELECT", "INSERT", "UPDATE"]


class Right(Record):
    """Whether the account may do one thing with one table."""

    table: str
    action: Action
    allowed: bool
    reason: str = ""
    """What the database said, where it is not allowed."""


def read_tables() -> list[Table]:
    """Tables that are only read: the experiment's, in the order of their names."""
    return _tables(ours=False)


def written_tables() -> list[Table]:
    """Tables that results are written to."""
    return _tables(ours=True)


def _tables(*, ours: bool) -> list[Table]:
    of_experiment = {ExperimentType.__tablename__} | {
        mapper.class_.__tablename__
        for mapper in Base.registry.mappers
        if mapper.class_.__module__ == BLSession.__module__
    }
    return [table for name, table in sorted(ispyb_tables().items()) if (name not in of_experiment) is ours]


def rights_in(engine: Engine, flavour: Flavour, *, with_images: bool = True) -> list[Right]:
    """Try each thing that we do with each of ISPyB's tables that is there.

    Parameters
    ----------
    with_images
        Also what telling of each image needs.

    Raises
    ------
    UnavailableError
        The database does not answer.
    """
    with reading(engine):  # an account that may not even connect is told so once
        pass
    reads = [table for table in read_tables() if flavour.has(table.name)]
    left_out = set() if with_images else {ImageQualityIndicators.__tablename__}
    writes = [t for t in written_tables() if flavour.has(t.name) and t.name not in left_out]
    columns = {t.name: {c.name for c in flavour.columns(t)} for t in (*reads, *writes)}
    return [
        *rights_on(engine, reads, ("SELECT",), columns),
        *rights_on(engine, writes, ("SELECT", "INSERT", "UPDATE"), columns),
    ]


def rights_on(
    engine: Engine,
    tables: Iterable[Table],
    actions: Collection[Action],
    columns: dict[str, set[str]] | None = None,
) -> list[Right]:
    """Try some actions on tables that are there.

    Parameters
    ----------
    columns
        Of each table those that are there; by default all.
    """
    return [
        _right(engine, table, action, (columns or {}).get(table.name) or {c.name for c in table.columns})
        for table in tables
        for action in actions
    ]


def _right(engine: Engine, table: Table, action: Action, names: Collection[str]) -> Right:
    try:
        with reading(engine) as connection:
            connection.execute(_statement(table, action, names))
            connection.rollback()
    except IspybError as error:
        reason = " ".join(str(error).split())
        return Right(table=table.name, action=action, allowed=False, reason=reason)
    return Right(table=table.name, action=action, allowed=True)


def _statement(table: Table, action: Action, names: Collection[str]) -> Executable:
    """Statement for all columns and no row; so the server looks at the rights, and at nothing else."""
    columns = [column for column in table.columns if column.name in names]
    if action == "SELECT":
        return select(*columns).where(false())
    keys = table.primary_key.columns
    others = [column for column in columns if column.name not in keys or len(keys) > 1] or columns
    if action == "UPDATE":
        return update(table).where(false()).values({column.name: column for column in others})
    nothing = select(*(null() for _ in others)).where(false())
    return insert(table).from_select([column.name for column in others], nothing, include_defaults=False)
