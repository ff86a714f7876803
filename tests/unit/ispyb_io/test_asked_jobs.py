"""Jobs that somebody writes into ISPyB for us: read as they are meant, answered by one program."""

from collections.abc import Mapping

import pytest
from sqlalchemy import Engine, insert, select

from ispyb_io.asked import MERGE, PROCESS, Answer
from ispyb_io.asked_jobs import JOB, PARAMETER, PROGRAM, SWEEP
from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.orm_client import OrmClient
from ispyb_io.result_rows import MESSAGE
from ispyb_io.results import ResultStatus


def ask(engine: Engine, recipe: str, ids: list[int], parameters: Mapping[str, str] = {}) -> int:
    """As SynchWeb, or somebody with SQL, does."""
    with engine.begin() as connection:
        values = {"dataCollectionId": ids[0], "recipe": recipe, "automatic": 0}
        (job_id,) = connection.execute(insert(JOB).values(values)).inserted_primary_key or (0,)
        for id_ in ids[1:]:
            sweep = {"processingJobId": job_id, "dataCollectionId": id_, "startImage": 1, "endImage": 9}
            connection.execute(insert(SWEEP).values(sweep))
        for key, value in parameters.items():
            parameter = {"processingJobId": job_id, "parameterKey": key, "parameterValue": value}
            connection.execute(insert(PARAMETER).values(parameter))
    return job_id


def answered(job_id: int, status: ResultStatus, message: str = "so") -> Answer:
    return Answer(job_id=job_id, status=status, message=message)


@pytest.fixture
def collection_id(diamond_ispyb: Engine, chip: CollectedChip) -> int:
    return write_collected_chip(diamond_ispyb, chip).data_collection_id


def test_a_job_is_what_was_asked_for(diamond_ispyb: Engine, collection_id: int):
    client = OrmClient(diamond_ispyb)
    assert client.asked_jobs() == []
    parameters = {"merging.d_min": "1.8", "sample_id": "3"}  # the second is how a page names it
    job_id = ask(diamond_ispyb, PROCESS, [collection_id], parameters)
    ask(diamond_ispyb, "autoprocessing-xia2-ssx", [collection_id])
    ask(diamond_ispyb, "ssx-orchestrator", [collection_id])  # one of our results
    (job,) = client.asked_jobs()
    assert (job.job_id, job.recipe, job.data_collection_ids) == (job_id, PROCESS, (collection_id,))
    assert job.parameters == {"merging.d_min": "1.8"}
    swept = ask(diamond_ispyb, MERGE, [collection_id, collection_id])
    assert [(job.job_id, job.data_collection_ids) for job in client.asked_jobs()][1:] == [
        (swept, (collection_id,))
    ]


@pytest.mark.parametrize("status", [ResultStatus.SUCCESS, ResultStatus.FAILED])
def test_a_job_is_answered_by_one_program(diamond_ispyb: Engine, collection_id: int, status: ResultStatus):
    client = OrmClient(diamond_ispyb)
    job_id = ask(diamond_ispyb, PROCESS, [collection_id])
    first = client.answer_job(answered(job_id, ResultStatus.RUNNING, "taken up"))
    assert [job.job_id for job in client.asked_jobs()] == [job_id]  # whoever works on it may die
    again = client.answer_job(answered(job_id, ResultStatus.RUNNING, "taken up"))
    last = client.answer_job(answered(job_id, status, "merging.dmin: there is no such setting"))
    assert first == again == last
    assert client.asked_jobs() == []
    with diamond_ispyb.connect() as connection:
        rows = connection.execute(
            select(PROGRAM.c.processingStatus, PROGRAM.c.processingMessage).where(
                PROGRAM.c.processingJobId == job_id
            )
        ).all()
        said = connection.execute(select(MESSAGE.c.severity, MESSAGE.c.message)).all()
    number = 1 if status is ResultStatus.SUCCESS else 0
    assert [(int(row[0]), row[1]) for row in rows] == [(number, "merging.dmin: there is no such setting")]
    severity = "INFO" if status is ResultStatus.SUCCESS else "ERROR"
    assert said == [(severity, "merging.dmin: there is no such setting")]


def test_a_job_that_another_program_answers_is_not_ours(diamond_ispyb: Engine, collection_id: int):
    job_id = ask(diamond_ispyb, PROCESS, [collection_id])
    with diamond_ispyb.begin() as connection:
        connection.execute(
            insert(PROGRAM).values({"processingJobId": job_id, "processingPrograms": "zocalo"})
        )
    assert OrmClient(diamond_ispyb).asked_jobs() == []


def test_where_there_are_no_jobs_nothing_is_asked(ispyb: Engine):
    assert OrmClient(ispyb).asked_jobs() == []
