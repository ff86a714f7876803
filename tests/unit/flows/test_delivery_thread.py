"""Results go to ISPyB beside the processing, which never waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from flows import cli_ispyb
from flows.databases import Databases, open_databases
from flows.delivery_thread import DeliveryThread, delivering
from flows.replay import outbox_line
from flows.settings import SiteSettings
from ispyb_io.beamline import write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.outbox_records import RecordState
from ispyb_io.protocol import UnavailableError
from ispyb_io.retrying import Patience, RetryingClient
from tests.flows.rows import rows
from tests.unit.ispyb_io.conftest import a_chip
from tests.unit.ispyb_io.made_results import collection_result, merged_result

PROGRAMS = "SELECT processingStatus FROM AutoProcProgram ORDER BY autoProcProgramId"


def environment(folder: Path) -> dict[str, str]:
    return {
        "SSX_ISPYB_URL": f"sqlite:///{folder}/ispyb.sqlite",
        "SSX_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "SSX_DATA_HOME": str(folder),
    }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    monkeypatch.setattr(RetryingClient.__init__, "__defaults__", (Patience(attempts=2, first_pause_s=0.01),))
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return SiteSettings()


@pytest.fixture
def ispyb(tmp_path: Path, site: SiteSettings) -> Iterator[Engine]:
    engine = create_embedded_ispyb(tmp_path / "ispyb.sqlite")
    write_collected_chip(engine, a_chip())
    yield engine
    engine.dispose()


@pytest.fixture
def databases(site: SiteSettings, ispyb: Engine, tmp_path: Path) -> Iterator[Databases]:
    with open_databases(site) as databases:
        databases.ledger.begin("p1", folder=tmp_path, settings={}, versions={})
        yield databases


def send_all(thread: DeliveryThread | None) -> DeliveryThread:
    assert thread is not None
    thread.send(collection_result(1), "p1", "mx1234")
    thread.send(merged_result(1), "p1", "mx1234")
    return thread


def test_results_are_delivered_while_others_are_computed(databases: Databases, tmp_path: Path):
    with delivering(databases) as thread:
        sent = send_all(thread).settle(10)
    assert (sent.program_ids, sent.notices) == ((1, 2), ())
    processing = databases.ledger.processing("p1")
    assert processing is not None
    assert processing.program_ids == (1, 2)
    assert len(rows(tmp_path / "ispyb.sqlite", PROGRAMS)) == 2


def test_an_ispyb_that_is_away_is_not_waited_for_and_has_all_when_it_is_back(
    databases: Databases, tmp_path: Path
):
    (tmp_path / "ispyb.sqlite").rename(tmp_path / "away")
    with delivering(databases) as thread:
        began = time.monotonic()
        sent = send_all(thread).settle(60)
        assert time.monotonic() - began < 30
        assert (sent.n_waiting, sent.refusals) == (2, ())
        assert sent.notices[0].startswith("2 records wait for ISPyB in the outbox (")
        (tmp_path / "away").rename(tmp_path / "ispyb.sqlite")
        assert send_all(thread).settle(60).program_ids == (1, 2)


class Hanging(RetryingClient):
    """An ISPyB that takes a connection and then says nothing."""

    answer = threading.Event()

    def record_collection_result(self, result: object) -> int:
        self.answer.wait(60)
        raise UnavailableError("timeout")


def test_an_ispyb_that_hangs_holds_up_nobody(databases: Databases):
    assert databases.ispyb is not None
    hanging = Databases(databases.ledger, Hanging(databases.ispyb), databases.outbox)
    began = time.monotonic()
    with delivering(hanging) as thread:
        sent = send_all(thread).settle(0.2)
    assert sent.n_waiting == 2
    assert time.monotonic() - began < 10
    Hanging.answer.set()


def refuse_merges(ispyb: Engine) -> None:
    with ispyb.begin() as connection:
        what = (
            "CREATE TRIGGER no_merges BEFORE INSERT ON AutoProc BEGIN SELECT RAISE(ABORT, 'no merges'); END"
        )
        connection.execute(text(what))


def test_what_ispyb_refuses_is_told(databases: Databases, ispyb: Engine):
    refuse_merges(ispyb)
    with delivering(databases) as thread:
        sent = send_all(thread).settle(60)
    assert (sent.program_ids, sent.n_waiting) == ((1,), 0)
    assert sent.refusals[0].startswith("ISPyB refused the result of merge chip 7: all: ")
    assert sent.notices == sent.refusals


def test_an_ispyb_that_takes_nothing_refuses_nothing(databases: Databases, ispyb: Engine):
    with ispyb.begin() as connection:
        connection.execute(text("ALTER TABLE AutoProcProgram RENAME TO Gone"))
    with delivering(databases) as thread:
        sent = send_all(thread).settle(60)
    assert sent.n_waiting == 2
    assert sent.refusals[0].startswith("ISPyB takes no results: ")
    assert databases.require_outbox().records(RecordState.REFUSED) == []


def test_an_error_that_nobody_foresaw_is_not_swallowed(databases: Databases):
    class Buggy(RetryingClient):
        def record_collection_result(self, result: object) -> int:
            raise ZeroDivisionError("division by zero")

    assert databases.ispyb is not None
    with delivering(Databases(databases.ledger, Buggy(databases.ispyb), databases.outbox)) as thread:
        sent = send_all(thread).settle(60)
    assert sent.refusals == ("ISPyB takes no results: ZeroDivisionError: division by zero",)


@pytest.fixture
def outbox_command(site: SiteSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """Runs ``ssx ispyb outbox``; returns what it printed and its error."""
    monkeypatch.setattr(cli_ispyb, "start", lambda _: site)

    def run(*options: str) -> tuple[str, str]:
        result = CliRunner().invoke(cli_ispyb.ispyb_app, ["outbox", *options])
        return result.stdout, str(result.exception or "")

    return run


def test_the_command_shows_and_replays_what_waits(
    databases: Databases, tmp_path: Path, outbox_command: Callable[..., tuple[str, str]]
):
    outbox = databases.require_outbox()
    outbox.append(collection_result(1), "p1")
    outbox.append(merged_result(1), "p1")
    shown, error = outbox_command()
    assert error == ""
    words = ("data collection 1 ", "merge chip 7: all ", "waiting: ")
    assert [shown.count(word) for word in words] == [1, 1, 2], shown
    assert outbox_line(outbox).startswith("results not in ISPyB: 2 waiting since ")
    (tmp_path / "ispyb.sqlite").rename(tmp_path / "away")
    _, error = outbox_command("--replay")
    assert error.startswith("2 records still wait: ")
    assert "no such database file" in error
    (tmp_path / "away").rename(tmp_path / "ispyb.sqlite")
    assert outbox_command("--replay") == ("nothing waits: ISPyB has all results\n", "")
    assert rows(tmp_path / "ispyb.sqlite", PROGRAMS) == [{"processingStatus": "SUCCESS"}] * 2


def test_the_command_tries_refused_records_again_or_drops_them(
    databases: Databases, outbox_command: Callable[..., tuple[str, str]]
):
    databases.require_outbox().append(collection_result(99), "p1")
    databases.require_outbox().append(collection_result(1), "p1")
    shown, error = outbox_command("--replay", "--refused")
    assert "1  data collection 99, SUCCESS: there is no data collection 99 in ISPyB" in shown
    assert error.startswith("ISPyB refused 1 record; see ssx ispyb outbox --refused")
    assert outbox_command("--retry", "some")[1].startswith("'some' is no number of a record")
    assert outbox_command("--drop", "2")[1].startswith("the outbox has no record 2 that may be dropped")
    shown, error = outbox_command("--retry", "all", "--replay")
    assert "1 refused before, waiting again" in shown
    assert "ISPyB refused 1 record" in error
    assert outbox_command("--drop", "1")[1] == ""
