"""What an account may do is found on a real server by accounts with real grants, and touches no row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, func, select, text

from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.engines import open_engine
from ispyb_io.flavour import Flavour
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_sql import ledger_sql, quoted_account
from ispyb_io.ledger_tables import LedgerBase
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import RejectedError, UnavailableError
from ispyb_io.results import ResultStatus
from ispyb_io.rights import Right, read_tables, rights_in, rights_on, written_tables
from ispyb_io.transactions import reading

from .conftest import PUBLISHED
from .made_results import collection_result, merged_result
from .rows import statuses

ALL_ACTIONS = ("SELECT", "INSERT", "UPDATE")
Account = Callable[..., Engine]
WRITTEN = [table.name for table in written_tables()]


@pytest.fixture(params=PUBLISHED)
def owned(request: pytest.FixtureRequest) -> Engine:
    """Database of a facility, as its owner sees it."""
    return request.getfixturevalue(request.param)


@contextmanager
def account(owner: Engine, *grants: str) -> Iterator[Engine]:
    """An account with these rights on the owner's database, and no others."""
    with owner.begin() as connection:
        connection.execute(text("CREATE USER 'narrow'@'localhost' IDENTIFIED BY 'pw'"))
        for grant in grants:
            connection.execute(text(f"GRANT {grant} TO 'narrow'@'localhost'"))
    engine = open_engine(owner.url.set(username="narrow", password="pw"))  # noqa: S106
    try:
        yield engine
    finally:
        engine.dispose()
        with owner.begin() as connection:
            connection.execute(text("DROP USER 'narrow'@'localhost'"))


def found(engine: Engine) -> list[Right]:
    with reading(engine) as connection:
        return rights_in(engine, Flavour.of(connection))


def of_results(engine: Engine, rights: str) -> list[str]:
    with reading(engine) as connection:
        there = [name for name in WRITTEN if Flavour.of(connection).has(name)]
    return [f"{rights} ON `{engine.url.database}`.`{name}`" for name in there]


@pytest.mark.parametrize("with_images", [True, False])
def test_the_account_of_the_documentation_may_do_all_that_is_needed(owned: Engine, *, with_images: bool):
    writes = of_results(owned, "INSERT, UPDATE")
    needed = writes if with_images else [right for right in writes if "ImageQualityIndicators" not in right]
    with account(owned, f"SELECT ON `{owned.url.database}`.*", *needed) as engine:
        with reading(engine) as connection:
            flavour = Flavour.of(connection)
        rights = rights_in(engine, flavour, with_images=with_images)
        assert [right for right in rights if not right.allowed] == []


def test_that_account_reads_groups_and_writes_results_of_every_kind_again_and_again(
    owned: Engine, chip: CollectedChip
):
    id_ = write_collected_chip(owned, chip).data_collection_id
    everything = f"SELECT ON `{owned.url.database}`.*"
    with account(owned, everything, *of_results(owned, "INSERT, UPDATE")) as engine:
        client = OrmClient(engine)
        (group,) = client.find_groups()
        for key in ("key1", "key2"):
            for status in (ResultStatus.RUNNING, ResultStatus.FAILED, ResultStatus.SUCCESS):
                client.record_collection_result(collection_result(id_, key=key, status=status))
            client.record_merged_result(merged_result(id_, key=f"merge-{key}"))
    assert group.data_collections[0].data_collection_id == id_
    assert statuses(owned) == ["SUCCESS"] * 4


def test_each_right_that_is_not_granted_is_named(esrf_ispyb: Engine):
    database = esrf_ispyb.url.database
    grants = [g for g in of_results(esrf_ispyb, "INSERT, UPDATE") if "`AutoProcProgram`" not in g]
    grants += [f"SELECT ON `{database}`.*", f"INSERT ON `{database}`.AutoProcProgram"]
    with account(esrf_ispyb, *grants) as engine:
        refused = [right for right in found(engine) if not right.allowed]
    assert [(right.table, right.action) for right in refused] == [("AutoProcProgram", "UPDATE")]
    assert "denied" in refused[0].reason


