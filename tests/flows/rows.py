"""Looks into databases, past the code under test."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(database: Path, query: str) -> list[dict[str, Any]]:
    """Rows of a query as dictionaries."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def row_counts(database: Path) -> dict[str, int]:
    """Number of rows of every table."""
    names = [row["name"] for row in rows(database, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: rows(database, f'SELECT COUNT(*) AS n FROM "{name}"')[0]["n"] for name in names}  # noqa: S608
