"""What the client reads is what the beamline wrote, on every database."""

import datetime
import traceback
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from ispyb_io.beamline import CollectedChip, CollectedIds, write_collected_chip
from ispyb_io.engines import open_engine
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import NotFoundError, RejectedError, UnavailableError
from ispyb_io.records import Event, EventChain, Relation
from tests.mariadb import MYSQL_8_MODE, MariadbServer, sql_mode


def test_a_collected_chip_is_read_back_as_written(
    client: OrmClient, collected: CollectedIds, chip: CollectedChip
):
    group = client.group(collected.group_id)
    (collection,) = group.data_collections
    assert group.sample is not None
    assert (group.proposal, group.beamline, group.experiment_type) == ("mx1234", "ID29", "SSX-Chip")
    assert (group.sample.protein_acronym, group.sample.name) == ("lyso", "chip 7")
    assert group.sample.unit_cell == pytest.approx(chip.unit_cell)
    assert group.sample.space_group == "P43212"
    assert collection.image_directory == Path("/data/visitor/mx1234/id29/raw")
    assert collection.file_template == "chip7_master.h5"
    assert collection.n_images == 2000
    assert collection.wavelength == pytest.approx(1.0721)
    assert collection.end_time == chip.end_time
    assert collection.run_status == "DataCollection Successful"
    assert collection.ssx == chip.ssx
    assert collection.event_chains == chip.event_chains


