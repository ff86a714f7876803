"""What py-ispyb serves is read as from the database; the contract of reading holds as far as it can."""

import datetime
from contextlib import closing
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from ispyb_io import rest_reader, rest_session
from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.records import Relation
from ispyb_io.rest_address import RestAddress
from ispyb_io.rest_client import RestClient
from ispyb_io.rest_records import ServedEvent
from ispyb_io.rest_session import RestSession

from ..test_reading import (  # noqa: F401  these run here too, on the fixtures below
    test_a_cell_with_a_zero_is_no_cell,
    test_a_collected_chip_is_read_back_as_written,
    test_a_collection_that_still_runs_has_no_end,
    test_a_group_comes_again_when_a_data_collection_joins_it,
    test_an_unknown_group_is_not_found,
    test_groups_newer_than_the_mark_are_found,
    test_other_experiment_types_are_not_found,
    test_paging_with_a_limit_reaches_every_group,
    test_writing_a_collected_chip_twice_adds_nothing,
)
from ..test_reading_samples import LCP, NAG
from .client import make_client
from .faults import Fault
from .served import Pyispyb
from .server import serving


def write_chips(ispyb: Engine, chip: CollectedChip, n: int) -> list[CollectedIds]:
    """One each hour."""
    return [
        write_collected_chip(ispyb, chip.model_copy(update={"sample_name": f"chip {i}", **times(chip, i)}))
        for i in range(n)
    ]


def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rest_session, rest_reader):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)


def times(chip: CollectedChip, hours: int) -> dict[str, datetime.datetime]:
    start = chip.start_time + datetime.timedelta(hours=hours)
    return {"start_time": start, "end_time": start + datetime.timedelta(minutes=5)}


@pytest.mark.parametrize("branch", ["ssx-webservice", "master"])
def test_what_a_version_does_not_serve_is_left_out(server: Pyispyb, chip: CollectedChip, branch: Any):
    ids = write_collected_chip(server.engine, chip)
    server.branch = branch
    with serving(server) as url, closing(make_client(url)) as client:
        group = client.group(ids.group_id)
    (collection,) = group.data_collections
    assert group.sample is not None
    assert (group.sample.unit_cell, group.sample.components) == (pytest.approx(chip.unit_cell), ())
    assert collection.ssx is None
    assert collection.event_chains == (chip.event_chains if branch == "ssx-webservice" else ())


def test_components_are_read_without_their_unit(server: Pyispyb, client: RestClient, chip: CollectedChip):
    ids = write_collected_chip(server.engine, chip.model_copy(update={"components": (LCP, NAG)}))
    sample = client.group(ids.group_id).sample
    assert sample is not None
    assert sample.components == (NAG.model_copy(update={"unit": ""}), LCP)


def test_a_data_collection_from_the_web_service_has_no_path(
    server: Pyispyb, client: RestClient, collected: CollectedIds
):
    body = {
        "dataCollectionGroupId": collected.group_id,
        "startTime": "2026-11-21T09:10:00",
        "numberOfImages": 1000,
        "imageDirectory": "/data/raw",
        "fileTemplate": "chip_master.h5",
    }
    id_ = client._session.post("webservices/ssx/datacollection", body)
    _, added = client.group(collected.group_id).data_collections
    assert (added.data_collection_id, added.n_images) == (id_, 1000)
    assert (added.image_directory, added.file_template, added.end_time) == (None, None, None)


def test_pages_end_with_the_first_without_news(
    ispyb: Engine, server: Pyispyb, client: RestClient, chip: CollectedChip, monkeypatch: pytest.MonkeyPatch
):
    small_pages(monkeypatch)
    ids = write_chips(ispyb, chip, 7)
    found = client.find_groups(ids[-2].data_collection_id, ["SSX-Chip"])
    assert [group.group_id for group in found] == [ids[-1].group_id]
    asked = [line for line in server.asked if "eventType" in line]
    assert [line.partition("skip=")[2] for line in asked] == ["0&limit=2", "2&limit=2", "5&limit=2"]


def test_a_version_that_orders_by_the_end_is_read_to_its_last_page(
    ispyb: Engine, server: Pyispyb, client: RestClient, chip: CollectedChip, monkeypatch: pytest.MonkeyPatch
):
    small_pages(monkeypatch)
    server.by_end = True
    old = write_chips(ispyb, chip, 5)
    running = chip.model_copy(update={"sample_name": "new", **times(chip, 9), "end_time": None})
    newest = write_collected_chip(ispyb, running)
    joined = write_collected_chip(
        ispyb, chip.model_copy(update={"sample_name": "chip 2", "file_template": "later", **times(chip, 10)})
    )
    found = client.find_groups(old[-1].data_collection_id)
    assert [group.group_id for group in found] == [newest.group_id, joined.group_id]
    assert joined.group_id == old[2].group_id


def test_each_look_asks_no_more_than_documented(
    ispyb: Engine, server: Pyispyb, client: RestClient, chip: CollectedChip, second: CollectedIds
):
    write_chips(ispyb, chip, 3)
    assert len(client.find_groups()) == 4
    of_types, of_one, of_two = 4, 2, 2 + 1 + 2  # sample and chain; members twice, sample, two chains
    once = 1 + 1 + 1  # plugin, login, session
    assert len(server.asked) == once + of_types + 3 * of_one + of_two


