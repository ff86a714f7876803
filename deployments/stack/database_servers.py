"""PostgreSQL for Prefect and MariaDB for ISPyB, each on a folder of its own and reached by a socket only."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL

from deployments.stack.programs import Program, StackError, debian_program

POSTGRESQL = "postgresql"
MARIADB = "mariadb-server-core"


def postgresql(folder: Path) -> Program:
    """A PostgreSQL with a database ``prefect``, not started yet."""
    data, user = folder / "data", None
    data.mkdir(parents=True)
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = _account()
        for path in (folder, data):
            shutil.chown(path, user)
    initdb = postgresql_program("initdb")
    _run([initdb, "--auth=trust", "--username=prefect", "--encoding=UTF8", "--no-sync", str(data)], user)
    options = ["-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=", "-c", "fsync=off"]
    return Program(
        "PostgreSQL",
        [postgresql_program("postgres"), "-D", str(data), *options],
        os.environ,
        folder / "log",
        lambda: _answers([postgresql_program("psql"), *_prefect_at(folder), "-c", "select 1", "postgres"]),
        user,
    )


def create_prefects_database(folder: Path) -> None:
    """Make an empty one in a PostgreSQL that runs; one that is there is lost."""
    for statement in ("drop database if exists prefect with (force)", "create database prefect"):
        _run([postgresql_program("psql"), *_prefect_at(folder), "-c", statement, "postgres"])


def prefects_url(folder: Path) -> str:
    """Address of Prefect's database."""
    return f"postgresql+asyncpg://prefect@/prefect?host={folder}"


def postgresql_program(name: str) -> str:
    """Debian keeps them apart by version."""
    return debian_program(name, POSTGRESQL, *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))))


def mariadb(folder: Path, *options: str) -> Program:
    """A MariaDB without databases, not started yet.

    Parameters
    ----------
    options
        Further ones of the server.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, as_root = f"--datadir={folder / 'data'}", ["--user=root"] if os.geteuid() == 0 else []
    install = debian_program("mariadb-install-db", MARIADB)
    _run([install, "--no-defaults", data, "--auth-root-authentication-method=normal", *as_root])
    listening = mariadb_socket(folder)
    command = [debian_program("mariadbd", MARIADB), "--no-defaults", data, f"--socket={listening}"]
    return Program(
        "MariaDB",
        [*command, "--skip-networking", *options, *as_root],
        os.environ,
        folder / "log",
        lambda: _takes_connections(listening),
    )


def mariadb_socket(folder: Path) -> Path:
    """Where it listens."""
    return folder / "socket"


def mariadb_url(folder: Path, database: str, *, user: str = "root", password: str | None = None) -> URL:
    """Address of one of its databases."""
    query = {"unix_socket": str(mariadb_socket(folder))}
    return URL.create("mysql+pymysql", username=user, password=password, database=database, query=query)


def _takes_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _prefect_at(folder: Path) -> list[str]:
    return ["-q", "-h", str(folder), "-U", "prefect"]


def _answers(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _account() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise StackError("PostgreSQL does not run as root, and there is no account postgres or nobody")


def _run(command: Sequence[str], user: str | None = None) -> None:
    done = subprocess.run(command, user=user, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise StackError(f"{Path(command[0]).name}: {done.stderr.strip() or done.stdout.strip()}")
