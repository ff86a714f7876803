"""The databases on which the ISPyB tests run: SQLite, and MariaDB with three published schemas."""

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.ledger import Ledger
from ispyb_io.orm_client import OrmClient
from ispyb_io.records import Event, EventChain, SsxDetails
from tests.kept_databases import KeptDatabases
from tests.mariadb import (
    MariadbServer,
    our_statements,
    published_statements,
    running_mariadb,
    schema_identity,
)

PUBLISHED = ("esrf_ispyb", "maxiv_ispyb", "diamond_ispyb")
READABLE = ("sqlite_ispyb", *PUBLISHED)
START = datetime.datetime(2026, 11, 21, 9, 0, 0)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A MariaDB that runs for the session."""
    with running_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_statements(mariadb: MariadbServer, pytestconfig: pytest.Config) -> Callable[[str], list[str]]:
    """The tables of a kind of ISPyB as statements.

    A published schema never changes, so it is made once and kept in pytest's cache (--cache-clear
    makes it anew).
    """

    def statements(kind: str) -> list[str]:
        if kind == "ours":
            return our_statements(mariadb)
        kept = f"published_schemas/{schema_identity(kind)}"
        found = pytestconfig.cache.get(kept, None)
        if found is None:
            found = published_statements(mariadb, kind)
            pytestconfig.cache.set(kept, found)
        return found

    return statements


@pytest.fixture(scope="session")
def kept_databases(mariadb: MariadbServer, mariadb_statements: Callable[[str], list[str]]) -> KeptDatabases:
    """A database of each kind for the whole session, emptied after each test."""
    return KeptDatabases(mariadb, mariadb_statements)


@pytest.fixture
def sqlite_ispyb(tmp_path: Path) -> Iterator[Engine]:
    engine = create_embedded_ispyb(tmp_path / "ispyb.db")
    yield engine
    engine.dispose()


@pytest.fixture
def mariadb_ispyb(kept_databases: KeptDatabases) -> Iterator[Engine]:
    """MariaDB with the tables as we make them."""
    with kept_databases["ours"].lent() as engine:
        yield engine


@pytest.fixture
def esrf_ispyb(kept_databases: KeptDatabases) -> Iterator[Engine]:
    """MariaDB with the tables as ispyb-models makes them."""
    with kept_databases["esrf"].lent() as engine:
        yield engine


@pytest.fixture
def maxiv_ispyb(kept_databases: KeptDatabases) -> Iterator[Engine]:
    """MariaDB with the tables as ispyb-models-pyispyb makes them."""
    with kept_databases["maxiv"].lent() as engine:
        yield engine


@pytest.fixture
def diamond_ispyb(kept_databases: KeptDatabases) -> Iterator[Engine]:
    """MariaDB with the tables as Diamond's ispyb.sqlalchemy makes them."""
    with kept_databases["diamond"].lent() as engine:
        yield engine


@pytest.fixture(params=READABLE)
def ispyb(request: pytest.FixtureRequest) -> Engine:
    """Each kind of ISPyB database in turn: the embedded one and published schemas."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(ispyb: Engine) -> OrmClient:
    return OrmClient(ispyb)


@pytest.fixture
def chip() -> CollectedChip:
    return a_chip()


def a_chip() -> CollectedChip:
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
