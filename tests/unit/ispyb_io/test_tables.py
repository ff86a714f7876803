"""Our models against ESRF's schema, column by column."""

import pytest
from sqlalchemy import Engine, inspect, make_url
from sqlalchemy.schema import CreateTable

from ispyb_io import result_tables  # noqa: F401  registers its tables
from ispyb_io.tables import Base, Label

TABLES = sorted(Base.metadata.tables)


def test_all_our_tables_are_in_esrfs_schema(esrf_ispyb: Engine):
    assert set(TABLES) <= set(inspect(esrf_ispyb).get_table_names())


def test_our_columns_have_the_names_lengths_labels_and_nulls_of_esrfs(esrf_ispyb: Engine):
    inspector = inspect(esrf_ispyb)
    for name in TABLES:
        theirs = {column["name"]: column for column in inspector.get_columns(name)}
        for column in Base.metadata.tables[name].columns:
            where, their = f"{name}.{column.name}", theirs.get(column.name)
            assert their is not None, where
            assert column.nullable == their["nullable"], where
            if isinstance(column.type, Label):
                assert list(column.type.labels) == getattr(their["type"], "enums", None), where
            else:
                assert getattr(column.type, "length", None) == getattr(their["type"], "length", None), where


def test_columns_that_esrf_requires_are_in_our_tables(esrf_ispyb: Engine):
    inspector = inspect(esrf_ispyb)
    for name in TABLES:
        for column in inspector.get_columns(name):
            required = (
                not column["nullable"] and column["default"] is None and not column.get("autoincrement")
            )
            if required:
                assert column["name"] in Base.metadata.tables[name].columns, f"{name}.{column['name']}"


@pytest.mark.parametrize("dialect", ["mysql+pymysql", "mariadb+pymysql"])
def test_labels_are_an_enum_on_either_name_of_the_server(dialect: str):
    statement = CreateTable(Base.metadata.tables["AutoProcProgramAttachment"])
    compiled = statement.compile(dialect=make_url(f"{dialect}://").get_dialect()())
    assert "ENUM('Log', 'Result', 'Graph')" in str(compiled)
