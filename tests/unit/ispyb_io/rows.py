"""What the tests look at: rows as dictionaries."""

from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import DeclarativeBase

from ispyb_io.tables import table


def rows(engine: Engine, model: type[DeclarativeBase]) -> list[dict[str, Any]]:
    """All rows of a table in the order of their primary key."""
    with engine.connect() as connection:
        query = select(table(model)).order_by(*table(model).primary_key.columns)
        return [dict(row) for row in connection.execute(query).mappings()]


def count(engine: Engine, model: type[DeclarativeBase]) -> int:
    """Number of rows."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table(model))).scalar_one()