def test_rights_that_come_by_a_role_count(esrf_ispyb: Engine):
    with esrf_ispyb.begin() as connection:
        connection.execute(text("CREATE ROLE IF NOT EXISTS reader"))
        connection.execute(text(f"GRANT SELECT ON `{esrf_ispyb.url.database}`.* TO reader"))
    with account(esrf_ispyb, "reader") as engine:
        with esrf_ispyb.begin() as connection:
            connection.execute(text("SET DEFAULT ROLE reader FOR 'narrow'@'localhost'"))
        rights = found(engine)
    with esrf_ispyb.begin() as connection:
        connection.execute(text("DROP ROLE reader"))
    assert {right.action for right in rights if right.allowed} == {"SELECT"}
    assert {right.action for right in rights if not right.allowed} == {"INSERT", "UPDATE"}


def test_trying_changes_no_row_and_uses_no_id(ispyb: Engine, chip: CollectedChip):
    before = write_collected_chip(ispyb, chip)
    counted = {t.name: select(func.count()).select_from(t) for t in (*read_tables(), *written_tables())}
    with ispyb.connect() as connection:
        there = [name for name in counted if Flavour.of(connection).has(name)]
        rows = {name: connection.execute(counted[name]).scalar() for name in there}
    commits: list[object] = []
    event.listen(ispyb, "commit", commits.append)
    assert all(right.allowed for right in found(ispyb))
    assert commits == []
    with ispyb.connect() as connection:
        assert {name: connection.execute(counted[name]).scalar() for name in there} == rows
    other = write_collected_chip(ispyb, chip.model_copy(update={"file_template": "other.h5"}))
    assert other.data_collection_id == before.data_collection_id + 1


def test_a_server_that_is_away_is_no_question_of_rights():
    engine = open_engine("mysql+pymysql://ssx:pw@127.0.0.1:1/ispyb")
    flavour = Flavour("mysql", "", {})
    with pytest.raises(UnavailableError):
        rights_in(engine, flavour)


def run(engine: Engine, sql: str) -> None:
    with engine.begin() as connection:
        for statement in filter(str.strip, sql.split(";\n")):
            connection.exec_driver_sql(statement.replace("%", "%%"))


def test_the_owners_sql_makes_a_ledger_that_the_account_can_use_and_may_run_again(esrf_ispyb: Engine):
    with account(esrf_ispyb) as engine:
        for _ in range(2):
            run(esrf_ispyb, ledger_sql("narrow@localhost"))
        tables = LedgerBase.metadata.sorted_tables
        assert all(right.allowed for right in rights_on(engine, tables, ALL_ACTIONS))
        Ledger(engine).create_tables()
        group = Ledger(engine).ensure_group("mx1", "Dark")
        assert Ledger(engine).ensure_group("mx1", "dark").group_id != group.group_id
        Ledger(engine).add_members(group.group_id, [1, 2])


def test_the_owners_sql_makes_what_the_program_itself_would(mariadb_ispyb: Engine):
    describe = text(
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_key, "
        "collation_name = 'utf8mb4_bin' FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name LIKE BINARY 'Ssx%' "
        "ORDER BY table_name, ordinal_position"
    )
    seen = []
    for make in (lambda: run(mariadb_ispyb, ledger_sql()), Ledger(mariadb_ispyb).create_tables):
        make()
        with mariadb_ispyb.begin() as connection:
            seen.append(connection.execute(describe).all())
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
            for table in LedgerBase.metadata.sorted_tables:
                connection.exec_driver_sql(f"DROP TABLE {table.name}")
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 1")
    assert seen[0] == seen[1]
    assert len({row[0] for row in seen[0]}) == len(LedgerBase.metadata.tables)


@pytest.mark.parametrize("account", ["ssx", "ssx@", "a'b@host", "ssx@host'; DROP TABLE x", "@%"])
def test_an_account_that_is_not_written_as_one_is_refused(account: str):
    with pytest.raises(RejectedError, match="expected user@host"):
        quoted_account(account)
