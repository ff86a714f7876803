"""Rows as beamlines really leave them are read on every database, and labels of all families match."""

from collections.abc import Iterable

import pytest
from sqlalchemy import Engine, inspect, text

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.flavour import Flavour
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES
from ispyb_io.records import (
    DataCollection,
    DataCollectionGroup,
    Event,
    EventChain,
    Relation,
    SampleComponent,
    SsxDetails,
)
from ispyb_io.survey import Scope, latest_groups

from .conftest import PUBLISHED

BELOW_THE_GROUP = ("DataCollection", "SSXDataCollection", "EventChain", "Event")
SAMPLES = ("BLSample", "Crystal", "Protein", "Component", "SampleComposition", "CrystalComposition")
ABOVE = ("DataCollectionGroup", "BLSession", "Proposal")


@pytest.fixture(params=PUBLISHED)
def published_ispyb(request: pytest.FixtureRequest) -> Engine:
    """MariaDB with each published schema."""
    return request.getfixturevalue(request.param)


def run(ispyb: Engine, *statements: str) -> None:
    with ispyb.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def run_carelessly(ispyb: Engine, *statements: str) -> None:
    """Run statements in the mode of a server that takes anything."""
    run(ispyb, "SET SESSION sql_mode = ''", *statements)
    ispyb.dispose()  # the mode is the connection's


def empty(ispyb: Engine, tables: Iterable[str], *, references: bool) -> None:
    """Set to NULL what may be NULL; columns that refer to other rows only if asked."""
    inspector = inspect(ispyb)
    for name in tables:
        keys = inspector.get_pk_constraint(name)["constrained_columns"]
        columns = [
            column["name"]
            for column in inspector.get_columns(name)
            if column["nullable"] and column["name"] not in keys
        ]
        columns = [c for c in columns if references or not c.lower().endswith("id")]
        nothing = ", ".join(f"`{column}` = NULL" for column in columns)
        run(ispyb, f"UPDATE {name} SET {nothing}")  # noqa: S608


NAG = SampleComponent(name="NAG", component_type="Ligand", unit="mM", abundance=5, of_crystal=True)
LCP = SampleComponent(name="LCP", component_type="JetMaterial")


@pytest.fixture
def group_id(ispyb: Engine, chip: CollectedChip) -> int:
    return write_collected_chip(ispyb, chip.model_copy(update={"components": (NAG, LCP)})).group_id


def test_nulls_wherever_there_may_be_one_are_read(ispyb: Engine, group_id: int):
    empty(ispyb, (*BELOW_THE_GROUP, *SAMPLES, *ABOVE), references=False)
    group = OrmClient(ispyb).group(group_id)
    assert group.sample is not None
    assert (group.sample.name, group.sample.protein_acronym, group.sample.unit_cell) == ("", "", None)
    assert [(c.name, c.component_type, c.abundance) for c in group.sample.components] == [
        ("NAG", "Ligand", None),
        ("LCP", "JetMaterial", None),
    ]
    chain = EventChain(
        name="", events=(Event(event_type="LaserExcitation"), Event(event_type="XrayDetection", offset=0.5))
    )
    id_ = group.newest_data_collection_id
    nothing_else = DataCollection(data_collection_id=id_, ssx=SsxDetails(), event_chains=(chain,))
    assert group.data_collections == (nothing_else,)


def test_a_group_that_refers_to_nothing_is_read(ispyb: Engine, group_id: int):
    empty(ispyb, (*BELOW_THE_GROUP, *SAMPLES, *ABOVE), references=True)
    group = OrmClient(ispyb).group(group_id)
    expected = DataCollectionGroup(group_id=group_id, session_id=group.session_id, proposal="")
    assert group.model_copy(update={"data_collections": ()}) == expected
    assert OrmClient(ispyb).find_groups() == []


