"""A MariaDB of the tests' own, and the schemas that facilities publish in it.

The server runs on a temporary folder and listens on a socket only. Each published schema is made by
its own package (see data/published_schemas) and then copied, table by table, into a database of its own
(see kept_databases.py).
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import URL, Engine, insert

from deployments.stack.database_servers import mariadb, mariadb_socket, mariadb_url
from deployments.stack.programs import MissingProgramError
from ispyb_io.column_types import table
from ispyb_io.embedded import COMPONENT_TYPES, CONCENTRATION_TYPES, EVENT_TYPES, create_ispyb_tables
from ispyb_io.engines import open_engine
from ispyb_io.site_tables import ExperimentType, ispyb_tables
from ispyb_io.tables import Base, ComponentType, ConcentrationType, EventType

ROOT = Path(__file__).parent.parent
CREATE_ALL = Path(__file__).parent / "data" / "published_schemas" / "create_all.py"
PACKAGES = {
    "esrf": "ispyb-models==1.1.0",
    "maxiv": "ispyb-models-pyispyb==1.3.2",
    "diamond": "ispyb==12.1.1",
}
MYSQL_8_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
"""MySQL's default, stricter than MariaDB's; we have no MySQL to run."""
EXPERIMENT_TYPE_ROWS = [
    {"experimentTypeId": 37, "name": "Standard"},
    {"experimentTypeId": 38, "name": "Serial Fixed"},
    {"experimentTypeId": 39, "name": "Serial Jet"},
]
"""Some of those that Diamond's lookups.sql makes."""
FASTER = (
    "--skip-log-bin",
    "--skip-innodb-doublewrite",
    "--innodb-flush-method=nosync",
    "--skip-innodb-file-per-table",  # TRUNCATE then makes no file: seven times as fast
)
"""A server that nobody else reaches, and whose data nobody misses."""


class MariadbServer:
    """A server that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, mariadb_socket(folder)
        try:
            self._program = mariadb(folder, *FASTER)
        except MissingProgramError as error:
            pytest.skip(str(error))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._program.start()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._program.kill()

    def url(self, database: str, *, user: str = "root", password: str | None = None) -> URL:
        """Address of one of its databases."""
        return mariadb_url(self.folder, database, user=user, password=password)


@contextmanager
def running_mariadb() -> Iterator[MariadbServer]:
    """A fresh server, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ssx-"))  # a short path: sockets allow 107 characters
    try:
        server = MariadbServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database_name() -> str:
    """A name that no database has yet."""
    return f"ispyb_{uuid.uuid4().hex[:8]}"


def run_as_root(server: MariadbServer, statement: str) -> None:
    """Run a statement that belongs to no database, e.g. CREATE DATABASE, CREATE USER, GRANT."""
    with (
        pymysql.connect(unix_socket=str(server.socket), user="root") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@contextmanager
def sql_mode(server: MariadbServer, mode: str) -> Iterator[None]:
    """Let connections that are opened now have this mode."""
    run_as_root(server, f"SET GLOBAL sql_mode = '{mode}'")
    try:
        yield
    finally:
        run_as_root(server, "SET GLOBAL sql_mode = DEFAULT")


@contextmanager
def new_database(server: MariadbServer) -> Iterator[Engine]:
    """An empty database, dropped at the end: for what the kept ones cannot do."""
    name = new_database_name()
    run_as_root(server, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    engine = open_engine(server.url(name))
    try:
        yield engine
    finally:
        engine.dispose()
        run_as_root(server, f"DROP DATABASE {name}")


def create_statements(engine: Engine, tables: Iterable[str]) -> list[str]:
    """The tables of a database as statements: these run much faster than create_all."""
    with engine.connect() as connection:
        return [connection.exec_driver_sql(f"SHOW CREATE TABLE `{name}`").one()[1] for name in tables]


def our_statements(server: MariadbServer) -> list[str]:
    """Our own models as MariaDB's tables."""
    with new_database(server) as engine:
        create_ispyb_tables(engine)
        return create_statements(engine, Base.metadata.tables)


def schema_identity(facility: str) -> str:
    """Name of what ``published_statements`` returns: another one if that would differ."""
    parts = (PACKAGES[facility], CREATE_ALL.read_text(), *sorted(ispyb_tables()))
    return f"{facility}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def published_statements(server: MariadbServer, facility: str) -> list[str]:
    """Tables of a facility's schema that we touch, and all that these refer to."""
    with new_database(server) as engine:
        url = engine.url.render_as_string(hide_password=False)
        command = [
            _uv(),
            "run",
            "--quiet",
            "--no-project",
            "--python",
            sys.executable,
            "--with",
            PACKAGES[facility],
        ]
        command += ["--with", "pymysql", "python", str(CREATE_ALL), url, *ispyb_tables()]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{PACKAGES[facility]} made no tables: {done.stderr[-1000:]}")
        return create_statements(engine, json.loads(done.stdout))


def _uv() -> str:
    return subprocess.run(
        [ROOT / "deployments" / "get-uv.sh"], check=True, capture_output=True, text=True
    ).stdout.strip()


def make_tables(engine: Engine, statements: Iterable[str]) -> None:
    """Run the statements, whatever their order, and fill the tables that hold words."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 1")
        for model, words in ((EventType, EVENT_TYPES), (ComponentType, COMPONENT_TYPES)):
            connection.execute(insert(table(model)), [{"name": word} for word in words])
        units = [{"name": name, "symbol": symbol} for name, symbol in CONCENTRATION_TYPES.items()]
        connection.execute(insert(table(ConcentrationType)), units)
        if connection.dialect.has_table(connection, ExperimentType.__tablename__):
            connection.execute(insert(table(ExperimentType)), EXPERIMENT_TYPE_ROWS)
