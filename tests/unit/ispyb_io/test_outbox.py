"""The outbox keeps results in order until ISPyB has them."""

import datetime
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.delivery import deliver
from ispyb_io.engines import destination_of, open_engine
from ispyb_io.group_copies import GroupCopies
from ispyb_io.orm_client import OrmClient
from ispyb_io.outbox import OUTBOX, Outbox
from ispyb_io.outbox_records import RecordState
from ispyb_io.outbox_tables import SsxOutbox
from ispyb_io.protocol import IspybError, NotFoundError, UnavailableError
from ispyb_io.records import Offers
from ispyb_io.results import CollectionResult, ResultStatus

from .made_results import LATER, collection_result, counts, merged_result
from .rows import rows

RUNNING, SUCCESS, FAILED = ResultStatus
HERE = "mysql://here:3306/ispyb"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path / "outbox.sqlite", create=True, durable=True)
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: Engine) -> Outbox:
    outbox = Outbox(engine, HERE)
    outbox.create_tables()
    return outbox


@pytest.fixture
def collected(sqlite_ispyb: Engine, chip: CollectedChip) -> CollectedIds:
    return write_collected_chip(sqlite_ispyb, chip)


class SwitchedClient(OrmClient):
    """ISPyB that answers with an error while one is set."""

    error: IspybError | None = None
    problems: tuple[str, ...] = ()

    def record_collection_result(self, result: CollectionResult) -> int:
        if self.error is not None:
            raise self.error
        return super().record_collection_result(result)

    def offers(self) -> Offers:
        return super().offers().model_copy(update={"problems": self.problems})


@pytest.fixture
def client(sqlite_ispyb: Engine) -> SwitchedClient:
    return SwitchedClient(sqlite_ispyb)


def test_what_is_appended_is_on_the_disk(engine: Engine, outbox: Outbox):
    with engine.connect() as connection:
        full, wal = 2, "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == wal


@pytest.mark.parametrize("result", [collection_result(7, status=RUNNING, ended=None), merged_result(7, 8)])
def test_a_record_comes_back_as_it_went_in(outbox: Outbox, result: CollectionResult):
    record_id = outbox.append(result, "processing1")
    (record,) = outbox.records(RecordState.WAITING)
    assert (record.record_id, record.processing_key, record.status) == (
        record_id,
        "processing1",
        result.status,
    )
    assert record.result() == result


def waiting(outbox: Outbox) -> list[tuple[str, str, str]]:
    results = [(record.subject, record.result()) for record in outbox.records(RecordState.WAITING)]
    return [(subject.split()[-1], result.key, result.status) for subject, result in results]


@pytest.mark.parametrize(
    ("appended", "left"),
    [
        ([(1, "a", RUNNING)] * 50, [(1, "a", RUNNING)]),
        ([(1, "a", RUNNING), (1, "a", SUCCESS)], [(1, "a", SUCCESS)]),
        ([(1, "a", RUNNING), (1, "a", FAILED)], None),
        ([(1, "a", RUNNING), (1, "b", RUNNING)], None),
        ([(1, "a", RUNNING), (2, "a", RUNNING)], None),
        ([(1, "a", SUCCESS), (1, "a", RUNNING), (1, "a", FAILED), (1, "a", SUCCESS)], "without running"),
        ([(1, "a", FAILED), (1, "a", SUCCESS)], None),
    ],
    ids=["growth", "success", "failure", "other key", "other subject", "started again", "outcomes"],
)
def test_only_growth_that_is_overtaken_is_left_out(outbox: Outbox, appended: list, left: list | str | None):
    for id_, key, status in appended:
        outbox.append(collection_result(id_, key=key, status=status))
    if left == "without running":
        left = [record for record in appended if record[2] != RUNNING]
    assert waiting(outbox) == [(str(id_), key, status) for id_, key, status in left or appended]


def test_results_are_delivered_in_order_and_once(
    outbox: Outbox, client: SwitchedClient, collected: CollectedIds, sqlite_ispyb: Engine
):
    id_ = collected.data_collection_id
    outbox.append(collection_result(id_, message="first"), "p1")
    outbox.append(collection_result(id_, key="key2", started=LATER, message="second"), "p2")
    outbox.append(merged_result(id_), "p2")
    told: list[tuple[str | None, int | None]] = []
    done = deliver(
        outbox, client, lambda record, program_id: told.append((record.processing_key, program_id))
    )
    assert (done.n_delivered, done.n_refused, done.stopped) == (3, 0, "")
    assert told == [("p1", 1), ("p2", 2), ("p2", 3)]
    later = rows(sqlite_ispyb, in_ispyb.AutoProcProgram)[1]["processingMessage"]
    assert later == "second | supersedes program 1 (key1)"
    assert [r.program_id for r in outbox.records(RecordState.DELIVERED)] == [1, 2, 3]
    before = counts(sqlite_ispyb)
    assert deliver(outbox, client).n_delivered == 0
    assert counts(sqlite_ispyb) == before


