"""The ledger keeps each thing once, whoever writes and however often. Runs on both servers."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.exc import IntegrityError

from ispyb_io.column_types import table
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Chunk, GroupKind, Member, WorkStatus
from ispyb_io.ledger_tables import (
    LedgerBase,
    SsxChunk,
    SsxChunkWork,
    SsxProcessing,
    SsxProcessingGroup,
    SsxProcessingGroupHistory,
    SsxProcessingGroupMember,
)
from ispyb_io.protocol import NotFoundError, RejectedError

from .rows import count

MODELS = (
    SsxProcessingGroup,
    SsxProcessingGroupMember,
    SsxProcessingGroupHistory,
    SsxProcessing,
    SsxChunk,
    SsxChunkWork,
)
COUNTS = {"frames_total": 200, "frame_hits": 80}


def begin(ledger: Ledger, key: str = "p1", **changes: Any):
    values: dict[str, Any] = {
        "folder": Path("/proc/p1"),
        "settings": {"d_min": 1.8},
        "versions": {"ssx": "0.1.0"},
    }
    return ledger.begin(key, **(values | changes))


def chunk(index: int = 0, **changes: Any) -> Chunk:
    values: dict[str, Any] = {
        "index": index,
        "key": f"c{index}",
        "start": 200 * index,
        "stop": 200 * index + 200,
        "status": WorkStatus.SUCCESS,
        "attempts": 1,
        "folder": Path(f"/proc/p1/chunks/c{index}"),
        "counts": COUNTS,
    }
    return Chunk(**(values | changes))


def test_a_group_is_made_once(ledger: Ledger):
    first = ledger.ensure_group("mx1234", "chip 7", data_collection_group_id=5, created_by="watch")
    assert ledger.ensure_group("mx1234", "chip 7", data_collection_group_id=5, created_by="me") == first
    assert ledger.groups("mx1234") == [first]


def test_a_name_may_be_used_again_in_another_proposal(ledger: Ledger):
    assert ledger.ensure_group("mx1", "chip").group_id != ledger.ensure_group("mx2", "chip").group_id
    assert len(ledger.groups()) == 2


def test_names_that_differ_in_case_are_two_groups(ledger: Ledger):
    assert ledger.ensure_group("mx1", "Dark").group_id != ledger.ensure_group("mx1", "dark").group_id


def test_a_name_taken_by_another_kind_is_rejected(ledger: Ledger):
    ledger.ensure_group("mx1", "chip", data_collection_group_id=5)
    with pytest.raises(RejectedError, match="choose another name"):
        ledger.ensure_group("mx1", "chip", kind=GroupKind.CHOSEN)


def test_a_member_is_excluded_with_its_reason(ledger: Ledger):
    group_id = ledger.ensure_group("mx1", "chip").group_id
    ledger.set_member(group_id, Member(data_collection_id=2))
    ledger.set_member(group_id, Member(data_collection_id=1))
    ledger.set_member(group_id, Member(data_collection_id=2, included=False, reason="dried out"))
    assert ledger.members(group_id) == [
        Member(data_collection_id=1),
        Member(data_collection_id=2, included=False, reason="dried out"),
    ]


def test_members_that_are_found_again_do_not_undo_an_exclusion(ledger: Ledger):
    group_id = ledger.ensure_group("mx1", "chip").group_id
    excluded = Member(data_collection_id=2, included=False, reason="dried out")
    ledger.set_member(group_id, excluded)
    ledger.add_members(group_id, [3, 2, 1])
    assert ledger.members(group_id) == [
        Member(data_collection_id=1),
        excluded,
        Member(data_collection_id=3),
    ]


def test_an_exclusion_without_a_reason_is_an_error():
    with pytest.raises(ValidationError, match="excluded without a reason"):
        Member(data_collection_id=2, included=False, reason=" ")


def test_a_member_of_no_group_is_not_found(ledger: Ledger):
    with pytest.raises(NotFoundError, match="no group 99"):
        ledger.set_member(99, Member(data_collection_id=1))


def test_a_processing_runs_and_ends(ledger: Ledger):
    running = begin(ledger, data_collection_group_id=5, started_by="watch")
    assert (running.status, running.attempts, running.settings) == (WorkStatus.RUNNING, 1, {"d_min": 1.8})
    assert not ledger.finished("p1")
    ended = ledger.finish("p1", WorkStatus.SUCCESS, counts=COUNTS, program_ids=[12, 11], message="all well")
    assert ledger.finished("p1")
    assert (ended.counts, ended.program_ids, ended.message) == (COUNTS, (11, 12), "all well")
    assert ledger.processing("p1") == ended
    assert ledger.processings(data_collection_group_id=5) == [ended]
    assert ledger.processings(data_collection_group_id=6) == []


def test_a_processing_that_broke_off_is_begun_again(ledger: Ledger):
    begin(ledger)
    assert begin(ledger).attempts == 2


def test_a_processing_with_a_result_is_not_begun_again(ledger: Ledger):
    begin(ledger)
    done = ledger.finish("p1", WorkStatus.PARTIAL, message="25 of 26 chunks; chunk 14 truncated")
    assert begin(ledger) == done
    again = begin(ledger, again=True)
    assert (again.status, again.attempts, again.ended) == (WorkStatus.PARTIAL, 2, done.ended)
    assert again.message.startswith(f"{done.message} | later attempt began 20")
    assert begin(ledger, again=True, result_is_lost=True).status is WorkStatus.RUNNING


def test_a_failed_processing_is_not_finished(ledger: Ledger):
    begin(ledger)
    ledger.finish("p1", WorkStatus.FAILED, message="no frame could be read")
    assert not ledger.finished("p1")
    assert begin(ledger).attempts == 2


@pytest.mark.parametrize("result", [WorkStatus.SUCCESS, WorkStatus.PARTIAL])
@pytest.mark.parametrize("is_begun", [True, False])
def test_a_result_stands_when_a_later_attempt_fails(ledger: Ledger, result: WorkStatus, *, is_begun: bool):
    begin(ledger)
    before = ledger.finish("p1", result, counts=COUNTS, program_ids=[11], message="all well")
    for attempt, reason in enumerate(["disk full", "no beam"], 2):
        if is_begun:
            begin(ledger, again=True, folder=Path("/elsewhere"), started_by="me")
        failed = ledger.finish(
            "p1", WorkStatus.FAILED, counts={}, program_ids=[12], message=reason, versions={"numpy": "3"}
        )
        changes = {
            "message": f"all well | later attempt failed: {reason}",
            "program_ids": (11, 12),
            **({"attempts": attempt, "started_by": "me", "started": failed.started} if is_begun else {}),
        }
        assert failed == before.model_copy(update=changes)


@pytest.mark.parametrize("empty", [{}, None])
def test_a_failed_attempt_without_counts_keeps_those_of_a_failed_one_before(
    ledger: Ledger, empty: dict[str, Any] | None
):
    begin(ledger)
    ledger.finish("p1", WorkStatus.FAILED, counts=COUNTS)
    begin(ledger)
    assert ledger.finish("p1", WorkStatus.FAILED, counts=empty).counts == COUNTS


def test_a_success_replaces_what_was_there(ledger: Ledger):
    begin(ledger)
    ledger.finish("p1", WorkStatus.PARTIAL, counts=COUNTS, message="25 of 26 chunks")
    begin(ledger, again=True)
    fewer = {"frames_total": 200, "frame_hits": 1}
    done = ledger.finish("p1", WorkStatus.SUCCESS, counts=fewer, message="all", versions={"numpy": "3"})
    assert (done.status, done.counts, done.message) == (WorkStatus.SUCCESS, fewer, "all")
    assert done.versions == {"numpy": "3"}
    assert ledger.finish("p1", WorkStatus.SUCCESS, counts={}).counts == {}


def test_a_very_long_message_is_shortened_and_not_refused(ledger: Ledger):
    begin(ledger)
    long = "truncated frame Å " * 10_000
    ledger.record_chunk("p1", chunk(status=WorkStatus.FAILED, message=long))
    messages = [ledger.finish("p1", WorkStatus.FAILED, message=long).message, ledger.chunks("p1")[0].message]
    for message in messages:
        assert message.startswith("truncated frame Å truncated")
        assert (len(message), message[-1]) == (2000, "…")


def test_an_unknown_processing_is_neither_finished_nor_found(ledger: Ledger):
    assert ledger.processing("nothing") is None
    assert not ledger.finished("nothing")
    with pytest.raises(NotFoundError, match="no processing nothing"):
        ledger.finish("nothing", WorkStatus.SUCCESS)
    with pytest.raises(NotFoundError):
        ledger.record_chunk("nothing", chunk())


def test_running_is_no_outcome(ledger: Ledger):
    begin(ledger)
    with pytest.raises(RejectedError, match="no outcome"):
        ledger.finish("p1", WorkStatus.RUNNING)


def test_chunks_are_read_back_in_order(ledger: Ledger):
    begin(ledger)
    begin(ledger, "p2")
    failed = chunk(2, status=WorkStatus.FAILED, attempts=3, message="truncated", folder=None, counts={})
    for one in (failed, chunk(0), chunk(1)):
        ledger.record_chunk("p1", one)
    assert ledger.chunks("p1") == [chunk(0), chunk(1), failed]
    assert ledger.chunks("p2") == []


def test_a_chunk_recorded_again_is_updated(ledger: Ledger):
    begin(ledger)
    ledger.record_chunk("p1", chunk(status=WorkStatus.FAILED, message="disk full"))
    ledger.record_chunk("p1", chunk(attempts=2))
    assert ledger.chunks("p1") == [chunk(attempts=2)]


def test_the_work_of_a_chunk_stays_until_it_is_done_again_or_has_other_content(ledger: Ledger):
    begin(ledger)
    done = chunk(seconds=12.5, worker="node1:42")
    ledger.record_chunk("p1", done)
    ledger.record_chunk("p1", chunk(index=1))
    assert ledger.chunks("p1") == [done, chunk(1)]
    ledger.record_chunk("p1", chunk())  # found done by a later run
    assert ledger.chunks("p1")[0] == done
    again = chunk(seconds=3.0, worker="node2:7")
    ledger.record_chunk("p1", again)
    assert ledger.chunks("p1")[0] == again
    ledger.record_chunk("p1", chunk(key="other"))
    assert ledger.chunks("p1")[0] == chunk(key="other")


def test_chunks_of_a_ledger_of_a_former_version_are_read(ledger: Ledger):
    begin(ledger)
    ledger.record_chunk("p1", chunk(seconds=1.0))
    table(SsxChunkWork).drop(ledger._engine)
    assert ledger.chunks("p1") == [chunk()]


def test_a_late_running_does_not_undo_a_chunk(ledger: Ledger):
    begin(ledger)
    ledger.record_chunk("p1", chunk())
    ledger.record_chunk("p1", chunk(status=WorkStatus.RUNNING, counts={}))
    assert ledger.chunks("p1") == [chunk()]
    other_content = chunk(status=WorkStatus.RUNNING, key="other", counts={})
    ledger.record_chunk("p1", other_content)
    assert ledger.chunks("p1") == [other_content]


def test_eight_writers_make_one_of_each(ledger: Ledger):
    def work(_: int) -> None:
        group = ledger.ensure_group("mx1", "chip")
        ledger.set_member(group.group_id, Member(data_collection_id=1))
        begin(ledger, group_id=group.group_id)
        for index in range(3):
            ledger.record_chunk("p1", chunk(index, seconds=1.0, worker="node1:42"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(16)))
    assert [count(ledger._engine, model) for model in MODELS] == [1, 1, 1, 1, 3, 3]


@pytest.mark.parametrize("model", MODELS)
def test_the_database_itself_refuses_a_double(ledger: Ledger, model: type[LedgerBase]):
    group = ledger.ensure_group("mx1", "chip")
    ledger.set_member(group.group_id, Member(data_collection_id=1))
    begin(ledger, group_id=group.group_id)
    ledger.record_chunk("p1", chunk(seconds=1.0))
    with ledger._engine.connect() as connection:
        row = dict(connection.execute(table(model).select()).mappings().one())
        row.pop(next(iter(table(model).primary_key.columns)).name)
        with pytest.raises(IntegrityError):
            connection.execute(insert(table(model)).values(row))


def enter(ledger: Ledger, data_collection_id: int, status: WorkStatus, started_by: str = "watch") -> None:
    key = f"p{data_collection_id}"
    group = ledger.ensure_group("mx1", key)
    ledger.set_member(group.group_id, Member(data_collection_id=data_collection_id))
    begin(ledger, key, group_id=group.group_id, started_by=started_by)
    if status is not WorkStatus.RUNNING:
        ledger.finish(key, status)


def test_the_mark_is_before_the_first_without_a_result(ledger: Ledger):
    assert ledger.high_water_mark("watch") == 0
    enter(ledger, 10, WorkStatus.SUCCESS)
    enter(ledger, 11, WorkStatus.PARTIAL)
    assert ledger.high_water_mark("watch") == 11
    enter(ledger, 12, WorkStatus.FAILED)
    enter(ledger, 13, WorkStatus.SUCCESS)
    enter(ledger, 99, WorkStatus.SUCCESS, started_by="somebody")
    assert ledger.high_water_mark("watch") == 11
    begin(ledger, "p12", group_id=ledger.ensure_group("mx1", "p12").group_id, started_by="watch")
    ledger.finish("p12", WorkStatus.SUCCESS)
    assert ledger.high_water_mark("watch") == 13


def test_the_ledger_may_have_a_database_of_its_own(tmp_path: Path):
    engine = open_engine(tmp_path / "new" / "ledger.db", create=True)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: Ledger(engine).create_tables(), range(8)))
    begin(Ledger(engine))
    assert Ledger(open_engine(f"sqlite:///{tmp_path}/new/ledger.db")).processing("p1") is not None


def test_times_are_in_whole_seconds(tmp_path: Path):
    engine = open_engine(tmp_path / "ledger.db", create=True)
    ledger = Ledger(engine, clock=lambda: datetime.datetime(2026, 11, 21, 9, 0, 0, 999999))
    ledger.create_tables()
    assert begin(ledger).started == datetime.datetime(2026, 11, 21, 9, 0, 0)


def test_a_mariadb_ledger_of_two_connections_is_the_same(mariadb_ispyb: Engine):
    ledger = Ledger(mariadb_ispyb)
    ledger.create_tables()
    begin(ledger)
    other = create_engine(mariadb_ispyb.url)
    assert Ledger(other).processing("p1") == ledger.processing("p1")
    other.dispose()
