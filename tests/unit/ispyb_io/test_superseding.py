"""Later results of the same thing: each kept, linked both ways, one on the page. Runs on every database."""

import pytest
from sqlalchemy import Engine

from ispyb_io import result_tables as in_ispyb
from ispyb_io.attempts import Attempt, linked_messages
from ispyb_io.beamline import CollectedIds
from ispyb_io.orm_client import OrmClient
from ispyb_io.results import ResultStatus

from .made_results import LATER, START, collection_result, counts, merged_result, without_numbers
from .rows import rows, statuses

OWN = "800 hits (40.0 %)"
MERGED = "640 lattices merged, 10 of 10 chunks"


def messages(ispyb: Engine) -> list[str]:
    return [program["processingMessage"] for program in rows(ispyb, in_ispyb.AutoProcProgram)]


def pages(ispyb: Engine) -> list[int | None]:
    """Data collection at which each program is counted, by ESRF's pages; 0 where there is no such column."""
    return [program.get("dataCollectionId", 0) for program in rows(ispyb, in_ispyb.AutoProcProgram)]


def test_a_later_result_keeps_the_earlier_one_and_each_names_the_other(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    first = client.record_collection_result(collection_result(id_))
    second = client.record_collection_result(collection_result(id_, key="key2", started=LATER))
    assert messages(ispyb) == [
        f"{OWN} | superseded by program {second} (key2)",
        f"{OWN} | supersedes program {first} (key1)",
    ]
    assert statuses(ispyb) == ["SUCCESS", "SUCCESS"]
    assert counts(ispyb)[:3] == [2, 6, 2]
    assert pages(ispyb) in ([None, id_], [0, 0])  # hits are counted once


def test_a_repeated_earlier_result_stays_superseded_and_nothing_is_added(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    early = collection_result(collected.data_collection_id)
    late = collection_result(collected.data_collection_id, key="key2", started=LATER)
    for result in (early, late):
        client.record_collection_result(result)
    before = (counts(ispyb), messages(ispyb), pages(ispyb))
    for result in (early, late, early):
        client.record_collection_result(result)
    assert (counts(ispyb), messages(ispyb), pages(ispyb)) == before


def test_an_older_result_that_comes_late_is_superseded_at_once(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    newer = client.record_collection_result(collection_result(id_, key="key2", started=LATER))
    client.record_collection_result(collection_result(id_, key="key1", started=START))
    assert messages(ispyb)[1] == f"{OWN} | superseded by program {newer} (key2)"
    assert pages(ispyb) in ([id_, None], [0, 0])


def test_settings_tried_again_later_hold_again(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    id_ = collected.data_collection_id
    for key, hour in (("key1", 10), ("key2", 11), ("key1", 12)):
        started = START.replace(hour=hour)
        client.record_collection_result(collection_result(id_, key=key, started=started, ended=started))
    assert messages(ispyb) == [
        f"{OWN} | supersedes program 2 (key2)",
        f"{OWN} | superseded by program 1 (key1)",
    ]
    assert pages(ispyb) in ([id_, None], [0, 0])


def test_a_success_gives_the_page_to_a_later_run_and_has_it_back_when_that_fails(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    client.record_collection_result(collection_result(id_))
    later = {"key": "key2", "started": LATER, "median_cell": None}
    client.record_collection_result(collection_result(id_, status=ResultStatus.RUNNING, **later))
    assert statuses(ispyb) == ["SUCCESS", "RUNNING"]
    assert pages(ispyb) in ([None, id_], [0, 0])
    client.record_collection_result(
        collection_result(id_, status=ResultStatus.FAILED, message="the disk is full", **later)
    )
    assert statuses(ispyb) == ["SUCCESS", "FAILED"]
    assert messages(ispyb) == [OWN, "the disk is full"]
    assert pages(ispyb) in ([id_, None], [0, 0])


def test_a_repetition_that_failed_is_noted_at_its_success(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    client.record_collection_result(collection_result(id_))
    before = (rows(ispyb, in_ispyb.AutoProcIntegration), rows(ispyb, in_ispyb.AutoProcProgramAttachment))
    failed = {"status": ResultStatus.FAILED, "message": "no files", "started": LATER, "last_image": 1}
    for _ in range(2):
        client.record_collection_result(collection_result(id_, attachments=(), **failed))
    assert (statuses(ispyb), messages(ispyb)) == (
        ["SUCCESS"],
        [f"{OWN} | later attempt key1 failed: no files"],
    )
    after = (rows(ispyb, in_ispyb.AutoProcIntegration), rows(ispyb, in_ispyb.AutoProcProgramAttachment))
    assert after == before
    client.record_collection_result(collection_result(id_, started=LATER))
    assert messages(ispyb) == [OWN]


def test_a_later_merge_has_rows_of_its_own_and_the_earlier_keeps_its_numbers(
    ispyb: Engine, client: OrmClient, second: CollectedIds
):
    kept, dropped = second.data_collection_id - 1, second.data_collection_id
    client.record_merged_result(merged_result(kept, dropped))
    later = merged_result(kept, key="merge2", started=LATER, space_group="P41212")
    for _ in range(2):
        client.record_merged_result(later)
    assert messages(ispyb) == [
        f"{MERGED} | superseded by program 2 (merge2)",
        f"{MERGED} | supersedes program 1 (merge1)",
    ]
    assert [a["spaceGroup"] for a in rows(ispyb, in_ispyb.AutoProc)] == ["P43212", "P41212"]
    links = rows(ispyb, in_ispyb.AutoProcScaling_has_Int)
    assert [link["autoProcScalingId"] for link in links] == [1, 1, 2]
    assert counts(ispyb) == [2, 2, 3, 2, 2, 6, 3]


def test_a_later_merge_of_quite_other_members_supersedes_that_of_those_that_ever_were(
    ispyb: Engine, client: OrmClient, second: CollectedIds
):
    former, now = second.data_collection_id - 1, second.data_collection_id
    client.record_merged_result(merged_result(former))
    later = merged_result(now, key="merge2", started=LATER, ever_members=frozenset({former, now}))
    client.record_merged_result(later)
    assert messages(ispyb) == [
        f"{MERGED} | superseded by program 2 (merge2)",
        f"{MERGED} | supersedes program 1 (merge1)",
    ]


def test_a_merge_that_failed_leaves_the_success_and_is_superseded_by_the_next(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id)
    client.record_merged_result(result)
    attempt = without_numbers(result, ResultStatus.FAILED, key="merge2", started=LATER, message="no lattices")
    client.record_merged_result(attempt)
    assert messages(ispyb) == [MERGED, "no lattices"]
    client.record_merged_result(
        merged_result(collected.data_collection_id, key="merge3", started=LATER.replace(hour=23))
    )
    assert messages(ispyb) == [
        f"{MERGED} | superseded by program 3 (merge3)",
        "no lattices | superseded by program 3 (merge3)",
        f"{MERGED} | supersedes program 1 (merge1)",
    ]
    assert statuses(ispyb) == ["SUCCESS", "FAILED", "SUCCESS"]


@pytest.mark.parametrize("length", [0, 200, 255])
def test_links_fit_after_any_message_and_are_set_once(length: int):
    key = "k" * 40
    attempts = [
        Attempt(i, f"ssxorch:{key}", ResultStatus.SUCCESS, START.replace(hour=i), "m" * length)
        for i in range(1, 4)
    ]
    said = linked_messages(attempts)
    assert max(map(len, said.values())) <= 255
    assert said[2].endswith(" | superseded by program 3 (kkkkkkkk) | supersedes program 1 (kkkkkkkk)")
    again = [Attempt(a.program_id, a.environment, a.status, a.started, said[a.program_id]) for a in attempts]
    assert linked_messages(again) == said