def test_while_ispyb_is_away_everything_waits_with_the_reason(
    outbox: Outbox, client: SwitchedClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    outbox.append(collection_result(id_))
    outbox.append(merged_result(id_))
    client.error = UnavailableError("server has gone away")
    for attempt in (1, 2):
        assert deliver(outbox, client).stopped == "server has gone away"
        first, second = outbox.records(RecordState.WAITING)
        assert (first.attempts, first.reason) == (attempt, "server has gone away")
        assert second.attempts == 0
    client.error = None
    assert deliver(outbox, client).n_delivered == 2
    assert outbox.count_waiting() == 0


def test_a_record_that_ispyb_refuses_stands_in_nobodys_way_and_is_not_forgotten(
    outbox: Outbox, client: SwitchedClient, collected: CollectedIds, chip: CollectedChip, sqlite_ispyb: Engine
):
    refused = outbox.append(collection_result(99))
    outbox.append(collection_result(collected.data_collection_id))
    done = deliver(outbox, client)
    assert (done.n_delivered, done.n_refused, done.unfit) == (1, 1, False)
    (record,) = outbox.records(RecordState.REFUSED)
    assert (record.record_id, record.reason) == (refused, "there is no data collection 99 in ISPyB")
    assert deliver(outbox, client).n_refused == 0
    assert outbox.retry(refused) == 1
    assert deliver(outbox, client).n_refused == 1
    assert outbox.drop(refused).record_id == refused
    with pytest.raises(NotFoundError, match=f"no record {refused} that may be dropped"):
        outbox.drop(refused)
    with pytest.raises(NotFoundError, match=f"no record {refused} that is tried again"):
        outbox.retry(refused)


def test_where_the_account_or_the_schema_is_wrong_nothing_is_called_refused(
    outbox: Outbox, client: SwitchedClient, collected: CollectedIds
):
    outbox.append(collection_result(99))
    client.problems = ("AutoProcProgram.processingStatus is a number here",)
    done = deliver(outbox, client)
    assert (done.n_refused, done.stopped, done.unfit) == (0, client.problems[0], True)
    assert [record.reason for record in outbox.records(RecordState.WAITING)] == list(client.problems)


def test_a_ledger_that_is_away_makes_a_delivered_record_wait_and_be_delivered_again(
    outbox: Outbox, client: SwitchedClient, collected: CollectedIds, sqlite_ispyb: Engine
):
    def away(*_: object) -> None:
        raise UnavailableError("the ledger is away")

    outbox.append(collection_result(collected.data_collection_id))
    assert deliver(outbox, client, away).stopped == "the ledger is away"
    before = counts(sqlite_ispyb)
    assert deliver(outbox, client).n_delivered == 1
    assert counts(sqlite_ispyb) == before


def test_records_for_another_ispyb_are_seen_but_never_sent_to_this_one(
    engine: Engine, outbox: Outbox, client: SwitchedClient, collected: CollectedIds
):
    other = Outbox(engine, "mysql://demo:3306/ispyb")
    record_id = other.append(collection_result(collected.data_collection_id))
    assert deliver(outbox, client).n_delivered == 0
    assert [record.destination for record in outbox.records(RecordState.WAITING)] == [other.destination]
    assert outbox.retry() == 0
    assert outbox.retry(record_id) == 1  # the server has got another name
    assert deliver(outbox, client).n_delivered == 1


def test_a_record_of_another_version_is_refused(
    engine: Engine, outbox: Outbox, client: SwitchedClient, collected: CollectedIds
):
    outbox.append(collection_result(collected.data_collection_id))
    with engine.begin() as connection:
        connection.execute(update(OUTBOX).values(record='{"key": "k", "hits": 3}'))
    assert deliver(outbox, client).n_refused == 1
    (record,) = outbox.records(RecordState.REFUSED)
    assert "written by another version" in record.reason


def test_one_process_delivers_at_a_time(outbox: Outbox, client: SwitchedClient, collected: CollectedIds):
    outbox.append(collection_result(collected.data_collection_id))
    with outbox.path.with_name("outbox.sqlite.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert deliver(outbox, client).busy
        assert outbox.count_waiting() == 1
    assert deliver(outbox, client).n_delivered == 1


def test_what_was_delivered_long_ago_is_forgotten(
    engine: Engine, outbox: Outbox, client: SwitchedClient, collected: CollectedIds
):
    now = datetime.datetime.now()
    for days in (40, 20, 0):
        then = now - datetime.timedelta(days=days)
        early = Outbox(engine, HERE, clock=lambda then=then: then)
        early.append(collection_result(collected.data_collection_id, message=f"{days}"))
        deliver(early, client)
    delivered = [record.result() for record in outbox.records(RecordState.DELIVERED)]
    assert [result.message for result in delivered if isinstance(result, CollectionResult)] == ["20", "0"]
    assert [row["state"] for row in rows(engine, SsxOutbox)] == ["delivered"] * 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mysql+pymysql://me:secret@server/ispyb", "mariadb+pymysql://you@server:3306/ispyb?charset=x", True),
        ("mysql+pymysql://me@server/ispyb", "mysql+pymysql://me@server/ispyb_test", False),
        ("mysql+pymysql://me@server/ispyb", "mysql+pymysql://me@server:3307/ispyb", False),
        ("sqlite:///a.db", "sqlite:///./a.db", True),
        ("sqlite:///a.db", "sqlite:///b.db", False),
    ],
)
def test_a_destination_is_a_place_and_no_account(one: str, other: str, *, same: bool):
    first, second = (destination_of(open_engine(url, create=False).url) for url in (one, other))
    assert (first == second) is same
    assert "secret" not in first + second


def test_a_copy_of_a_group_is_as_it_was_read_last(
    engine: Engine, outbox: Outbox, client: SwitchedClient, collected: CollectedIds, chip: CollectedChip
):
    copies = GroupCopies(engine, HERE)
    assert copies.find(collected.group_id) is None
    copies.keep(client.group(collected.group_id))
    write_collected_chip(client._engine, chip.model_copy(update={"file_template": "b_master.h5"}))
    latest = client.group(collected.group_id)
    copies.keep(latest)
    found = copies.find(collected.group_id)
    assert found is not None
    assert found[0] == latest
    assert len(found[0].data_collections) == 2
    assert GroupCopies(engine, "mysql://there:3306/ispyb").find(collected.group_id) is None
