"""Types of columns that mean the same on SQLite, MariaDB and MySQL, and short names of frequent ones."""

import datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, Dialect, Float, ForeignKey, Integer, String, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine


class Label(String):
    """A string out of a list: an ENUM on MariaDB, plain text elsewhere.

    Unlike SQLAlchemy's own Enum it reads labels that it does not know, so that a value that a site
    added to its enum cannot make a whole session unreadable. What may be written is checked
    against the labels of the database itself (``Flavour.label``).
    """

    def __init__(self, *labels: str) -> None:
        super().__init__(max(map(len, labels), default=1))
        self.labels = labels


@compiles(Label)
def _label_as_text(type_: Label, compiler, **options) -> str:
    return compiler.visit_VARCHAR(type_, **options)


@compiles(Label, "mysql")
@compiles(Label, "mariadb")
def _label_as_enum(type_: Label, compiler, **options) -> str:
    quoted = ", ".join("'" + label.replace("'", "''") + "'" for label in type_.labels)
    return f"ENUM({quoted})"


Key = Annotated[int, mapped_column(Integer, primary_key=True)]
Text20 = Annotated[str, mapped_column(String(20))]
Text45 = Annotated[str, mapped_column(String(45))]
Text100 = Annotated[str, mapped_column(String(100))]
Text255 = Annotated[str, mapped_column(String(255))]
Text1024 = Annotated[str, mapped_column(String(1024))]


def elsewhere(type_: type[TypeEngine[Any]]):
    """Column that other schemas than ESRF's have: used where it is there, never made."""
    return mapped_column(type_, system=True)


def reference(column: str, *, primary_key: bool = False):
    """Column that refers to another one, e.g. ``Proposal.proposalId``."""
    return mapped_column(Integer, ForeignKey(column), primary_key=primary_key, index=not primary_key)


class LocalTime(TypeDecorator[datetime.datetime]):
    """A date and time that reads as None where there is none: MariaDB also keeps 0000-00-00 00:00:00."""

    impl = DateTime
    cache_ok = True

    def process_result_value(self, value: object, dialect: Dialect) -> datetime.datetime | None:
        """PyMySQL gives what is no date as a text."""
        return value if isinstance(value, datetime.datetime) else None


TYPES = {float: Float, datetime.datetime: LocalTime, int: Integer}

CELL_COLUMNS = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")
"""Unit cell of Crystal and of AutoProcIntegration, in the order of ours."""


def table(model: type[DeclarativeBase]) -> Table:
    """Table of a model, whose columns are then selected one by one, as far as they are there."""
    return model.metadata.tables[model.__tablename__]
