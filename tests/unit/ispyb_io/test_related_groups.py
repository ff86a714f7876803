"""Groups that have a sample, a protein or a BLSampleGroup in common; on each kind of ISPyB."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.column_types import table
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.records import Relation
from ispyb_io.tables import BLSampleGroup, BLSampleGroup_has_BLSample, DataCollectionGroup, Protein

from .rows import rows

Enter = Callable[..., CollectedIds]


@pytest.fixture
def enter(ispyb: Engine, chip: CollectedChip) -> Enter:
    """Enter a chip that differs from the first."""

    def enter_chip(**changes: Any) -> CollectedIds:
        return write_collected_chip(ispyb, chip.model_copy(update=changes))

    return enter_chip


def put_together(engine: Engine, *sample_ids: int) -> int:
    """Make a BLSampleGroup of samples."""
    with engine.begin() as connection:
        made = connection.execute(insert(table(BLSampleGroup)).values(name="soaked"))
        group_id = made.inserted_primary_key[0]  # pyright: ignore[reportOptionalSubscript]
        links = [{"blSampleGroupId": group_id, "blSampleId": id_} for id_ in sample_ids]
        connection.execute(insert(table(BLSampleGroup_has_BLSample)), links)
    return group_id


def related(client: OrmClient, group_id: int, relation: Relation) -> list[int]:
    return [group.group_id for group in client.related_groups(group_id, relation)]


def test_groups_by_sample_protein_and_sample_group(ispyb: Engine, client: OrmClient, enter: Enter):
    first = enter()
    later_visit = enter(visit_number=2, file_template="later_master.h5")
    other_chip = enter(sample_name="chip 8")
    ligand = enter(sample_name="chip 9", protein_acronym="lig")
    enter(sample_name="theirs", proposal="mx99")
    put_together(ispyb, first.sample_id, ligand.sample_id)
    put_together(ispyb, ligand.sample_id, other_chip.sample_id)
    ids = [ids.group_id for ids in (first, later_visit, other_chip, ligand)]
    assert related(client, ids[0], Relation.SAMPLE) == ids[:2]
    assert related(client, ids[0], Relation.PROTEIN) == ids[:3]
    assert related(client, ids[0], Relation.SAMPLE_GROUP) == [ids[0], ids[1], ids[3]]


def test_a_sample_knows_its_sample_groups(ispyb: Engine, client: OrmClient, enter: Enter):
    first = enter()
    made = [put_together(ispyb, first.sample_id) for _ in range(2)]
    sample = client.group(first.group_id).sample
    assert sample is not None
    assert sample.sample_group_ids == tuple(made)


def test_proteins_of_one_acronym_in_a_proposal_are_the_same(ispyb: Engine, client: OrmClient, enter: Enter):
    first, double = enter(), enter(sample_name="chip 8", protein_acronym="lyso2")
    with ispyb.begin() as connection:
        connection.execute(update(table(Protein)).values(acronym="lyso"))
    assert len(rows(ispyb, Protein)) == 2
    assert related(client, first.group_id, Relation.PROTEIN) == [first.group_id, double.group_id]


def test_groups_of_other_experiments_are_not_related(client: OrmClient, enter: Enter):
    first = enter()
    enter(experiment_type="OSC", file_template="rotation.h5")
    assert related(client, first.group_id, Relation.SAMPLE) == [first.group_id]


def test_what_a_group_lacks_is_said(ispyb: Engine, client: OrmClient, enter: Enter):
    first = enter()
    with pytest.raises(NotFoundError, match="no data collection group 999"):
        client.related_groups(999, Relation.SAMPLE)
    with pytest.raises(RejectedError, match=r"chip 7 of data collection group .* is in no BLSampleGroup"):
        client.related_groups(first.group_id, Relation.SAMPLE_GROUP)
    with ispyb.begin() as connection:
        connection.execute(update(table(DataCollectionGroup)).values(blSampleId=None))
    for relation, lacking in ((Relation.SAMPLE, "has no sample"), (Relation.PROTEIN, "has no protein")):
        with pytest.raises(RejectedError, match=lacking):
            client.related_groups(first.group_id, relation)


def test_groups_with_a_collection_or_a_sample(client: OrmClient, enter: Enter):
    first, other, third = enter(), enter(sample_name="chip 8"), enter(sample_name="chip 9")
    found = client.groups_with(data_collection_ids=[first.data_collection_id], sample_ids=[third.sample_id])
    assert [group.group_id for group in found] == [first.group_id, third.group_id]
    assert client.groups_with(data_collection_ids=[999], sample_ids=[]) == []
    assert other.group_id not in [group.group_id for group in found]
