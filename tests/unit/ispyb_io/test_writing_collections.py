"""The result of a data collection: complete, once, superseded in place. Runs on every database."""

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.results import (
    ResultStatus,
)

from .made_results import (
    START,
    collection_result,
    counts,
    merged_result,
)
from .rows import rows, statuses


def test_a_collection_result_is_in_every_row(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    id_ = collected.data_collection_id
    program_id = client.record_collection_result(collection_result(id_))
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    (integration,) = rows(ispyb, in_ispyb.AutoProcIntegration)
    attachments = rows(ispyb, in_ispyb.AutoProcProgramAttachment)
    assert program["autoProcProgramId"] == program_id
    assert program.get("dataCollectionId", id_) == id_  # Diamond has no such column
    assert statuses(ispyb) == ["SUCCESS"]
    assert program["processingEnvironment"] == "ssxorch:key1"
    assert program["processingMessage"] == "800 hits (40.0 %)"
    assert program["processingStartTime"] == START
    assert program["recordTimeStamp"] is not None
    assert (integration["dataCollectionId"], integration["autoProcProgramId"]) == (id_, program_id)
    assert (integration["startImageNumber"], integration["endImageNumber"]) == (1, 2000)
    assert integration["cell_b"] == pytest.approx(79.2)
    assert [(a["fileName"], a["filePath"], a["fileType"]) for a in attachments] == [
        ("ssx_stats.json", "/proc/key1", "Result"),
        ("ssx_cells.json", "/proc/key1", "Result"),
        ("chunks.log", "/proc/key1", "Log"),
    ]


def test_a_repeated_collection_result_adds_no_row(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    result = collection_result(collected.data_collection_id)
    first = client.record_collection_result(result)
    before = counts(ispyb)
    assert client.record_collection_result(result) == first
    assert counts(ispyb) == before


def test_a_result_grows_from_running_to_success(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    id_ = collected.data_collection_id
    running = collection_result(id_, status=ResultStatus.RUNNING, message="4 of 10 chunks", ended=None)
    first = client.record_collection_result(running)
    assert statuses(ispyb) == ["RUNNING"]
    assert rows(ispyb, in_ispyb.AutoProcProgram)[0]["processingEndTime"] is None
    assert client.record_collection_result(collection_result(id_)) == first
    assert statuses(ispyb) == ["SUCCESS"]


def test_a_late_running_does_not_undo_a_success(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    result = collection_result(collected.data_collection_id)
    client.record_collection_result(result)
    client.record_collection_result(result.model_copy(update={"status": ResultStatus.RUNNING}))
    assert statuses(ispyb) == ["SUCCESS"]


def test_a_failure_without_a_start_time_leaves_the_success_too(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    id_ = collected.data_collection_id
    client.record_collection_result(collection_result(id_))
    failed = {"status": ResultStatus.FAILED, "message": "no files", "started": None, "attachments": ()}
    client.record_collection_result(collection_result(id_, key="key2", **failed))
    success, _ = rows(ispyb, in_ispyb.AutoProcProgram)
    assert statuses(ispyb) == ["SUCCESS", "FAILED"]
    assert success["processingStartTime"] == START


def test_a_failure_replaces_what_is_no_success(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    id_ = collected.data_collection_id
    for status, message in (
        (ResultStatus.RUNNING, ""),
        (ResultStatus.FAILED, "a"),
        (ResultStatus.FAILED, "b"),
    ):
        client.record_collection_result(collection_result(id_, status=status, message=message))
    (program,) = rows(ispyb, in_ispyb.AutoProcProgram)
    assert statuses(ispyb) == ["FAILED"]
    assert program["processingMessage"] == "b"


def test_programs_of_others_are_left_alone(ispyb: Engine, client: OrmClient, collected: CollectedIds):
    with ispyb.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO AutoProcProgram (processingPrograms, processingStatus, processingEnvironment) "
                "VALUES ('other', '1', 'slurm')"
            )
        )
        integration = "INSERT INTO AutoProcIntegration (dataCollectionId, autoProcProgramId) VALUES (:id, 1)"
        connection.execute(text(integration), {"id": collected.data_collection_id})
    client.record_collection_result(collection_result(collected.data_collection_id))
    other, ours = rows(ispyb, in_ispyb.AutoProcProgram)
    assert (other["processingPrograms"], str(other["processingStatus"])) == ("other", "1")
    assert other["processingMessage"] is None
    assert ours["processingPrograms"] == "ssx"


def test_an_unknown_data_collection_is_not_found_and_nothing_is_written(ispyb: Engine, client: OrmClient):
    with pytest.raises(NotFoundError, match="no data collection 999"):
        client.record_collection_result(collection_result(999))
    with pytest.raises(NotFoundError, match="no data collection 998, 999"):
        client.record_merged_result(merged_result(999, 998))
    assert counts(ispyb) == [0] * 7


@pytest.mark.parametrize("kind", ["collection", "merge"])
def test_eight_writers_of_one_result_make_one_of_each_row(
    ispyb: Engine, chip: CollectedChip, second: CollectedIds, kind: str
):
    ids = (second.data_collection_id - 1, second.data_collection_id)
    clients = [OrmClient(ispyb) for _ in range(8)]

    def write(client: OrmClient) -> int:
        if kind == "collection":
            return client.record_collection_result(collection_result(ids[0]))
        return client.record_merged_result(merged_result(*ids))

    with ThreadPoolExecutor(8) as threads:
        programs = set(threads.map(write, clients * 3))
    assert len(programs) == 1
    assert counts(ispyb) == ([1, 3, 1, 0, 0, 0, 0] if kind == "collection" else [1, 1, 2, 1, 1, 3, 2])


def test_eight_beamlines_that_write_one_chip_write_it_once(ispyb: Engine, chip: CollectedChip):
    with ThreadPoolExecutor(8) as threads:
        written = set(threads.map(lambda _: write_collected_chip(ispyb, chip), range(16)))
    assert len(written) == 1


def test_a_write_that_breaks_off_leaves_nothing(ispyb: Engine, collected: CollectedIds):
    def broken_clock() -> datetime.datetime:
        raise RuntimeError("the clock stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        OrmClient(ispyb, clock=broken_clock).record_collection_result(collection_result(1))
    assert counts(ispyb) == [0] * 7
    OrmClient(ispyb).record_collection_result(collection_result(collected.data_collection_id))
    assert counts(ispyb)[0] == 1


def test_a_status_that_the_enum_lacks_is_rejected_before_anything_is_written(
    esrf_ispyb: Engine, chip: CollectedChip
):
    ids = write_collected_chip(esrf_ispyb, chip)
    with esrf_ispyb.begin() as connection:
        connection.execute(text("ALTER TABLE AutoProcProgram MODIFY processingStatus ENUM('0', '1')"))
    with pytest.raises(RejectedError, match=r"processingStatus cannot hold 'RUNNING' here, only 0, 1"):
        OrmClient(esrf_ispyb).record_collection_result(collection_result(ids.data_collection_id))
    assert counts(esrf_ispyb) == [0] * 7