def test_writing_a_collected_chip_twice_adds_nothing(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    first = write_collected_chip(ispyb, chip)
    assert write_collected_chip(ispyb, chip) == first
    assert len(client.find_groups()) == 1
    assert len(client.group(first.group_id).data_collections) == 1
    assert client.group(first.group_id).data_collections[0].event_chains == chip.event_chains


def test_groups_newer_than_the_mark_are_found(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    first = write_collected_chip(ispyb, chip)
    second = write_collected_chip(ispyb, chip.model_copy(update={"sample_name": "chip 8"}))
    assert [g.group_id for g in client.find_groups()] == [first.group_id, second.group_id]
    newer = client.find_groups(newer_than=first.data_collection_id)
    assert [g.group_id for g in newer] == [second.group_id]
    assert client.find_groups(newer_than=newer[-1].newest_data_collection_id) == []


def test_a_group_comes_again_when_a_data_collection_joins_it(client: OrmClient, second: CollectedIds):
    (group,) = client.find_groups(newer_than=second.data_collection_id - 1)
    assert len(group.data_collections) == 2


def test_paging_with_a_limit_reaches_every_group(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    for i in range(5):
        write_collected_chip(ispyb, chip.model_copy(update={"sample_name": f"chip {i}"}))
    seen, mark = [], 0
    while page := client.find_groups(newer_than=mark, limit=2):
        seen += [group.group_id for group in page]
        mark = page[-1].newest_data_collection_id
    assert seen == sorted(set(seen))
    assert len(seen) == 5


@pytest.mark.parametrize("written", ["SSX-CHIP", "ssx chip", "SSX_Jet", "serial fixed", "Serial-Jet"])
def test_experiment_types_match_whatever_their_case_and_punctuation(
    sqlite_ispyb: Engine, chip: CollectedChip, written: str
):
    client = OrmClient(sqlite_ispyb)
    ids = write_collected_chip(sqlite_ispyb, chip.model_copy(update={"experiment_type": written}))
    assert [(g.group_id, g.experiment_type) for g in client.find_groups()] == [(ids.group_id, written)]


def test_other_experiment_types_are_not_found(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    write_collected_chip(ispyb, chip.model_copy(update={"experiment_type": "OSC"}))
    assert client.find_groups() == []
    assert len(client.find_groups(experiment_types=["OSC"])) == 1


def test_an_unknown_group_is_not_found(client: OrmClient):
    with pytest.raises(NotFoundError, match="no data collection group 999"):
        client.group(999)


def test_a_cell_with_a_zero_is_no_cell(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    unknown = chip.model_copy(update={"unit_cell": (0.0, 0.0, 0.0, 90.0, 90.0, 90.0), "space_group": " "})
    sample = client.group(write_collected_chip(ispyb, unknown).group_id).sample
    assert sample is not None
    assert (sample.unit_cell, sample.space_group) == (None, None)


def test_a_data_collection_without_paths_or_sample_is_read(
    ispyb: Engine, client: OrmClient, collected: CollectedIds
):
    with ispyb.begin() as connection:
        connection.execute(text("UPDATE DataCollection SET imageDirectory = NULL, fileTemplate = NULL"))
        connection.execute(text("UPDATE DataCollectionGroup SET blSampleId = NULL"))
    group = client.group(collected.group_id)
    assert group.sample is None
    assert group.data_collections[0].image_directory is None


def test_a_label_that_a_site_added_to_an_enum_is_read(esrf_ispyb: Engine, chip: CollectedChip):
    ids = write_collected_chip(esrf_ispyb, chip)
    with esrf_ispyb.begin() as connection:
        change = "ALTER TABLE DataCollectionGroup MODIFY experimentType ENUM('SSX-Chip', 'LineScan')"
        connection.execute(text(change))
        connection.execute(text("UPDATE DataCollectionGroup SET experimentType = 'LineScan'"))
    client = OrmClient(esrf_ispyb)
    assert client.group(ids.group_id).experiment_type == "LineScan"
    assert client.find_groups() == []


def test_a_schema_without_ssx_tables_is_read(esrf_ispyb: Engine, chip: CollectedChip):
    ids = write_collected_chip(esrf_ispyb, chip)
    with esrf_ispyb.begin() as connection:
        for table in ("SSXDataCollection", "Event", "EventChain", "SampleComposition"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("ALTER TABLE DataCollection DROP COLUMN flux"))
    client = OrmClient(esrf_ispyb)
    (collection,) = client.group(ids.group_id).data_collections
    assert (collection.ssx, collection.event_chains) == (None, ())
    assert client.offers().missing_tables == ("Event", "EventChain", "SSXDataCollection", "SampleComposition")
    assert client.offers().missing_columns == ("DataCollection.flux",)
    assert client.offers().problems == ()


def test_groups_are_read_in_mysqls_strict_modes(
    mariadb: MariadbServer, esrf_ispyb: Engine, chip: CollectedChip
):
    ids = write_collected_chip(esrf_ispyb, chip)
    esrf_ispyb.dispose()
    with sql_mode(mariadb, MYSQL_8_MODE):
        client = OrmClient(esrf_ispyb)
        (group,) = client.find_groups()
        assert client.group(ids.group_id) == group
        assert client.related_groups(ids.group_id, Relation.PROTEIN) == [group]
        assert client.groups_with(sample_ids=[ids.sample_id]) == [group]


def test_an_event_type_that_ispyb_has_not_is_rejected(ispyb: Engine, chip: CollectedChip):
    chain = EventChain(name="odd", events=(Event(event_type="MagicWand"),))
    with pytest.raises(RejectedError, match=r"EventType 'MagicWand' is not in ISPyB, only .*XrayDetection"):
        write_collected_chip(ispyb, chip.model_copy(update={"event_chains": (chain,)}))


def test_a_database_that_is_down_is_unavailable():
    engine = open_engine("mysql+pymysql://nobody:secret@127.0.0.1:1/ispyb")
    with pytest.raises(UnavailableError) as raised:
        OrmClient(engine).find_groups()
    assert "secret" not in str(raised.value)


def test_a_server_that_goes_away_is_unavailable_and_then_works_again(
    mariadb_ispyb: Engine, chip: CollectedChip
):
    client = OrmClient(mariadb_ispyb)
    write_collected_chip(mariadb_ispyb, chip)
    with create_engine(mariadb_ispyb.url).connect() as other:  # kills all connections of the pool
        ids = other.execute(
            text(
                "SELECT id FROM information_schema.processlist "
                "WHERE db = DATABASE() AND id != CONNECTION_ID()"
            )
        )
        for id_ in ids.scalars().all():
            other.execute(text(f"KILL {id_}"))
        other.engine.dispose()
    assert len(client.find_groups()) == 1


def test_a_wrong_password_is_not_worth_a_retry(mariadb_ispyb: Engine):
    engine = open_engine(mariadb_ispyb.url.set(username="nobody", password="wrong"))  # noqa: S106
    with pytest.raises(RejectedError, match="Access denied"):
        OrmClient(engine).find_groups()
    engine.dispose()


def test_a_missing_sqlite_file_is_not_made_by_accident(tmp_path: Path):
    client = OrmClient(open_engine(tmp_path / "typo.db"))
    with pytest.raises(UnavailableError, match="no such database file"):
        client.find_groups()
    assert list(tmp_path.iterdir()) == []


def test_an_sqlite_file_that_goes_away_is_unavailable_until_it_is_back(sqlite_ispyb: Engine, tmp_path: Path):
    client = OrmClient(open_engine(tmp_path / "ispyb.db"))
    assert client.find_groups() == []
    (tmp_path / "ispyb.db").rename(tmp_path / "away.db")
    with pytest.raises(UnavailableError, match="no such database file"):
        client.find_groups()
    (tmp_path / "away.db").rename(tmp_path / "ispyb.db")
    assert client.find_groups() == []


@pytest.mark.parametrize("url", ["oracle://somewhere", "sqlite://", "no such ://"])
def test_an_address_of_no_known_kind_is_rejected(url: str):
    with pytest.raises(RejectedError):
        open_engine(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://nobody:hush@secret:word@server/ispyb",
        "mysql+pymysql://nobody:hush@secret@server/ispyb",
        "mysql+pymysql://nobody:hush@secret/word@server/ispyb",
        "mysql+pymysql://nobody:hush@secret?word@server/ispyb",
        "mysql+pymysql://nobody:hush-secret@server:port/ispyb",
        "no such://nobody:hush-secret@server/ispyb",
    ],
)
def test_a_password_that_is_not_escaped_is_rejected_and_never_told(url: str):
    with pytest.raises(RejectedError, match=r"is not understood .*%40 for '@'") as raised:
        open_engine(url)
    told = "".join(traceback.format_exception(raised.value)).lower().replace(__file__.lower(), "")
    assert not any(piece in told for piece in ("hush", "secret", "nobody", "word@server", "server:port"))
    assert raised.value.__context__ is None


def test_an_escaped_password_is_understood():
    engine = open_engine("mysql+pymysql://nobody:p%40ss%3Aw%2Ford@server/ispyb")
    assert (engine.url.password, engine.url.host) == ("p@ss:w/ord", "server")


def test_the_path_of_an_sqlite_file_may_have_at_signs(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path}/a@b@c.db", create=True)
    assert engine.url.database == f"{tmp_path}/a@b@c.db"


def test_a_database_without_ispyb_says_so(tmp_path: Path):
    engine = open_engine(tmp_path / "other.db", create=True)
    with engine.connect():
        pass
    client = OrmClient(engine)
    assert "is this ISPyB's database?" in client.offers().problems[0]
    with pytest.raises(RejectedError, match="no such table"):
        client.find_groups()


def test_a_collection_that_still_runs_has_no_end(ispyb: Engine, client: OrmClient, chip: CollectedChip):
    running = chip.model_copy(update={"end_time": None, "run_status": None})
    ids = write_collected_chip(ispyb, running)
    assert client.group(ids.group_id).data_collections[0].end_time is None
    write_collected_chip(ispyb, chip)
    end = client.group(ids.group_id).data_collections[0].end_time
    assert end == chip.start_time + datetime.timedelta(minutes=5)
