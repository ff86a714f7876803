"""One row for each data collection, whatever is repeated and lost on the way; what is not told is said."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ispyb_io.beamline import CollectedIds
from ispyb_io.protocol import NotFoundError, RejectedError, UnavailableError
from ispyb_io.rest_client import LIMITS, RestClient
from ispyb_io.result_tables import AutoProcProgram, AutoProcProgramAttachment
from ispyb_io.results import Attachment, CollectionResult, ResultStatus
from ispyb_io.ssx_files import write_ssx_cells, write_ssx_stats

from ..made_results import LATER, START, collection_result, merged_result
from ..rows import count, rows
from .client import make_client, make_impatient
from .faults import Fault, Kind
from .served import Pyispyb
from .server import serving

PROCESSING = "/processing"


def written(folder: Path, data_collection_id: int, n_hits: int = 800, **changes: Any) -> CollectionResult:
    """A result whose files are there."""
    cell = (79.1, 79.2, 37.9, 90.0, 90.0, 90.0)
    stats = write_ssx_stats(folder, n_hits=n_hits, n_indexed=640, lattice_type="tP", estimated_resolution=1.8)
    files = (Attachment(path=stats), Attachment(path=write_ssx_cells(folder, [cell])))
    return collection_result(data_collection_id, **({"attachments": files} | changes))


def stats_rows(client: RestClient, data_collection_id: int) -> list[dict[str, Any]]:
    path = "ssx/datacollection/processing/stats"
    return client._session.get(path, dataCollectionIds=str(data_collection_id))


def test_a_success_is_told_with_its_files(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    result = written(tmp_path, collected.data_collection_id)
    program_id = client.record_collection_result(result)
    (program,) = rows(server.engine, AutoProcProgram)
    assert program["autoProcProgramId"] == program_id
    assert program["dataCollectionId"] == collected.data_collection_id
    assert (program["processingStatus"], program["processingPrograms"]) == ("SUCCESS", "ssx")
    assert (program["processingMessage"], program["processingCommandLine"]) == (
        "800 hits (40.0 %)",
        "ssx process --group 1",
    )
    assert program["processingStartTime"] == START
    assert program["processingEnvironment"] == "ssxorch:key1"
    attached = [(row["filePath"], row["fileName"]) for row in rows(server.engine, AutoProcProgramAttachment)]
    assert attached == [(str(tmp_path), "ssx_stats.json"), (str(tmp_path), "ssx_cells.json")]
    assert [row["nbHits"] for row in stats_rows(client, collected.data_collection_id)] == [800]


def test_a_later_success_replaces_the_files_and_adds_no_row(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    id_ = collected.data_collection_id
    first = client.record_collection_result(written(tmp_path, id_))
    later = written(tmp_path, id_, n_hits=900, key="key2", started=LATER)
    assert client.record_collection_result(later) == first
    assert count(server.engine, AutoProcProgram) == 1
    assert [row["nbHits"] for row in stats_rows(client, id_)] == [900]


def test_a_new_client_knows_what_was_told(
    server: Pyispyb, url: str, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    server.sees_files = False  # the statistics do not help then
    result = written(tmp_path, collected.data_collection_id)
    first = client.record_collection_result(result)
    with closing(make_client(url)) as other:
        assert other.record_collection_result(result) == first
    assert count(server.engine, AutoProcProgram) == 1


def test_a_lost_receipt_adds_no_row(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    result = written(tmp_path, collected.data_collection_id)
    client.record_collection_result(result)
    (tmp_path / ".ispyb_rest.json").unlink()
    assert client.record_collection_result(result) is None
    assert count(server.engine, AutoProcProgram) == 1


@pytest.mark.parametrize("content", ["", '[{"url": "http', "{}"])
def test_a_damaged_receipt_is_as_a_lost_one(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path, content: str
):
    result = written(tmp_path, collected.data_collection_id)
    client.record_collection_result(result)
    (tmp_path / ".ispyb_rest.json").write_text(content)
    assert client.record_collection_result(result) is None
    assert count(server.engine, AutoProcProgram) == 1


@pytest.mark.parametrize("kind", ["reply lost", "slow"])
def test_a_lost_reply_is_looked_for_and_not_repeated(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path, kind: Kind
):
    server.faults.append(Fault(kind, PROCESSING, "POST"))
    result = written(tmp_path, collected.data_collection_id)
    client._session._current_token()
    if kind == "slow":
        make_impatient(client)
    assert client.record_collection_result(result) is None
    assert client.record_collection_result(result) is None
    assert count(server.engine, AutoProcProgram) == 1


@pytest.mark.parametrize("kind", ["failing", "closed"])
def test_what_was_not_done_is_unavailable_and_done_the_next_time(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path, kind: Kind
):
    server.faults.append(Fault(kind, PROCESSING, "POST", status=500))
    result = written(tmp_path, collected.data_collection_id)
    with pytest.raises(UnavailableError, match=r"POST http.*/processing: "):
        client.record_collection_result(result)
    assert client.record_collection_result(result) == 1
    assert count(server.engine, AutoProcProgram) == 1


def test_eight_writers_add_one_row(server: Pyispyb, url: str, collected: CollectedIds, tmp_path: Path):
    result = written(tmp_path, collected.data_collection_id)

    def tell(_: int) -> int | None:
        with closing(make_client(url)) as client:
            return client.record_collection_result(result)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(tell, range(8))) == {1}
    assert count(server.engine, AutoProcProgram) == 1


def test_statistics_of_others_are_not_added_to(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path, caplog: Any
):
    client.record_collection_result(written(tmp_path / "theirs", collected.data_collection_id, n_hits=700))
    assert client.record_collection_result(written(tmp_path / "ours", collected.data_collection_id)) is None
    assert count(server.engine, AutoProcProgram) == 1
    assert "has statistics of SSX in ISPyB, of another program" in caplog.text


def test_an_unknown_data_collection_is_not_found_and_nothing_is_written(
    server: Pyispyb, client: RestClient, tmp_path: Path
):
    with pytest.raises(NotFoundError, match="no data collection 4711 in ISPyB"):
        client.record_collection_result(written(tmp_path, 4711))
    assert count(server.engine, AutoProcProgram) == 0


def test_a_data_collection_of_another_proposal_is_not_written_to(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    server.proposals = ("mx9",)
    with pytest.raises(NotFoundError, match="or its proposal is not open to us"):
        client.record_collection_result(written(tmp_path, collected.data_collection_id))


def test_without_the_permission_it_is_rejected(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path
):
    server.permissions = ()
    with pytest.raises(RejectedError, match="403 Forbidden: You do not have permission: `ssx_sync`"):
        client.record_collection_result(written(tmp_path, collected.data_collection_id))


def test_a_server_that_does_not_see_the_files_is_named(
    server: Pyispyb, client: RestClient, collected: CollectedIds, tmp_path: Path, caplog: Any
):
    server.sees_files = False
    assert client.record_collection_result(written(tmp_path, collected.data_collection_id)) == 1
    assert f"py-ispyb does not show {tmp_path}/ssx_stats.json; its server must see it" in caplog.text


@pytest.mark.parametrize("status", [ResultStatus.RUNNING, ResultStatus.FAILED])
def test_what_is_no_success_is_not_told_and_said_once(
    server: Pyispyb,
    client: RestClient,
    collected: CollectedIds,
    tmp_path: Path,
    caplog: Any,
    status: ResultStatus,
):
    result = written(tmp_path, collected.data_collection_id, status=status)
    assert [client.record_collection_result(result) for _ in range(3)] == [None] * 3
    assert server.asked == []
    assert caplog.text.count("py-ispyb is not told that a result") == 1


def test_a_merged_result_is_not_told_and_said_once(
    server: Pyispyb, client: RestClient, collected: CollectedIds, caplog: Any
):
    result = merged_result(collected.data_collection_id)
    assert [client.record_merged_result(result) for _ in range(3)] == [None] * 3
    assert server.asked == []
    assert caplog.text.count("py-ispyb is not told merged results") == 1


def test_a_version_without_the_web_service_is_told_nothing(server: Pyispyb, tmp_path: Path, caplog: Any):
    server.branch = "master"
    with serving(server) as url, closing(make_client(url)) as client:
        assert client.record_collection_result(written(tmp_path, 1)) is None
        assert client.record_collection_result(written(tmp_path, 1)) is None
        offers = client.offers()
    assert caplog.text.count("has no web service for SSX") == 1
    assert "has no web service for SSX" in offers.problems[0]


def test_offers_tell_limits_and_problems(server: Pyispyb, url: str, client: RestClient):
    offers = client.offers()
    assert (offers.dialect, offers.problems) == ("py-ispyb", ())
    assert len(offers.limits) == len(LIMITS)
    server.permissions = ()
    with closing(make_client(url)) as other:
        assert other.offers().problems == (
            "the account lacks the permission ssx_sync; it can read but not tell results",
        )
