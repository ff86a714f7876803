"""Tables that only some sites have.

Names and columns as in ``tables.py``. They are never made, also not in the embedded database: each is
used where ``Flavour`` finds it. So they refer to other rows by plain ids.
"""

from collections.abc import Mapping

from sqlalchemy import Table
from sqlalchemy.orm import DeclarativeBase, Mapped

from ispyb_io import result_tables as _result_tables  # noqa: F401  registers its tables with Base
from ispyb_io.tables import TYPES, Base, Key, Text100


class SiteBase(DeclarativeBase):
    """Tables of some sites."""

    type_annotation_map = TYPES


class ExperimentType(SiteBase):
    """Diamond: names of experiments; a group's experimentTypeId goes before its experimentType."""

    __tablename__ = "ExperimentType"
    experimentTypeId: Mapped[Key]
    name: Mapped[Text100 | None]


def ispyb_tables() -> Mapping[str, Table]:
    """All tables of ISPyB that we touch, by name, wherever they are."""
    return {**Base.metadata.tables, **SiteBase.metadata.tables}
