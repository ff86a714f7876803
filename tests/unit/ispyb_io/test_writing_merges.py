"""The result of a merge: complete, once, superseded by a later success. Runs on every database."""

import pytest
from sqlalchemy import Engine

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedIds
from ispyb_io.orm_client import OrmClient
from ispyb_io.results import (
    ResultStatus,
)

from .made_results import CELL, collection_result, counts, merged_result, without_numbers
from .rows import count, rows, statuses


def test_a_merged_result_is_in_every_row(ispyb: Engine, client: OrmClient, second: CollectedIds):
    ids = (second.data_collection_id - 1, second.data_collection_id)
    client.record_merged_result(merged_result(*ids))
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    (autoproc,) = rows(ispyb, in_ispyb.AutoProc)
    (scaling,) = rows(ispyb, in_ispyb.AutoProcScaling)
    assert program.get("dataCollectionId") is None  # else the SSX page would count its attachments
    assert statuses(ispyb) == ["SUCCESS"]
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
    factors = [overall[name] for name in ("rMerge", "rMeasAllIPlusIMinus", "rPimAllIPlusIMinus")]
    assert factors == pytest.approx([0.31, 0.33, 0.11])
    assert overall["rMeasWithinIPlusIMinus"] is None  # Friedel mates are merged
    assert overall["anomalousCompleteness"] == pytest.approx(98.0)
    assert overall.get("ccAno", overall.get("ccAnomalous")) == pytest.approx(0.12)
    assert overall.get("resIOverSigI2", 2.1) == pytest.approx(2.1)  # Diamond's


def test_a_repeated_merged_result_adds_no_row(ispyb: Engine, client: OrmClient, second: CollectedIds):
    result = merged_result(second.data_collection_id - 1, second.data_collection_id)
    first = client.record_merged_result(result)
    before = counts(ispyb)
    assert client.record_merged_result(result) == first
    assert counts(ispyb) == before


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


def test_a_merge_that_failed_has_no_numbers_until_it_succeeds(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id)
    first = client.record_merged_result(without_numbers(result, ResultStatus.FAILED, message="no lattices"))
    assert statuses(ispyb) == ["FAILED"]
    assert (count(ispyb, in_ispyb.AutoProc), count(ispyb, in_ispyb.AutoProcScaling_has_Int)) == (0, 0)
    assert client.record_merged_result(result) == first
    assert count(ispyb, in_ispyb.AutoProc) == 1


def test_the_note_of_an_attempt_fits_even_after_a_long_message(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    result = merged_result(collected.data_collection_id, message="m" * 255)
    client.record_merged_result(result)
    client.record_merged_result(without_numbers(result, ResultStatus.FAILED, message="f" * 255))
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    assert len(program["processingMessage"]) <= 255
    assert "later attempt merge1 failed: fff" in program["processingMessage"]
    assert statuses(ispyb) == ["SUCCESS"]
