"""The result of a merge: complete, once, superseded by a later success. Runs on every database."""

import pytest
from sqlalchemy import Engine

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedIds
from ispyb_io.orm_client import OrmClient
from ispyb_io.results import (
    ResultStatus,
)

from .made_results import CELL, LATER, collection_result, counts, merged_result, without_numbers
from .rows import count, rows


def test_a_merged_result_is_in_every_row(ispyb: Engine, client: OrmClient, second: CollectedIds):
    ids = (second.data_collection_id - 1, second.data_collection_id)
    client.record_merged_result(merged_result(*ids))
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    (autoproc,) = rows(ispyb, in_ispyb.AutoProc)
    (scaling,) = rows(ispyb, in_ispyb.AutoProcScaling)
    assert program["dataCollectionId"] is None  # else the SSX page would count its attachments
    assert program["processingStatus"] == "SUCCESS"
    assert autoproc["autoProcProgramId"] == program["autoProcProgramId"]
    assert autoproc["spaceGroup"] == "P43212"
    assert [autoproc[f"refinedCell_{x}"] for x in ("a", "b", "c", "alpha", "beta", "gamma")] == pytest.approx(
        CELL
    )
    assert scaling["autoProcId"] == autoproc["autoProcId"]
    assert [i["dataCollectionId"] for i in rows(ispyb, in_ispyb.AutoProcIntegration)] == list(ids)
    links = rows(ispyb, in_ispyb.AutoProcScaling_has_Int)
    assert [link["autoProcScalingId"] for link in links] == [scaling["autoProcScalingId"]] * 2


def test_overall_statistics_come_first_and_in_ispybs_units(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    client.record_merged_result(merged_result(collected.data_collection_id))
    statistics = rows(ispyb, in_ispyb.AutoProcScalingStatistics)
    overall = statistics[0]
    assert [s["scalingStatisticsType"] for s in statistics] == ["overall", "innerShell", "outerShell"]
    assert overall["completeness"] == pytest.approx(99.5)  # per cent
    assert overall["ccHalf"] == pytest.approx(0.975)
    assert (overall["resolutionLimitLow"], overall["resolutionLimitHigh"]) == pytest.approx((40.0, 1.8))
    assert (overall["nTotalObservations"], overall["nTotalUniqueObservations"]) == (90000, 11000)
    assert overall["comments"] == "R_split=0.1234; CC*=0.9937"
    assert overall["rMerge"] is None


def test_a_repeated_merged_result_adds_no_row(ispyb: Engine, client: OrmClient, second: CollectedIds):
    result = merged_result(second.data_collection_id - 1, second.data_collection_id)
    first = client.record_merged_result(result)
    before = counts(ispyb)
    assert client.record_merged_result(result) == first
    assert counts(ispyb) == before


def test_a_later_merge_of_quite_other_members_takes_the_same_row(
    ispyb: Engine, client: OrmClient, second: CollectedIds
):
    former, now = second.data_collection_id - 1, second.data_collection_id
    program_id = client.record_merged_result(merged_result(former))
    later = merged_result(now, key="merge2", started=LATER, ever_members=frozenset({former, now}))
    assert client.record_merged_result(later) == program_id
    links = rows(ispyb, in_ispyb.AutoProcScaling_has_Int)
    assert [link["autoProcScalingId"] is None for link in links] == [True, False]


def test_merges_of_two_names_stand_side_by_side(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    dark = client.record_merged_result(merged_result(collected.data_collection_id, name="chip 7: dark"))
    light = client.record_merged_result(merged_result(collected.data_collection_id, name="chip 7: light"))
    assert dark != light
    assert count(ispyb, in_ispyb.AutoProc) == 2


def test_a_merge_does_not_touch_the_collection_result(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    own = client.record_collection_result(collection_result(collected.data_collection_id))
    merge = client.record_merged_result(merged_result(collected.data_collection_id))
    assert own != merge
    assert client.record_collection_result(collection_result(collected.data_collection_id)) == own
    assert client.record_merged_result(merged_result(collected.data_collection_id)) == merge


def test_a_later_merge_supersedes_in_place_and_drops_the_member_left_out(
    ispyb: Engine, client: OrmClient, second: CollectedIds
):
    kept, dropped = second.data_collection_id - 1, second.data_collection_id
    first = client.record_merged_result(merged_result(kept, dropped))
    again = merged_result(kept, key="merge2", started=LATER, space_group="P41212")
    before = counts(ispyb)
    assert client.record_merged_result(again) == first
    assert counts(ispyb) == before
    assert rows(ispyb, in_ispyb.AutoProc)[0]["spaceGroup"] == "P41212"
    scalings = [link["autoProcScalingId"] for link in rows(ispyb, in_ispyb.AutoProcScaling_has_Int)]
    assert scalings[0] is not None
    assert scalings[1] is None
    client.record_merged_result(merged_result(kept, dropped, key="merge3", started=LATER))
    assert counts(ispyb) == before
    assert rows(ispyb, in_ispyb.AutoProcScaling_has_Int)[1]["autoProcScalingId"] == scalings[0]


def test_a_merge_that_failed_has_no_numbers_until_it_succeeds(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id)
    first = client.record_merged_result(without_numbers(result, ResultStatus.FAILED, message="no lattices"))
    assert rows(ispyb, in_ispyb.AutoProcProgram)[0]["processingStatus"] == "FAILED"
    assert (count(ispyb, in_ispyb.AutoProc), count(ispyb, in_ispyb.AutoProcScaling_has_Int)) == (0, 0)
    assert client.record_merged_result(result) == first
    assert count(ispyb, in_ispyb.AutoProc) == 1


def test_a_failed_attempt_leaves_the_success_and_notes_itself(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id)
    client.record_merged_result(result)
    for status, message in ((ResultStatus.RUNNING, ""), (ResultStatus.FAILED, "no lattices below 1.2 Å")):
        attempt = without_numbers(result, status, key="merge2", started=LATER, message=message)
        client.record_merged_result(attempt)
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    assert program["processingStatus"] == "SUCCESS"
    assert program["processingEnvironment"] == "ssxorch:merge1 merge:chip 7: all"
    assert program["processingMessage"] == (
        "640 lattices merged, 10 of 10 chunks | later attempt merge2 failed: no lattices below 1.2 Å"
    )
    client.record_merged_result(merged_result(collected.data_collection_id, key="merge3", started=LATER))
    assert (
        rows(ispyb, in_ispyb.AutoProcProgram)[0]["processingMessage"]
        == "640 lattices merged, 10 of 10 chunks"
    )


def test_the_note_of_an_attempt_fits_even_after_a_long_message(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id, message="m" * 255)
    client.record_merged_result(result)
    client.record_merged_result(without_numbers(result, ResultStatus.FAILED, key="merge2", message="f" * 255))
    message = rows(ispyb, in_ispyb.AutoProcProgram)[0]["processingMessage"]
    assert len(message) <= 255
    assert "later attempt merge2 failed: fff" in message
