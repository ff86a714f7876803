"""A database that tests share is the same at the start of each, whatever the one before did to it."""

import pytest
from sqlalchemy import Engine, inspect, text

from ispyb_io.tables import EventType, Person
from tests.kept_databases import KeptDatabases

from .rows import rows


def describe(engine: Engine) -> list[str]:
    inspector = inspect(engine)
    columns = [
        (name, column) for name in inspector.get_table_names() for column in inspector.get_columns(name)
    ]
    return [f"{name}.{column['name']} {column['type']!r}" for name, column in columns]


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO Person (login) VALUES ('me')"],
        ["DELETE FROM EventType WHERE name = 'LaserExcitation'"],
        ["INSERT INTO EventType (name) VALUES ('MagicWand')"],
        ["CREATE TABLE Ours (id INT)", "INSERT INTO Ours VALUES (1)"],
        ["ALTER TABLE DataCollectionGroup MODIFY experimentType ENUM('OSC')"],
        ["DROP TABLE SSXDataCollection"],
    ],
)
def test_what_a_test_did_is_undone(kept_databases: KeptDatabases, statements: list[str]):
    with kept_databases["esrf"].lent() as engine:
        tables, words = describe(engine), rows(engine, EventType)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    with kept_databases["esrf"].lent() as engine:
        assert (describe(engine), rows(engine, EventType)) == (tables, words)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO Person (login) VALUES ('you')"))
        assert [(row["personId"], row["login"]) for row in rows(engine, Person)] == [(1, "you")]
