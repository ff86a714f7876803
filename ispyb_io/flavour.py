"""What the ISPyB at hand has: tables, columns, enum labels.

ESRF, MAX IV and Diamond grew apart. We do not ask which site it is but what is there, once per client,
and then read and write that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, inspect
from sqlalchemy.types import TypeEngine

from ispyb_io.protocol import RejectedError
from ispyb_io.records import Offers
from ispyb_io.results import ResultStatus
from ispyb_io.site_tables import ispyb_tables
from ispyb_io.tables import Base

NEEDED = {
    "DataCollectionGroup": ("dataCollectionGroupId", "sessionId", "experimentType"),
    "DataCollection": ("dataCollectionId", "dataCollectionGroupId", "imageDirectory", "fileTemplate"),
    "AutoProcProgram": ("autoProcProgramId", "processingStatus", "processingEnvironment"),
    "AutoProcProgramAttachment": ("autoProcProgramId", "fileName", "filePath"),
    "AutoProc": ("autoProcProgramId", "spaceGroup"),
    "AutoProcScaling": ("autoProcId",),
    "AutoProcScalingStatistics": ("autoProcScalingId", "scalingStatisticsType"),
    "AutoProcScaling_has_Int": ("autoProcScalingId", "autoProcIntegrationId"),
    "AutoProcIntegration": ("autoProcProgramId", "dataCollectionId"),
}
"""Without these, results cannot be written."""
STATUS_NUMBERS = {ResultStatus.RUNNING: None, ResultStatus.FAILED: 0, ResultStatus.SUCCESS: 1}
"""Where the status is a number, as in Diamond's schema."""


@dataclass(frozen=True)
class Flavour:
    """Tables, columns and their types as ``inspect`` finds them in a database."""

    dialect: str
    server_version: str
    types: Mapping[str, Mapping[str, TypeEngine[Any]]]
    """Table to column to type, of the tables that we touch."""

    @classmethod
    def of(cls, connection: Connection) -> "Flavour":
        """Look at the database behind a connection."""
        inspector = inspect(connection)
        there = set(inspector.get_table_names())
        names = [name for name in ispyb_tables() if name in there]
        types = {name: {c["name"]: c["type"] for c in inspector.get_columns(name)} for name in names}
        dialect = connection.dialect
        version = ".".join(map(str, dialect.server_version_info or ()))
        # both are reached through SQLAlchemy's "mysql"
        name = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
        return cls(name, version, types)

    def has(self, table: str, column: str | None = None) -> bool:
        """Whether the table, or the column in it, is there; servers know columns whatever their case."""
        return table in self.types and (column is None or column.lower() in self._columns[table])

    @cached_property
    def _columns(self) -> dict[str, frozenset[str]]:
        """Columns of each table in lower case: ESRF's ph is Diamond's pH."""
        return {table: frozenset(map(str.lower, columns)) for table, columns in self.types.items()}

    def labels(self, table: str, column: str) -> tuple[str, ...] | None:
        """Labels of an enum column in their order; None if the column is not an enum."""
        labels = getattr(self.types.get(table, {}).get(column), "enums", None)
        return tuple(labels) if labels is not None else None

    def label(self, table: str, column: str, value: str) -> str:
        """Return the same value, checked that it can be written."""
        labels = self.labels(table, column)
        if labels is not None and value not in labels:
            raise RejectedError(f"{table}.{column} cannot hold {value!r} here, only {', '.join(labels)}")
        return value

    def known(self, table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values whose column is there."""
        return {name: value for name, value in values.items() if self.has(table.name, name)}

    def columns(self, *tables: Table) -> list[Column[Any]]:
        """Columns of the tables that are there, labelled Table_column."""
        return [column for table in tables for column in table.columns if self.has(table.name, column.name)]

    def status(self, status: ResultStatus) -> str | int | None:
        """What AutoProcProgram.processingStatus holds here for a status: a label, or a number."""
        if self._status_is_number():
            return STATUS_NUMBERS[status]
        return self.label("AutoProcProgram", "processingStatus", status.value)

    def status_of(self, value: str | int | None) -> ResultStatus | None:
        """Read processingStatus; None where another program left what we never write."""
        if self._status_is_number():
            return next((status for status, number in STATUS_NUMBERS.items() if number == value), None)
        return ResultStatus(value) if value in list(ResultStatus) else None

    def _status_is_number(self) -> bool:
        return isinstance(self.types["AutoProcProgram"]["processingStatus"], Integer)

    def require(self) -> None:
        """Raise RejectedError if results cannot be written here."""
        problems = self._problems()
        if problems:
            raise RejectedError("results cannot be written to this database: " + "; ".join(problems))

    def offers(self) -> Offers:
        """Say the same in words, for people."""
        return Offers(
            dialect=self.dialect,
            server_version=self.server_version,
            tables=tuple(sorted(self.types)),
            missing_tables=tuple(sorted(set(Base.metadata.tables) - set(self.types))),
            missing_columns=tuple(sorted(self._missing_columns(ispyb_tables().values()))),
            experiment_types=self.labels("DataCollectionGroup", "experimentType"),
            problems=self._problems(),
        )

    def _missing_columns(self, tables: Iterable[Table]) -> list[str]:
        return [
            f"{table.name}.{column.name}"
            for table in tables
            if self.has(table.name)
            for column in table.columns
            if not column.system and not self.has(table.name, column.name)
        ]

    def _problems(self) -> tuple[str, ...]:
        tables = [name for name in NEEDED if not self.has(name)]
        if tables:
            return (f"there is no table {', '.join(tables)}; is this ISPyB's database?",)
        problems = [
            f"there is no column {table}.{column}"
            for table, columns in NEEDED.items()
            for column in columns
            if not self.has(table, column)
        ]
        status = self.types["AutoProcProgram"].get("processingStatus")
        if status is not None and not isinstance(status, String | Integer):  # an Enum is a String too
            problems.append(f"AutoProcProgram.processingStatus is neither a text nor a number but {status}")
        return tuple(problems)
