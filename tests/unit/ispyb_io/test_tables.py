"""Our models against the published schemas, column by column: every difference is listed here."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, inspect, make_url
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.schema import CreateTable

from ispyb_io.column_types import Label
from ispyb_io.site_tables import ispyb_tables
from ispyb_io.tables import Base

from .conftest import PUBLISHED

DIFFERENCES = {
    "esrf_ispyb": set(),
    "maxiv_ispyb": {
        "DataCollectionGroup.experimentType has more labels",
        "Proposal.title has length 2000, ours 200",
    },
    "diamond_ispyb": {
        "AutoProcProgram.dataCollectionId is missing",  # programs belong to a ProcessingJob
        "AutoProcProgram.processingStatus is no enum",  # a number
        "AutoProcProgramAttachment.fileType has more labels",
        "AutoProcScalingStatistics.ccAno is missing",  # ccAnomalous
        "BLSample.name has length 45, ours 100",
        "CrystalComposition.ph is written pH",
        "DataCollection.blSampleId is written BLSAMPLEID",
        "ImageQualityIndicators.autoProcProgramId may be NULL",
        "ImageQualityIndicators.dataCollectionId may not be NULL",
        "ImageQualityIndicators.imageNumber may not be NULL",
        "ImageQualityIndicators.imageQualityIndicatorsId is missing",  # (data collection, image) is the key
        "DataCollection.imagePrefix has length 45, ours 100",
        "DataCollectionGroup.experimentType has more labels",
        "SampleComposition.ph is written pH",
    },
}


def columns(ispyb: Engine) -> dict[str, dict[str, ReflectedColumn]]:
    """Those of our tables that are there: by table, by name in lower case."""
    inspector = inspect(ispyb)
    names = set(inspector.get_table_names()) & set(ispyb_tables())
    return {name: {c["name"].lower(): c for c in inspector.get_columns(name)} for name in names}


def differences(ours: Column, theirs: ReflectedColumn | None) -> Iterator[str]:
    """How a column of theirs differs from our model of it."""
    if theirs is None:
        if not ours.system:  # those are of some sites only
            yield "is missing"
        return
    if theirs["name"] != ours.name:
        yield f"is written {theirs['name']}"
    if theirs["nullable"] != ours.nullable:
        yield "may be NULL" if theirs["nullable"] else "may not be NULL"
    length = getattr(theirs["type"], "length", None)
    if isinstance(ours.type, Label):
        labels = getattr(theirs["type"], "enums", None)
        if labels is None:
            yield "is no enum"
        elif set(ours.type.labels) - set(labels):
            yield "lacks labels"
        elif len(labels) > len(ours.type.labels):
            yield "has more labels"
    elif length != getattr(ours.type, "length", None):
        yield f"has length {length}, ours {getattr(ours.type, 'length', None)}"


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_schemas_differ_from_our_tables_only_as_listed(request: pytest.FixtureRequest, kind: str):
    theirs = columns(request.getfixturevalue(kind))
    assert set(Base.metadata.tables) <= set(theirs)
    found = {
        f"{name}.{column.name} {difference}"
        for name, its_columns in theirs.items()
        for column in ispyb_tables()[name].columns
        for difference in differences(column, its_columns.get(column.name.lower()))
    }
    assert found == DIFFERENCES[kind]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_columns_that_a_site_requires_are_in_our_tables(request: pytest.FixtureRequest, kind: str):
    for name, its_columns in columns(request.getfixturevalue(kind)).items():
        required = {
            key
            for key, column in its_columns.items()
            if not (column["nullable"] or column["default"] is not None or column.get("autoincrement"))
        }
        assert required <= {column.name.lower() for column in ispyb_tables()[name].columns}, name


def test_tables_and_columns_of_some_sites_are_at_one_of_them(request: pytest.FixtureRequest):
    sites = [columns(request.getfixturevalue(kind)) for kind in PUBLISHED]
    for name, ours in ispyb_tables().items():
        there = {key for site in sites for key in site.get(name, ())}
        assert {column.name.lower() for column in ours.columns} <= there, name


def test_the_embedded_ispyb_has_no_tables_or_columns_of_some_sites(sqlite_ispyb: Engine):
    theirs = columns(sqlite_ispyb)
    assert set(theirs) == set(Base.metadata.tables)
    for name, its_columns in theirs.items():
        ours = {c.name.lower() for c in Base.metadata.tables[name].columns if not c.system}
        assert set(its_columns) == ours


@pytest.mark.parametrize("dialect", ["mysql+pymysql", "mariadb+pymysql"])
def test_labels_are_an_enum_on_either_name_of_the_server(dialect: str):
    statement = CreateTable(Base.metadata.tables["AutoProcProgramAttachment"])
    compiled = statement.compile(dialect=make_url(f"{dialect}://").get_dialect()())
    assert "ENUM('Log', 'Result', 'Graph')" in str(compiled)


@pytest.mark.parametrize("dialect", ["mysql+pymysql", "mariadb+pymysql", "sqlite"])
def test_our_tables_compile_for_every_server(dialect: str):
    compiler = make_url(f"{dialect}://").get_dialect()()
    for table in Base.metadata.tables.values():
        made = {
            line.split()[0].strip('`"')
            for line in str(CreateTable(table).compile(dialect=compiler)).splitlines()
            if line.strip()
        }
        assert {column.name for column in table.columns if not column.system} <= made