def test_dates_of_zeros_are_no_dates(published_ispyb: Engine, chip: CollectedChip):
    ids = write_collected_chip(published_ispyb, chip)
    run_carelessly(
        published_ispyb,
        "UPDATE DataCollectionGroup SET startTime = 0, endTime = '2026-00-00'",
        "UPDATE DataCollection SET startTime = 0, endTime = 0",
        "UPDATE BLSession SET startDate = 0, endDate = 0, lastUpdate = 0",
    )
    (group,) = OrmClient(published_ispyb).find_groups()
    (collection,) = group.data_collections
    assert group.group_id == ids.group_id
    assert (group.start_time, group.end_time, collection.start_time, collection.end_time) == (None,) * 4


def test_a_label_that_the_server_lost_is_no_type(published_ispyb: Engine, chip: CollectedChip):
    ids = write_collected_chip(published_ispyb, chip)
    run_carelessly(published_ispyb, "UPDATE DataCollectionGroup SET experimentType = 'SSX-Tape'")
    assert OrmClient(published_ispyb).group(ids.group_id).experiment_type is None
    assert OrmClient(published_ispyb).find_groups() == []


@pytest.mark.parametrize("experiment_type", SSX_EXPERIMENT_TYPES)
def test_serial_experiments_of_all_families_are_found(
    ispyb: Engine, chip: CollectedChip, experiment_type: str
):
    ids = write_collected_chip(ispyb, chip.model_copy(update={"experiment_type": experiment_type}))
    assert [group.group_id for group in OrmClient(ispyb).find_groups()] == [ids.group_id]


def test_asking_for_a_type_that_the_site_lacks_finds_the_others(ispyb: Engine, group_id: int):
    client = OrmClient(ispyb)
    assert client.find_groups(experiment_types=["SSX-Tape", "no type at all"]) == []
    found = client.find_groups(experiment_types=["SSX-Tape", "SSX-Chip"])
    assert [group.group_id for group in found] == [group_id]


@pytest.mark.parametrize("label", ["'OSC'", "'SSX-Jet'", "NULL"])
def test_diamonds_experiment_type_goes_before_the_label(
    diamond_ispyb: Engine, chip: CollectedChip, label: str
):
    ids = write_collected_chip(diamond_ispyb, chip)
    client = OrmClient(diamond_ispyb)
    set_label = f"UPDATE DataCollectionGroup SET experimentType = {label}"  # noqa: S608
    run(diamond_ispyb, f"{set_label}, experimentTypeId = 38")
    assert client.find_groups(experiment_types=["Serial Fixed"]) == [client.group(ids.group_id)]
    assert client.related_groups(ids.group_id, Relation.SAMPLE) == [client.group(ids.group_id)]
    assert client.group(ids.group_id).experiment_type == "Serial Fixed"
    assert surveyed(diamond_ispyb) == [ids.group_id]
    run(diamond_ispyb, f"{set_label}, experimentTypeId = 37")
    assert client.find_groups() == []
    assert surveyed(diamond_ispyb) == []


def surveyed(engine: Engine) -> list[int]:
    """Groups that a survey of the latest takes for serial."""
    with engine.connect() as connection:
        groups, _ = latest_groups(connection, Flavour.of(connection), Scope())
    return [group.group_id for group in groups]


def test_the_sample_of_a_group_without_one_is_that_of_its_data_collections(
    ispyb: Engine, collected: CollectedIds, second: CollectedIds
):
    other = "INSERT INTO BLSample (name) VALUES ('other')"
    first_only = f"WHERE dataCollectionId = {collected.data_collection_id}"
    run(ispyb, other, "UPDATE DataCollectionGroup SET blSampleId = NULL")
    run(ispyb, f"UPDATE DataCollection SET blSampleId = {collected.sample_id} {first_only}")  # noqa: S608
    client = OrmClient(ispyb)
    sample = client.group(second.group_id).sample
    assert sample is not None
    assert sample.name == "chip 7"
    (related,) = client.related_groups(second.group_id, Relation.SAMPLE)
    assert [related] == client.groups_with(sample_ids=[collected.sample_id])
    run(ispyb, "UPDATE DataCollection SET blSampleId = (SELECT MAX(blSampleId) FROM BLSample)")
    run(ispyb, f"UPDATE DataCollection SET blSampleId = {collected.sample_id} {first_only}")  # noqa: S608
    assert client.group(second.group_id).sample is None
