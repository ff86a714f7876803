"""Transactions under a lock, rows by natural key, and database errors in our own words.

ISPyB has no unique keys on which an idempotent write could rest. So each get-or-create runs under a
lock that all writers of the same thing take: GET_LOCK on MariaDB and MySQL, BEGIN IMMEDIATE (one
writer for the whole file) on SQLite.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, insert, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ispyb_io.engines import WRITING, shown
from ispyb_io.protocol import IspybError, RejectedError, UnavailableError

LOCK_TIMEOUT_S = 30
PASSING_MARIADB_ERRORS = {
    1040,  # too many connections
    1053,  # server shutdown in progress
    1203,  # too many connections of this user
    1205,  # lock wait timeout
    1213,  # deadlock
    1290,  # read only, as during a fail-over
    1927,  # connection was killed
}
"""What MariaDB says of its state and not of the request; so do the client's own, 2000 to 2999."""


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn SQLAlchemy's errors into UnavailableError or RejectedError."""
    try:
        yield
    except IspybError:
        raise
    except SQLAlchemyError as error:
        where = shown(engine.url)
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        if _is_passing(error):
            raise UnavailableError(f"{where}: {reason}; trying again later may help") from error
        raise RejectedError(f"{where}: {reason}; trying again will not help") from error


def _is_passing(error: SQLAlchemyError) -> bool:
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    cause = error.orig
    code = cause.args[0] if cause is not None and cause.args else None
    if isinstance(code, int):
        return code in PASSING_MARIADB_ERRORS or 2000 <= code < 3000
    # SQLite: locked, disk full, read only pass; an error in the statement stays
    permanent = ("no such", "has no column", "syntax error", "already exists")
    return type(cause).__name__ == "OperationalError" and not any(word in str(cause) for word in permanent)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a connection for reading, its errors translated."""
    with translated(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, lock: str) -> Iterator[Connection]:
    """Transaction that no other writer of the same ``lock`` runs at the same time.

    Commits at the end, rolls back on any error.
    """
    with translated(engine), engine.connect() as plain:
        connection = plain.execution_options(**{WRITING: True})
        if engine.dialect.name == "sqlite":
            with connection.begin():
                yield connection
            return
        name = "ssx:" + hashlib.sha256(lock.encode()).hexdigest()[:32]  # MariaDB allows 64 characters
        _take_lock(connection, name, lock)
        try:
            with connection.begin():
                yield connection
        finally:
            if not connection.invalidated:
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
                connection.rollback()


def _take_lock(connection: Connection, name: str, lock: str) -> None:
    """Take MariaDB's lock, which belongs to the connection, before the transaction begins."""
    taken = connection.execute(
        text("SELECT GET_LOCK(:name, :timeout)"), {"name": name, "timeout": LOCK_TIMEOUT_S}
    ).scalar()
    connection.rollback()
    if taken != 1:
        raise UnavailableError(f"another writer has held the lock {lock!r} for {LOCK_TIMEOUT_S} s")


def find(connection: Connection, table: Table, key: Mapping[str, Any]) -> int | None:
    """Id of the oldest row with these values, None if there is none."""
    primary_key = next(iter(table.primary_key.columns))
    query = select(primary_key).order_by(primary_key).limit(1)
    return connection.execute(query.where(*(table.c[name] == value for name, value in key.items()))).scalar()


def put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Make the row with this natural key hold these values; returns its id.

    Only safe in a transaction of ``writing`` whose lock covers the natural key.
    """
    existing = find(connection, table, key)
    if existing is None:
        return insert_row(connection, table, {**key, **values})
    if values:
        primary_key = next(iter(table.primary_key.columns))
        connection.execute(update(table).where(primary_key == existing).values(dict(values)))
    return existing


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    primary_key = connection.execute(insert(table).values(dict(values))).inserted_primary_key
    if primary_key is None or primary_key[0] is None:
        raise RejectedError(
            f"{table.name}: the database gave no id to a new row; is its key auto-incremented?"
        )
    return primary_key[0]