def test_filters_of_the_address_are_asked_for(ispyb: Engine, server: Pyispyb, chip: CollectedChip):
    others = [{"beamline": "ID30"}, {"proposal": "mx9"}]
    mine, elsewhere, _ = [
        write_collected_chip(ispyb, chip.model_copy(update=changes)) for changes in ({}, *others)
    ]
    filters = {"beamline": "ID29&beamline=ID30", "proposal": "mx1234"}
    with serving(server) as url, closing(make_client(url, **filters)) as client:
        found = client.find_groups()
    assert [group.group_id for group in found] == [mine.group_id, elsewhere.group_id]


def test_another_proposal_is_neither_found_nor_read(server: Pyispyb, client: RestClient, chip: CollectedChip):
    server.proposals = ("mx9",)
    ids = write_collected_chip(server.engine, chip)
    assert client.find_groups() == []
    with pytest.raises(NotFoundError, match="no data collection group 1 in ISPyB, or its proposal is not"):
        client.group(ids.group_id)


def test_an_unknown_experiment_type_is_read_as_it_is(
    server: Pyispyb, client: RestClient, chip: CollectedChip
):
    ids = write_collected_chip(server.engine, chip.model_copy(update={"experiment_type": "GphNative"}))
    assert client.group(ids.group_id).experiment_type == "GphNative"


def test_a_sample_and_a_session_that_are_not_shown_are_left_out(
    server: Pyispyb, client: RestClient, collected: CollectedIds
):
    server.faults += [Fault("failing", "/samples/1", status=404), Fault("failing", "-1", status=422)]
    group = client.group(collected.group_id)
    assert (group.sample, group.session_id, group.beamline, group.visit_number) == (None, None, "", 1)


def test_groups_of_the_same_sample_or_protein_are_found(
    ispyb: Engine, client: RestClient, chip: CollectedChip, collected: CollectedIds
):
    (other,) = write_chips(ispyb, chip, 1)
    write_collected_chip(ispyb, chip.model_copy(update={"sample_name": "x", "protein_acronym": "insu"}))
    alike = client.related_groups(collected.group_id, Relation.PROTEIN)
    assert [group.group_id for group in alike] == [collected.group_id, other.group_id]
    (same,) = client.related_groups(collected.group_id, Relation.SAMPLE)
    assert same == alike[0]
    with pytest.raises(RejectedError, match="does not show sample groups; name the groups instead"):
        client.related_groups(collected.group_id, Relation.SAMPLE_GROUP)


def test_groups_that_hold_a_data_collection_or_a_sample_are_found(
    ispyb: Engine, client: RestClient, chip: CollectedChip, second: CollectedIds
):
    (other,) = write_chips(ispyb, chip, 1)
    found = client.groups_with(
        data_collection_ids=[second.data_collection_id, 4711], sample_ids=[other.sample_id]
    )
    assert [(g.group_id, len(g.data_collections)) for g in found] == [
        (second.group_id, 2),
        (other.group_id, 1),
    ]


def test_robot_actions_among_the_events_are_passed_over(respond: Any):
    client = respond({"events": {"total": 1, "results": [{"id": 1, "type": "robot", "Item": {}}]}})
    assert client.find_groups() == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"total": 1, "results": [{"id": 1, "type": "dc", "count": 1}]}, "Item is not as py-ispyb serves it"),
        ([], "expected a page with total and results"),
        ("<html>", "expected a page with total and results"),
    ],
)
def test_an_answer_of_another_shape_is_rejected(respond: Any, answer: Any, message: str):
    with pytest.raises(RejectedError, match=message):
        respond({"events": answer}).find_groups()


def test_a_server_that_knows_no_groups_is_rejected(respond: Any):
    group = {"dataCollectionGroupId": 3}
    event = {"id": 5, "type": "dc", "Item": {"dataCollectionId": 5, "DataCollectionGroup": group}}
    with pytest.raises(RejectedError, match="does not know the parameter dataCollectionGroupId"):
        respond({"events": {"total": 1, "results": [event]}}).group(4)


def test_times_with_a_zone_become_local_ones():
    served = ServedEvent.model_validate(
        {
            "id": 5,
            "startTime": "2026-11-21T09:00:00Z",
            "Item": {"dataCollectionId": 5, "DataCollectionGroup": {"dataCollectionGroupId": 3}},
        }
    )
    utc = datetime.datetime(2026, 11, 21, 9, tzinfo=datetime.UTC)
    assert served.startTime == utc.astimezone().replace(tzinfo=None)


@pytest.fixture
def respond() -> Any:
    """Maker of clients whose server gives these answers, by path."""

    def make(answers: dict[str, Any]) -> RestClient:
        answers |= {"login": {"token": "t"}, "config": {"plugins": [{"name": "dummy"}]}}
        transport = httpx.MockTransport(
            lambda request: httpx.Response(200, json=answers[request.url.path.rpartition("/")[2]])
        )
        address = RestAddress(url="http://ispyb/api")
        http = httpx.Client(base_url=address.url, transport=transport)
        return RestClient(RestSession(http, address))

    return make
