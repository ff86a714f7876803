"""What somebody asks for in ISPyB is carried out once, and answered there in plain words."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from flows.asked_jobs import claim_of, unclaimed_jobs, waiting_jobs
from flows.claim import claimed
from flows.databases import open_databases
from flows.job_look import JobLook
from flows.settings import SiteSettings
from flows.watch import take_up_jobs
from ispyb_io.asked import MERGE, PROCESS
from ispyb_io.asked_jobs import JOB, PARAMETER, SWEEP
from ispyb_io.engines import open_engine
from tests.command_line import ssx
from tests.flows.conftest import ProcessedSite
from tests.flows.rows import rows

ANSWERS = "SELECT * FROM AutoProcProgram WHERE processingEnvironment LIKE 'ssxorch-asked:%'"


@pytest.fixture
def ispyb_file(processed: ProcessedSite) -> Path:
    """The processed site's ISPyB, with Diamond's tables of jobs."""
    file = processed.folder / "ispyb.sqlite"
    engine = open_engine(file)
    with engine.begin() as connection:
        JOB.metadata.create_all(connection, [JOB, SWEEP, PARAMETER])
        connection.exec_driver_sql("ALTER TABLE AutoProcProgram ADD COLUMN processingJobId INTEGER")
    engine.dispose()
    return file


def ask(file: Path, recipe: str, data_collection: int, parameters: Mapping[str, str] = {}) -> int:
    with closing(sqlite3.connect(file)) as connection, connection:
        job = "INSERT INTO ProcessingJob (dataCollectionId, recipe, automatic) VALUES (?, ?, 0)"
        job_id = connection.execute(job, [data_collection, recipe]).lastrowid or 0
        columns = "processingJobId, parameterKey, parameterValue"
        parameter = f"INSERT INTO ProcessingJobParameter ({columns}) VALUES (?, ?, ?)"  # noqa: S608
        connection.executemany(parameter, [(job_id, *one) for one in parameters.items()])
    return job_id


def test_a_merge_asked_for_is_made_once_and_says_who_asked(ispyb_file: Path, processed: ProcessedSite):
    site = SiteSettings()
    job_id = ask(ispyb_file, MERGE, 1, {"merging.d_min": "3.0"})
    (look,) = take_up_jobs(site)
    assert (look.job_id, look.has_failed) == (job_id, False)
    assert take_up_jobs(site) == waiting_jobs(site) == []
    (answer,) = rows(ispyb_file, ANSWERS)
    assert (answer["processingStatus"], answer["processingJobId"]) == ("SUCCESS", job_id)
    assert answer["processingMessage"].startswith("8 of 8 chunks; 40 hits")
    last = rows(processed.folder / "ledger.sqlite", "SELECT * FROM SsxProcessing")[-1]
    assert (last["status"], last["startedBy"]) == ("success", f"ISPyB job {job_id}")


def test_what_is_wrong_comes_back_as_a_sentence_and_is_not_tried_again(ispyb_file: Path):
    site = SiteSettings()
    wrong = {
        (MERGE, 1, "merging.dmin", "3"): "ssx-merge: merging.dmin: there is no such setting",
        (MERGE, 1, "merging.d_min", "-1"): "merging.d_min: Input should be greater than 0, got '-1'",
        (MERGE, 1, "spots.min_snr", "4"): "a merge can change merging.* only, not spots",
        (
            MERGE,
            1,
            "space_group",
            "P1",
        ): "space_group: a merge keeps that of the processing",
        (PROCESS, 1, "unit_cell", "79"): "expected six numbers",
        (PROCESS, 99, "spots.min_snr", "4"): "data collection 99",
    }
    jobs = {
        ask(ispyb_file, recipe, id_, {key: value}): said for (recipe, id_, key, value), said in wrong.items()
    }
    looks = take_up_jobs(site)
    assert [look.job_id for look in looks] == list(jobs)
    for look in looks:
        assert look.has_failed
        assert jobs[look.job_id] in look.said
    assert take_up_jobs(site) == []
    answers = rows(ispyb_file, ANSWERS)
    assert [answer["processingStatus"] for answer in answers] == ["FAILED"] * len(wrong)


def test_a_job_whose_worker_died_is_taken_up_again(ispyb_file: Path):
    site = SiteSettings()
    job_id = ask(ispyb_file, PROCESS, 1, {"space_group": "P43212"})
    program = "INSERT INTO AutoProcProgram (processingJobId, processingEnvironment, processingStatus)"
    with closing(sqlite3.connect(ispyb_file)) as connection, connection:
        connection.execute(f"{program} VALUES (?, ?, 'RUNNING')", [job_id, f"ssxorch-asked:{job_id}"])
    assert [look.has_failed for look in take_up_jobs(site)] == [False]
    assert [answer["processingStatus"] for answer in rows(ispyb_file, ANSWERS)] == ["SUCCESS"]


def test_a_job_that_somebody_works_on_is_not_begun_again(ispyb_file: Path):
    site = SiteSettings()
    job_id = ask(ispyb_file, MERGE, 1, {"merging.d_min": "3.2"})
    (job,) = unclaimed_jobs(site)
    assert job.job_id == job_id
    with open_databases(site) as databases, claimed(*claim_of(job, site), databases.ledger, site):
        assert unclaimed_jobs(site) == []
        assert [look.said for look in take_up_jobs(site)] == ["waits"]
    assert unclaimed_jobs(site) == [job]


def test_the_watcher_does_it_and_says_so(ispyb_file: Path, processed: ProcessedSite):
    settings = {
        "SSX_ISPYB_URL": f"sqlite:///{ispyb_file}",
        "SSX_LEDGER_URL": f"sqlite:///{processed.folder}/ledger.sqlite",
        "SSX_DATA_HOME": str(processed.folder),
        "SSX_PROCESSING_FOLDER": f"{processed.folder}/processing/group-{{group_id}}",
        "SSX_PROCESSING": '{"frames_per_chunk": 10, "calibration": {"n_frames": 40}}',
    }
    done = ssx("watch", cwd=processed.folder, **settings)
    assert (done.returncode, "job" in done.stdout) == (0, False), done.stderr
    job_id = ask(ispyb_file, MERGE, 1, {"merging.dmin": "3"})
    done = ssx("watch", cwd=processed.folder, **settings)
    assert done.returncode == 1
    line = JobLook(job_id, "failed; ssx-merge: merging.dmin: there is no such setting").line
    assert line in done.stdout
    assert line in done.stderr
