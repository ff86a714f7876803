"""What only some sites' tables hold: Diamond's jobs and messages, MAX IV's results of serial collections."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from ispyb_io import result_tables as in_ispyb
from ispyb_io import site_tables
from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.orm_client import OrmClient
from ispyb_io.results import Attachment, Message, ResultStatus, Severity

from .made_results import LATER, collection_result, merged_result
from .rows import rows, statuses

LATE = Message(severity=Severity.WARNING, text="25 of 26 chunks", description="chunk 14: truncated file")
RATES = Message(severity=Severity.INFO, text="40.0 % of 2000 images are hits")


@pytest.fixture
def two_chips(request: pytest.FixtureRequest, chip: CollectedChip) -> tuple[Engine, list[CollectedIds]]:
    engine = request.getfixturevalue(request.param)
    other = chip.model_copy(update={"file_template": "chip7b_master.h5"})
    return engine, [write_collected_chip(engine, one) for one in (chip, other)]


diamond = pytest.mark.parametrize("two_chips", ["diamond_ispyb"], indirect=True)
maxiv = pytest.mark.parametrize("two_chips", ["maxiv_ispyb"], indirect=True)
Chips = tuple[Engine, list[CollectedIds]]


@diamond
def test_a_collection_result_has_a_job_with_one_sweep_and_its_key(two_chips: Chips):
    engine, (first, _) = two_chips
    for _ in range(2):
        OrmClient(engine).record_collection_result(collection_result(first.data_collection_id))
    (program,) = rows(engine, in_ispyb.AutoProcProgram)
    (job,) = rows(engine, site_tables.ProcessingJob)
    (sweep,) = rows(engine, site_tables.ProcessingJobImageSweep)
    (parameter,) = rows(engine, site_tables.ProcessingJobParameter)
    assert (program["processingJobId"], program["processingStatus"]) == (job["processingJobId"], 1)
    assert (job["dataCollectionId"], job["displayName"]) == (first.data_collection_id, "ssx")
    assert (sweep["dataCollectionId"], sweep["startImage"], sweep["endImage"]) == (
        job["dataCollectionId"],
        1,
        2000,
    )
    assert (parameter["parameterKey"], parameter["parameterValue"]) == ("ssxorch_key", "key1")


@diamond
@pytest.mark.parametrize(
    ("samples", "named"),
    [
        ({"sample_id": 7}, ("sample_id", "7")),
        ({"sample_group_id": 3, "sample_id": 7}, ("sample_group_id", "3")),
    ],
)
def test_a_merge_has_a_job_with_a_sweep_for_each_member_and_its_samples(
    two_chips: Chips, samples: dict[str, Any], named: tuple[str, str]
):
    engine, chips = two_chips
    ids = [chip.data_collection_id for chip in chips]
    for _ in range(2):
        OrmClient(engine).record_merged_result(merged_result(*ids, **samples))
    (job,) = rows(engine, site_tables.ProcessingJob)
    assert job["dataCollectionId"] == ids[0]
    assert [s["dataCollectionId"] for s in rows(engine, site_tables.ProcessingJobImageSweep)] == ids
    parameters = rows(engine, site_tables.ProcessingJobParameter)
    assert [(p["parameterKey"], p["parameterValue"]) for p in parameters] == [
        ("ssxorch_key", "merge1"),
        named,
    ]


@diamond
def test_a_merge_of_one_collection_names_the_program_it_builds_on_and_its_files_have_ranks(two_chips: Chips):
    engine, (first, second) = two_chips
    client = OrmClient(engine)
    own = client.record_collection_result(collection_result(first.data_collection_id))
    client.record_merged_result(
        merged_result(
            first.data_collection_id, attachments=(Attachment(path=Path("/proc/merged.mtz"), importance=1),)
        )
    )
    client.record_merged_result(
        merged_result(first.data_collection_id, second.data_collection_id, name="both")
    )
    parents = [p["parentAutoProcProgramId"] for p in rows(engine, in_ispyb.AutoProcProgram)]
    assert parents == [None, own, None]
    ranks = {a["fileName"]: a["importanceRank"] for a in rows(engine, in_ispyb.AutoProcProgramAttachment)[:4]}
    assert ranks == {"ssx_stats.json": 2, "ssx_cells.json": 2, "chunks.log": 2, "merged.mtz": 1}


@diamond
def test_statuses_are_numbers_and_running_is_null(two_chips: Chips):
    engine, (first, second) = two_chips
    for chip, status in ((first, ResultStatus.RUNNING), (second, ResultStatus.FAILED)):
        OrmClient(engine).record_collection_result(collection_result(chip.data_collection_id, status=status))
    assert [p["processingStatus"] for p in rows(engine, in_ispyb.AutoProcProgram)] == [None, 0]
    assert statuses(engine) == ["RUNNING", "FAILED"]


@diamond
def test_messages_are_said_once_and_those_true_no_longer_are_marked(two_chips: Chips):
    engine, (first, _) = two_chips
    client, id_ = OrmClient(engine), first.data_collection_id
    running = {"status": ResultStatus.RUNNING, "messages": (RATES,)}
    client.record_collection_result(collection_result(id_, **running))
    assert rows(engine, site_tables.AutoProcProgramMessage) == []
    partial = collection_result(id_, status=ResultStatus.FAILED, messages=(RATES, LATE))
    for result in (partial, partial, collection_result(id_, messages=(RATES,))):
        client.record_collection_result(result)
    said = rows(engine, site_tables.AutoProcProgramMessage)
    assert [(m["severity"], m["message"], m["description"]) for m in said] == [
        ("INFO", RATES.text, ""),
        ("INFO", f"no longer: {LATE.text}", LATE.description),
    ]


def ssx_rows(engine: Engine) -> list[tuple[Any, ...]]:
    names = ("indexingType", "status", "nbCrystals", "comments")
    return [tuple(row[name] for name in names) for row in rows(engine, site_tables.SSXProcessingResult)]


@maxiv
def test_rates_are_preliminary_while_chunks_run_and_then_final(two_chips: Chips):
    engine, (first, _) = two_chips
    client, id_ = OrmClient(engine), first.data_collection_id
    rates = {"hit_rate": 0.4, "indexing_rate": 0.8, "n_crystals": 700}
    for n in (100, 200):
        client.record_collection_result(
            collection_result(id_, **rates | {"n_crystals": n}, status=ResultStatus.RUNNING)
        )
    assert ssx_rows(engine) == [("Preliminary", "Running", 200, "ssxorch:key1")]
    for _ in range(2):
        client.record_collection_result(collection_result(id_, **rates))
    assert ssx_rows(engine) == [
        ("Preliminary", "Success", 200, "ssxorch:key1"),
        ("Final", "Success", 700, "ssxorch:key1"),
    ]
    final = rows(engine, site_tables.SSXProcessingResult)[1]
    assert (final["hitRate"], final["indexingRate"]) == pytest.approx((0.4, 0.8))  # fractions
    files = rows(engine, site_tables.SSXProcessingResultAttachment)
    assert [f["fileType"] for f in files] == ["Real-time processing results"] * 3 + ["Processing results"] * 3


@maxiv
def test_the_final_rates_of_a_success_outlast_a_later_run_that_fails(two_chips: Chips):
    engine, (first, _) = two_chips
    client, id_ = OrmClient(engine), first.data_collection_id
    client.record_collection_result(collection_result(id_, n_crystals=700))
    for status in (ResultStatus.RUNNING, ResultStatus.FAILED):
        client.record_collection_result(
            collection_result(id_, key="key2", started=LATER, status=status, n_crystals=5)
        )
    assert ssx_rows(engine) == [
        ("Final", "Success", 700, "ssxorch:key1"),
        ("Preliminary", "Failed", 5, "ssxorch:key2"),
    ]
