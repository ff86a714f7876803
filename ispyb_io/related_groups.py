"""Which data collection groups belong together: by sample, protein or BLSampleGroup; which hold what."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, and_, or_, select

from ispyb_io.flavour import Flavour
from ispyb_io.group_columns import COLLECTION, GROUP, is_of_type, sample_id
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.records import Relation
from ispyb_io.sample_reader import CRYSTAL, IN_SAMPLE_GROUP, PROTEIN, SAMPLE


def find_related_ids(
    connection: Connection,
    flavour: Flavour,
    group_id: int,
    relation: Relation,
    experiment_types: Collection[str],
) -> list[int]:
    """Find the groups of these experiment types that are related to a group, and itself; oldest first.

    Raises
    ------
    NotFoundError
        There is no such group.
    RejectedError
        It has nothing that others could have in common with it.
    """
    columns = (
        sample_id(flavour).label("blSampleId"),
        SAMPLE.c.name,
        PROTEIN.c.proteinId,
        PROTEIN.c.acronym,
        PROTEIN.c.proposalId,
    )
    query = (
        select(*columns).select_from(_with_samples(flavour)).where(GROUP.c.dataCollectionGroupId == group_id)
    )
    of = connection.execute(query).mappings().first()
    if of is None:
        raise NotFoundError(f"there is no data collection group {group_id} in ISPyB")
    conditions = {
        Relation.SAMPLE: _same_sample,
        Relation.PROTEIN: _same_protein,
        Relation.SAMPLE_GROUP: _same_sample_group,
    }
    alike = conditions[relation](of, group_id, connection, flavour)
    is_wanted = and_(alike, is_of_type(flavour, experiment_types))
    return _ids(connection, flavour, or_(is_wanted, GROUP.c.dataCollectionGroupId == group_id))


def find_ids_of_groups_with(
    connection: Connection,
    flavour: Flavour,
    data_collection_ids: Collection[int],
    sample_ids: Collection[int],
) -> list[int]:
    """Find the groups that hold one of these data collections, or have one of these samples."""
    of_collections = select(COLLECTION.c.dataCollectionGroupId).where(
        COLLECTION.c.dataCollectionId.in_(data_collection_ids)
    )
    return _ids(
        connection,
        flavour,
        or_(GROUP.c.dataCollectionGroupId.in_(of_collections), sample_id(flavour).in_(sample_ids)),
    )


def _with_samples(flavour: Flavour) -> FromClause:
    return (
        GROUP.outerjoin(SAMPLE, SAMPLE.c.blSampleId == sample_id(flavour))
        .outerjoin(CRYSTAL, CRYSTAL.c.crystalId == SAMPLE.c.crystalId)
        .outerjoin(PROTEIN, PROTEIN.c.proteinId == CRYSTAL.c.proteinId)
    )


def _ids(connection: Connection, flavour: Flavour, condition: ColumnElement[bool]) -> list[int]:
    key = GROUP.c.dataCollectionGroupId
    query = select(key).select_from(_with_samples(flavour)).where(condition).order_by(key)
    return list(connection.execute(query).scalars())


def _same_sample(
    of: RowMapping, group_id: int, _connection: Connection, flavour: Flavour
) -> ColumnElement[bool]:
    if of["blSampleId"] is None:
        raise RejectedError(
            f"data collection group {group_id} has no sample in ISPyB, so no other has the same"
        )
    return sample_id(flavour) == of["blSampleId"]


def _same_protein(of: RowMapping, group_id: int, *_: Any) -> ColumnElement[bool]:
    if of["proteinId"] is None:
        raise RejectedError(f"the sample of data collection group {group_id} has no protein in ISPyB")
    same = PROTEIN.c.proteinId == of["proteinId"]
    if not of["acronym"]:
        return same
    return or_(same, and_(PROTEIN.c.acronym == of["acronym"], PROTEIN.c.proposalId == of["proposalId"]))


def _same_sample_group(
    of: RowMapping, group_id: int, connection: Connection, flavour: Flavour
) -> ColumnElement[bool]:
    if not flavour.has(IN_SAMPLE_GROUP.name):
        raise RejectedError(f"this ISPyB has no table {IN_SAMPLE_GROUP.name}; choose the members by hand")
    mine = select(IN_SAMPLE_GROUP.c.blSampleGroupId).where(IN_SAMPLE_GROUP.c.blSampleId == of["blSampleId"])
    if connection.execute(mine.limit(1)).first() is None:
        raise RejectedError(
            f"the sample {of['name'] or of['blSampleId']} of data collection group {group_id} is in no "
            "BLSampleGroup of ISPyB"
        )
    members = select(IN_SAMPLE_GROUP.c.blSampleId).where(IN_SAMPLE_GROUP.c.blSampleGroupId.in_(mine))
    return sample_id(flavour).in_(members)
