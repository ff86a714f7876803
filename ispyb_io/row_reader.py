"""Rows by the values of a column, with the columns that the database at hand has."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from ispyb_io.flavour import Flavour

VALUES_PER_QUERY = 500


def rows_of(
    connection: Connection,
    query: Select[*tuple[Any, ...]],
    column: Any,
    values: Iterable[int] | Iterable[str],
) -> Iterable[RowMapping]:
    """Rows whose column has one of the values, a few hundred values at a time."""
    ordered = sorted(values)
    for start in range(0, len(ordered), VALUES_PER_QUERY):
        part = query.where(column.in_(ordered[start : start + VALUES_PER_QUERY]))
        yield from connection.execute(part).mappings()


def select_known(flavour: Flavour, *wanted: Table) -> Select[Any]:
    """Select what is there of these tables, as Table_column."""
    return select(*(c.label(f"{c.table.name}_{c.name}") for c in flavour.columns(*wanted)))


def values_of(row: RowMapping, table: str) -> Callable[[str], Any]:
    """Look-up of a table's values in a row; None where the column is not there."""
    return lambda column: row.get(f"{table}_{column}")
