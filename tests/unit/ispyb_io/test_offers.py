"""What is there and what is missing is told as it is, on every database."""

import pytest
from sqlalchemy import Engine

from ispyb_io.orm_client import OrmClient
from ispyb_io.site_tables import ispyb_tables
from ispyb_io.tables import EXPERIMENT_TYPES, Base

LACKED_BY_DIAMOND = (
    "AutoProcProgram.dataCollectionId",
    "AutoProcScalingStatistics.ccAno",
    "ImageQualityIndicators.imageQualityIndicatorsId",
)
JOBS = {"ProcessingJob", "ProcessingJobImageSweep", "ProcessingJobParameter", "AutoProcProgramMessage"}
SSX_RESULTS = {"SSXProcessingResult", "SSXProcessingResultAttachment"}


@pytest.mark.parametrize(
    ("kind", "more_tables", "missing_columns"),
    [
        ("sqlite_ispyb", set(), ()),
        ("mariadb_ispyb", set(), ()),
        ("esrf_ispyb", set(), ()),
        ("maxiv_ispyb", SSX_RESULTS, ()),
        ("diamond_ispyb", {"ExperimentType", *JOBS}, LACKED_BY_DIAMOND),
    ],
)
def test_offers_name_tables_and_columns(
    request: pytest.FixtureRequest, kind: str, more_tables: set[str], missing_columns: tuple[str, ...]
):
    offers = OrmClient(request.getfixturevalue(kind)).offers()
    assert set(offers.tables) == set(Base.metadata.tables) | more_tables
    assert set(offers.tables) <= set(ispyb_tables())
    assert (offers.missing_tables, offers.missing_columns) == ((), missing_columns)


@pytest.mark.parametrize(
    ("kind", "more", "lacks"),
    [
        ("esrf_ispyb", set(), {"Serial Fixed", "Serial Jet"}),
        ("maxiv_ispyb", {"LineScan", "GphNative"}, {"Serial Fixed", "Serial Jet"}),
        ("diamond_ispyb", {"Serial Fixed", "Serial Jet"}, set()),
    ],
)
def test_offers_name_the_experiment_types(
    request: pytest.FixtureRequest, kind: str, more: set[str], lacks: set[str]
):
    labels = OrmClient(request.getfixturevalue(kind)).offers().experiment_types
    assert labels is not None
    assert set(EXPERIMENT_TYPES) | more <= set(labels)
    assert not lacks & set(labels)


def test_an_embedded_ispyb_takes_any_experiment_type(sqlite_ispyb: Engine):
    assert OrmClient(sqlite_ispyb).offers().experiment_types is None


def test_offers_name_server_and_problems(ispyb: Engine):
    offers = OrmClient(ispyb).offers()
    expected = "sqlite" if ispyb.dialect.name == "sqlite" else "mariadb"
    assert (offers.dialect, offers.problems) == (expected, ())
    assert offers.server_version.split(".")[0].isdigit()
