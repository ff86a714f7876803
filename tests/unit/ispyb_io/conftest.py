"""The databases on which the ISPyB tests run: SQLite, a MariaDB of our making, and ESRF's own schema."""

import datetime
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import URL, Engine, insert

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.embedded import COMPONENT_TYPES, EVENT_TYPES, create_embedded_ispyb, create_ispyb_tables
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.orm_client import OrmClient
from ispyb_io.records import Event, EventChain, SsxDetails
from ispyb_io.tables import Base, ComponentType, EventType, table

ESRF_SCHEMA = Path(__file__).parents[2] / "data" / "esrf_schema" / "ispyb_models_1.1.0.sql"
START = datetime.datetime(2026, 11, 21, 9, 0, 0)


def _mariadb_program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        message = f"{name} is not installed (Debian: mariadb-server)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def mariadb_socket() -> Iterator[Path]:
    """Socket of a MariaDB that runs for the session, reached by nobody else: it listens on no port."""
    install, server = _mariadb_program("mariadb-install-db"), _mariadb_program("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="ssx-"))  # a short path: sockets allow 107 characters
    data, socket, log = folder / "data", folder / "socket", folder / "log"
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user],
        check=True,
        capture_output=True,
    )
    options = [
        "--skip-networking",
        "--skip-log-bin",
        "--skip-innodb-doublewrite",
        "--innodb-flush-method=nosync",
    ]
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            [server, "--no-defaults", f"--datadir={data}", f"--socket={socket}", *options, *user],
            stdout=subprocess.DEVNULL,
            stderr=log_file,
        )
    try:
        _wait_until_it_answers(socket, process, log)
        yield socket
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(socket: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while not socket.exists():  # it appears when the server listens
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"MariaDB did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
    pymysql.connect(unix_socket=str(socket), user="root").close()


@contextmanager
def new_database(socket: Path) -> Iterator[Engine]:
    """An empty database, dropped at the end."""
    name = f"ispyb_{uuid.uuid4().hex[:8]}"
    connection = pymysql.connect(unix_socket=str(socket), user="root")
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        query = {"unix_socket": str(socket)}
        engine = open_engine(URL.create("mysql+pymysql", username="root", database=name, query=query))
        yield engine
        engine.dispose()
        cursor.execute(f"DROP DATABASE {name}")


def make_tables(engine: Engine, statements: list[str]) -> None:
    """Run the statements, whatever their order, and fill the tables that hold words."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 1")
        for model, words in ((EventType, EVENT_TYPES), (ComponentType, COMPONENT_TYPES)):
            connection.execute(insert(table(model)), [{"name": word} for word in words])


@pytest.fixture(scope="session")
def our_statements(mariadb_socket: Path) -> list[str]:
    """What create_all made on MariaDB, as statements: these run twice as fast."""
    with new_database(mariadb_socket) as engine:
        create_ispyb_tables(engine)
        with engine.connect() as connection:
            shown = [connection.exec_driver_sql(f"SHOW CREATE TABLE {name}") for name in Base.metadata.tables]
            return [result.one()[1] for result in shown]


@pytest.fixture
def sqlite_ispyb(tmp_path: Path) -> Iterator[Engine]:
    engine = create_embedded_ispyb(tmp_path / "ispyb.db")
    yield engine
    engine.dispose()


@pytest.fixture
def mariadb_ispyb(mariadb_socket: Path, our_statements: list[str]) -> Iterator[Engine]:
    """MariaDB with the tables as we make them."""
    with new_database(mariadb_socket) as engine:
        make_tables(engine, our_statements)
        yield engine


@pytest.fixture
def esrf_ispyb(mariadb_socket: Path) -> Iterator[Engine]:
    """MariaDB with the tables as ispyb-models 1.1.0 makes them."""
    with new_database(mariadb_socket) as engine:
        make_tables(engine, [s for s in ESRF_SCHEMA.read_text().split(";\n") if s.strip()])
        yield engine


@pytest.fixture(params=["sqlite_ispyb", "mariadb_ispyb", "esrf_ispyb"])
def ispyb(request: pytest.FixtureRequest) -> Engine:
    """Each kind of ISPyB database in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(ispyb: Engine) -> OrmClient:
    return OrmClient(ispyb)


@pytest.fixture
def chip() -> CollectedChip:
    return CollectedChip(
        proposal="mx1234",
        beamline="ID29",
        session_start=START,
        protein_acronym="lyso",
        protein_name="lysozyme",
        sample_name="chip 7",
        unit_cell=(79.1, 79.1, 37.9, 90.0, 90.0, 90.0),
        space_group="P43212",
        image_directory=Path("/data/visitor/mx1234/id29/raw"),
        file_template="chip7_master.h5",
        n_images=2000,
        wavelength=1.0721,
        detector_distance_mm=175.0,
        beam_centre_mm=(77.5, 80.25),
        exposure_s=0.01,
        start_time=START,
        end_time=START + datetime.timedelta(minutes=5),
        detector="JUNGFRAU 4M",
        ssx=SsxDetails(repetition_rate=100.0, chip_model="HARE", chip_pattern="raster"),
        event_chains=(
            EventChain(
                name="light",
                events=(
                    Event(event_type="LaserExcitation", name="pump", offset=0.0, duration=0.125),
                    Event(event_type="XrayDetection", name="probe", offset=0.5, duration=0.25, repetition=1),
                ),
            ),
        ),
    )


@pytest.fixture
def collected(ispyb: Engine, chip: CollectedChip) -> CollectedIds:
    return write_collected_chip(ispyb, chip)


@pytest.fixture
def second(ispyb: Engine, chip: CollectedChip, collected: CollectedIds) -> CollectedIds:
    """Another data collection of the same sample, in the same group."""
    return write_collected_chip(ispyb, chip.model_copy(update={"file_template": "chip7b_master.h5"}))


@pytest.fixture(params=["sqlite_ispyb", "mariadb_ispyb"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A ledger in the ISPyB database, on each kind of server."""
    ledger = Ledger(request.getfixturevalue(request.param))
    ledger.create_tables()
    return ledger
