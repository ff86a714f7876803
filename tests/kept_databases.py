"""Databases that stay for the whole session and are emptied after each test.

To make the 45 tables of a published schema takes a second, to empty the few that a test wrote takes some
hundredths of one. A test may do to its database what it likes: tables that it adds are dropped, and if
it changes or drops one, all of them are made anew for the next test.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from ispyb_io.engines import open_engine
from tests.mariadb import MariadbServer, make_tables, new_database_name, run_as_root

COLUMNS = """
    SELECT table_name, column_name, column_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position
"""
USED_KEYS = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = DATABASE() AND auto_increment > 1
"""  # a row that was rolled back used its key all the same

Rows = Sequence[Sequence[Any]]


@dataclass
class KeptDatabase:
    """One database with the tables of one kind, the same at the start of each test."""

    server: MariadbServer
    statements: list[str]
    """Which make its tables."""
    name: str = ""
    columns: Rows = ()
    """As they were at first."""
    words: dict[str, Rows] = field(default_factory=dict)
    """Rows that were there at first: those of the tables that hold words."""

    @contextmanager
    def lent(self) -> Iterator[Engine]:
        """Lend it to one test."""
        if not self.name:
            self._make()
        engine = open_engine(self.server.url(self.name))
        try:
            yield engine
        finally:
            engine.dispose()
            self._take_back()

    def _take_back(self) -> None:
        """Clean it for the next test, or drop it if that cannot be."""
        engine = open_engine(self.server.url(self.name))
        with engine.connect() as connection:
            reusable = self._clean(connection)
        engine.dispose()
        if not reusable:
            run_as_root(self.server, f"DROP DATABASE {self.name}")
            self.name = ""

    def _make(self) -> None:
        self.name = new_database_name()
        run_as_root(self.server, f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4")
        engine = open_engine(self.server.url(self.name))
        make_tables(engine, self.statements)
        with engine.connect() as connection:
            self.columns = connection.exec_driver_sql(COLUMNS).all()
            self.words = {name: _all_rows(connection, name) for name in self._with_rows(connection)}
        engine.dispose()

    def _with_rows(self, connection: Connection) -> set[str]:
        names = sorted({row[0] for row in self.columns})
        each = (f"SELECT '{name}' FROM DUAL WHERE EXISTS (SELECT 1 FROM `{name}`)" for name in names)  # noqa: S608
        return set(connection.exec_driver_sql(" UNION ALL ".join(each)).scalars())

    def _clean(self, connection: Connection) -> bool:
        """Make it as it was at first; False if it cannot be made so."""
        run = connection.exec_driver_sql
        run("SET FOREIGN_KEY_CHECKS = 0")
        run("SET lock_wait_timeout = 10")  # seconds; a transaction left open would stop us for a day
        added = set(run("SHOW TABLES").scalars()) - {row[0] for row in self.columns}
        for name in added:
            run(f"DROP TABLE `{name}`")
        if run(COLUMNS).all() != self.columns:
            return False
        changed = self._with_rows(connection) | set(run(USED_KEYS).scalars())
        for name in changed | set(self.words):
            before = self.words.get(name, ())
            if before and _all_rows(connection, name) == before:
                continue
            run(f"TRUNCATE `{name}`")
            if before:
                places = ", ".join(["%s"] * len(before[0]))
                run(f"INSERT INTO `{name}` VALUES ({places})", [tuple(row) for row in before])  # noqa: S608
        connection.commit()
        return True


def _all_rows(connection: Connection, table: str) -> Rows:
    return connection.exec_driver_sql(f"SELECT * FROM `{table}` ORDER BY 1").all()  # noqa: S608


class KeptDatabases:
    """The kept database of each kind, made when first asked for."""

    def __init__(self, server: MariadbServer, statements: Callable[[str], list[str]]) -> None:
        self._server = server
        self._statements = statements
        self._made: dict[str, KeptDatabase] = {}

    def __getitem__(self, kind: str) -> KeptDatabase:
        if kind not in self._made:
            self._made[kind] = KeptDatabase(self._server, self._statements(kind))
        return self._made[kind]
