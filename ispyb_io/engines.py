"""Connections to MariaDB, MySQL and SQLite, set up so that writes are safe and errors are seen."""

import re
import sqlite3
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from ispyb_io.protocol import RejectedError, UnavailableError

WRITING = "ssx_writing"
"""Execution option of connections that will write: SQLite then takes its lock at the start."""
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
SQLITE_BUSY_TIMEOUT_S = 30


def open_engine(url: str | Path | URL, *, create: bool = False, durable: bool = False) -> Engine:
    """Engine for a database; nothing is connected yet.

    Parameters
    ----------
    url
        ``mysql+pymysql://user:password@host/ispyb``, ``mariadb+pymysql://...``,
        ``sqlite:////path/to/file.db``, or just the path of an SQLite file.
    create
        Let a missing SQLite file be made. Without, connecting is an UnavailableError, lest a mistyped
        path, or a disk that is away, become a new, empty database.
    durable
        What SQLite commits is on the disk then, also if the machine loses its power.

    Raises
    ------
    RejectedError
        The address is of no kind that is known here, or cannot be taken apart. The message never tells
        the address as it was given: there may be a password anywhere in it.
    """
    parsed = _parse(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _open_sqlite(parsed, create=create, durable=durable)
    if backend in ("mysql", "mariadb"):
        return _open_mariadb(parsed)
    raise RejectedError(f"{shown(parsed)}: cannot use {backend}; give MariaDB, MySQL or SQLite")


def shown(url: URL) -> str:
    """Address as messages may show it: without the password, and without options, which may hold one.

    Examples
    --------
    >>> shown(make_url("mysql+pymysql://ssx:secret@host/ispyb?password=secret"))
    'mysql+pymysql://ssx:***@host/ispyb'
    """
    return url.set(query={}).render_as_string(hide_password=True)


def _parse(url: str | Path | URL) -> URL:
    is_path = isinstance(url, Path) or (isinstance(url, str) and "://" not in url)
    if is_path and not re.match("[^/]*:[^/]*@", str(url)):
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(str(url) if isinstance(url, Path) else url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError, ModuleNotFoundError) as error:
        problem = type(error).__name__
    else:
        # "user:p@ss@host" parses, but with the host "ss@host", which later messages would tell
        if not isinstance(url, str) or parsed.get_backend_name() == "sqlite" or url.count("@") < 2:
            return parsed
        problem = "more than one '@'"
    # Raised out here, not from the error, whose text quotes what may be a piece of the password.
    raise RejectedError(
        f"the address of the database is not understood ({problem}); expected e.g. "
        "mysql+pymysql://user:password@host/ispyb, where a user name, password or option with special "
        "characters has them escaped: %40 for '@', %3A for ':', %2F for '/', %25 for '%'"
    )


def destination_of(url: str | URL) -> str:
    """Name of the place that an address leads to: no account, password or options.

    Examples
    --------
    >>> destination_of("mysql+pymysql://me:secret@server/ispyb?charset=utf8mb4")
    'mysql://server:3306/ispyb'
    """
    url = _parse(url)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{Path(url.database or '').resolve()}"
    socket = url.query.get("unix_socket")
    host = socket if isinstance(socket, str) else f"{url.host or 'localhost'}:{url.port or 3306}"
    return f"mysql://{host}/{url.database}"


def _open_sqlite(url: URL, *, create: bool, durable: bool) -> Engine:
    if not url.database or url.database == ":memory:":
        raise RejectedError(
            "an SQLite database in memory is lost with its connection; give the path of a file"
        )
    path = Path(url.database).absolute()
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)

    def connect() -> sqlite3.Connection:
        if not create and not path.is_file():
            raise UnavailableError(f"{path}: no such database file; is the path right, the disk mounted?")
        # the mode, as SQLite would make a file that vanished since
        address = f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
        connection = sqlite3.connect(address, uri=True, timeout=SQLITE_BUSY_TIMEOUT_S)
        # sqlite3 would begin transactions by its own rules, too late for a read that decides on a write
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    # No pool: an SQLite connection costs 0.1 ms, and none is left open across a fork.
    engine = create_engine(url, poolclass=NullPool, creator=connect)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _open_mariadb(url: URL) -> Engine:
    return create_engine(
        url.set(drivername=f"{url.get_backend_name()}+pymysql"),
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "write_timeout": READ_TIMEOUT_S,
            # TLS where the server has it, but not to a socket on the same machine: it costs 40 ms each time
            "ssl_disabled": "unix_socket" in url.query,
            # else a server may cut texts and turn unknown enum labels into '' without a word
            "init_command": "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
        },
    )
