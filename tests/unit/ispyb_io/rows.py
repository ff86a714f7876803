"""What the tests look at: rows as dictionaries."""

from typing import Any

from sqlalchemy import Engine, func, inspect, select
from sqlalchemy.orm import DeclarativeBase

from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.result_tables import AutoProcProgram


def rows(engine: Engine, model: type[DeclarativeBase]) -> list[dict[str, Any]]:
    """All rows of a table in the order of their primary key, with those of our columns that are there."""
    there = {column["name"] for column in inspect(engine).get_columns(model.__tablename__)}
    with engine.connect() as connection:
        query = select(*(column for column in table(model).columns if column.name in there))
        query = query.order_by(*(key for key in table(model).primary_key.columns if key.name in there))
        return [dict(row) for row in connection.execute(query).mappings()]


def statuses(engine: Engine) -> list[str | None]:
    """The status of all programs, in words whatever the column holds."""
    with engine.connect() as connection:
        flavour = Flavour.of(connection)
    values = [program["processingStatus"] for program in rows(engine, AutoProcProgram)]
    return [flavour.status_of(value) for value in values]


def count(engine: Engine, model: type[DeclarativeBase]) -> int:
    """Number of rows."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table(model))).scalar_one()
