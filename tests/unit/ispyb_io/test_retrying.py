"""What fails in passing is tried again, on a real server: nothing is lost, and nothing doubles."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, event, text

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.embedded import create_ispyb_tables
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import RejectedError, UnavailableError
from ispyb_io.results import CollectionResult
from ispyb_io.retrying import Patience, RetryingClient
from tests.mariadb import MariadbServer, new_database, running_mariadb

from .made_results import collection_result, counts, merged_result
from .rows import rows

ROWS_OF_A_MERGE = [1, 1, 1, 1, 1, 3, 1]
BRISK = Patience(attempts=6, first_pause_s=0.05)


@pytest.fixture
def collection_id(mariadb_ispyb: Engine, chip: CollectedChip) -> int:
    return write_collected_chip(mariadb_ispyb, chip).data_collection_id


@contextmanager
def before_statement(engine: Engine, start: str, act: Callable[[Connection], None]) -> Iterator[None]:
    """Act once, before the first statement that starts so."""
    done: list[str] = []

    def look(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.replace("`", "").startswith(start) and not done:
            done.append(statement)
            act(connection)

    event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", look)
    assert done, f"no statement {start}"


STATEMENTS = (
    "SELECT GET_LOCK",
    "INSERT INTO AutoProcProgram",
    "INSERT INTO AutoProcIntegration",
    "INSERT INTO AutoProcScalingStatistics",
    "UPDATE AutoProcProgram",
    "SELECT RELEASE_LOCK",
)


@pytest.mark.parametrize("start", STATEMENTS)
def test_a_connection_killed_in_mid_transaction_is_tried_again(
    mariadb_ispyb: Engine, collection_id: int, start: str
):
    def kill(connection: Connection) -> None:
        thread = connection.connection.dbapi_connection.thread_id()  # type: ignore[union-attr]
        with mariadb_ispyb.connect() as other:
            other.exec_driver_sql(f"KILL {thread}")

    client = RetryingClient(OrmClient(mariadb_ispyb), BRISK)
    with before_statement(mariadb_ispyb, start, kill):
        client.record_merged_result(merged_result(collection_id))
    assert counts(mariadb_ispyb) == ROWS_OF_A_MERGE
    assert rows(mariadb_ispyb, in_ispyb.AutoProcProgram)[0]["processingStatus"] == "SUCCESS"


def test_the_victim_of_a_deadlock_tries_again(mariadb_ispyb: Engine, collection_id: int):
    client = RetryingClient(OrmClient(mariadb_ispyb), BRISK)
    client.record_collection_result(collection_result(collection_id))
    failed = deadlocks(mariadb_ispyb)
    others: list[threading.Thread] = []
    with mariadb_ispyb.connect() as other:
        make_heavy(other, collection_id)  # the server ends the transaction that changed least
        other.execute(text("UPDATE AutoProcIntegration SET cell_a = 1 WHERE endImageNumber = 2000"))

        def cross(_: Connection) -> None:
            others.append(threading.Thread(target=take_the_programs_row, args=(other,)))
            others[0].start()
            time.sleep(0.3)

        with before_statement(mariadb_ispyb, "UPDATE AutoProcIntegration SET startImageNumber", cross):
            client.record_collection_result(collection_result(collection_id, message="again"))
        others[0].join()
    assert deadlocks(mariadb_ispyb) == failed + 1
    (program,) = rows(mariadb_ispyb, in_ispyb.AutoProcProgram)
    assert (program["processingMessage"], program["processingCommandLine"]) == (
        "again",
        "ssx process --group 1",
    )
    assert counts(mariadb_ispyb) == [1, 3, 1, 0, 0, 0, 0]


def make_heavy(connection: Connection, collection_id: int) -> None:
    insert = text("INSERT INTO AutoProc (spaceGroup) VALUES ('P1')")
    for _ in range(20):
        connection.execute(insert)
    connection.execute(text("DELETE FROM AutoProc"))


def take_the_programs_row(connection: Connection) -> None:
    connection.execute(text("UPDATE AutoProcProgram SET processingCommandLine = 'by another'"))
    connection.commit()


def deadlocks(engine: Engine) -> int:
    with engine.connect() as connection:
        query = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'"
        return connection.exec_driver_sql(query).scalar_one()


def test_a_lock_that_another_holds_too_long_is_waited_for_again(mariadb_ispyb: Engine, collection_id: int):
    client = OrmClient(mariadb_ispyb)
    client.record_collection_result(collection_result(collection_id))

    def be_impatient(connection: Connection) -> None:
        connection.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 1")

    with mariadb_ispyb.connect() as other:
        other.execute(text("SELECT * FROM AutoProcProgram FOR UPDATE"))
        with before_statement(mariadb_ispyb, "SELECT GET_LOCK", be_impatient):
            timer = threading.Timer(1.2, other.rollback)
            timer.start()
            RetryingClient(client, BRISK).record_collection_result(
                collection_result(collection_id, message="waited")
            )
        timer.join()
    assert [p["processingMessage"] for p in rows(mariadb_ispyb, in_ispyb.AutoProcProgram)] == ["waited"]


@pytest.fixture(scope="module")
def own_server() -> Iterator[MariadbServer]:
    with running_mariadb() as server:
        yield server


@pytest.mark.parametrize("start", ["INSERT INTO AutoProcIntegration", "UPDATE AutoProcProgram"])
def test_a_server_killed_in_mid_transaction_and_started_again_has_every_row_once(
    own_server: MariadbServer, chip: CollectedChip, start: str
):
    def restart(_: Connection) -> None:
        own_server.kill()
        own_server.start()

    with new_database(own_server) as engine:
        create_ispyb_tables(engine)
        collection_id = write_collected_chip(engine, chip).data_collection_id
        with before_statement(engine, start, restart):
            RetryingClient(OrmClient(engine), BRISK).record_merged_result(merged_result(collection_id))
        assert counts(engine) == ROWS_OF_A_MERGE


class Flaky(OrmClient):
    """Away for some requests."""

    def __init__(self, engine: Engine, n_away: int, error: Exception) -> None:
        super().__init__(engine)
        self.n_asked = 0
        self._n_away, self._error = n_away, error

    def record_collection_result(self, result: CollectionResult) -> int:
        self.n_asked += 1
        if self.n_asked <= self._n_away:
            raise self._error
        return super().record_collection_result(result)


def test_what_stays_away_is_given_up_and_what_is_refused_is_not_tried_again(sqlite_ispyb: Engine):
    patience = Patience(attempts=3, first_pause_s=0.001)
    for n_away, error, n_asked in (
        (9, UnavailableError("away"), 3),
        (9, RejectedError("never"), 1),
    ):
        flaky = Flaky(sqlite_ispyb, n_away, error)
        with pytest.raises(type(error), match=str(error)):
            RetryingClient(flaky, patience).record_collection_result(collection_result(1))
        assert flaky.n_asked == n_asked


def test_no_attempt_begins_after_the_time_is_up(sqlite_ispyb: Engine):
    flaky = Flaky(sqlite_ispyb, 99, UnavailableError("away"))
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        RetryingClient(flaky, Patience(attempts=99, total_s=0.5)).record_collection_result(
            collection_result(1)
        )
    assert time.monotonic() - began < 0.6
    assert flaky.n_asked >= 2
