"""What a data collection group has, wherever the site keeps it: its experiment type, its sample."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, func, select

from ispyb_io import site_tables, tables
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.protocol import PUNCTUATION, plain_label

GROUP, COLLECTION = table(tables.DataCollectionGroup), table(tables.DataCollection)
EXPERIMENT_TYPE = table(site_tables.ExperimentType)


def experiment_type(flavour: Flavour) -> ColumnElement[Any]:
    """Name of a group's experiment type: Diamond's ExperimentType goes before the enum, as in SynchWeb."""
    label = GROUP.c.experimentType
    if not (flavour.has(EXPERIMENT_TYPE.name) and flavour.has(GROUP.name, "experimentTypeId")):
        return label
    same = EXPERIMENT_TYPE.c.experimentTypeId == GROUP.c.experimentTypeId
    named = select(EXPERIMENT_TYPE.c.name).where(same).correlate(GROUP).scalar_subquery()
    return func.coalesce(named, label)


def is_of_type(flavour: Flavour, experiment_types: Collection[str]) -> ColumnElement[bool]:
    """Condition that a group is of one of these types, however they are written.

    They are compared as texts: a name that the site's enum lacks matches nothing and is no error.
    """
    column = experiment_type(flavour)
    for mark in PUNCTUATION:  # plain_label in SQL
        column = func.replace(column, mark, "")
    return func.lower(column).in_({plain_label(name) for name in experiment_types})


def sample_id(flavour: Flavour) -> ColumnElement[Any]:
    """Sample of a group: its own, else the one of its data collections if they have one and the same."""
    own = GROUP.c.blSampleId
    if not flavour.has(COLLECTION.name, "blSampleId"):
        return own
    key, theirs = COLLECTION.c.dataCollectionGroupId, COLLECTION.c.blSampleId
    only = (
        select(func.min(theirs))
        .where(key == GROUP.c.dataCollectionGroupId)
        .group_by(key)
        .having(func.min(theirs) == func.max(theirs))
        .correlate(GROUP)
    )
    return func.coalesce(own, only.scalar_subquery())
