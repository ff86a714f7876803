"""Diamond's ProcessingJob as a wish: what somebody asks for in ISPyB, and the program that answers.

A job is ours if its recipe is one of `RECIPES` and no other program answers it. The answer is one program of
the job without integrations, which SynchWeb lists as downstream processing with its status and messages; the
results have programs and jobs of their own (``processing_jobs.py``), whose recipe is another.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, exists, func, select

from ispyb_io import result_tables, site_tables
from ispyb_io.asked import RECIPES, Answer, AskedJob
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.result_rows import ResultRows
from ispyb_io.results import Message, ResultStatus, Severity, shorten

JOB = table(site_tables.ProcessingJob)
SWEEP = table(site_tables.ProcessingJobImageSweep)
PARAMETER = table(site_tables.ProcessingJobParameter)
PROGRAM = table(result_tables.AutoProcProgram)
OF_PAGES = ("sample_id", "sample_group_id")
"""Parameters that pages name a job by; no settings."""
RECENT = 100_000
"""So many jobs are looked through from the newest back."""
LONGEST = 255
OUR_ANSWER = "ssxorch-asked:"
"""Begins processingEnvironment of a program that answers a job."""


def can_ask(flavour: Flavour) -> bool:
    """Whether this ISPyB has what a job consists of."""
    tables = (JOB, SWEEP, PARAMETER)
    return all(flavour.has(t.name) for t in tables) and flavour.has(PROGRAM.name, "processingJobId")


def read_asked_jobs(connection: Connection, flavour: Flavour, limit: int = 100) -> list[AskedJob]:
    """Jobs that nobody has answered, and those whose answer, by us, says that they run; oldest first."""
    if not can_ask(flavour):
        return []
    newest = select(func.max(JOB.c.processingJobId)).scalar_subquery()
    wanted = (
        select(*flavour.columns(JOB))
        .where(JOB.c.processingJobId > newest - RECENT)  # the only index there is
        .where(JOB.c.recipe.in_(RECIPES))
        .where(~exists().where(PROGRAM.c.processingJobId == JOB.c.processingJobId, _is_settled(flavour)))
        .order_by(JOB.c.processingJobId)
        .limit(limit)
    )
    jobs = connection.execute(wanted).all()
    ids = [job.processingJobId for job in jobs]
    sweeps = _below(connection, SWEEP, ids, "dataCollectionId")
    keys = _below(connection, PARAMETER, ids, "parameterKey", "parameterValue")
    return [
        AskedJob(
            job_id=job.processingJobId,
            recipe=job.recipe,
            data_collection_ids=tuple(row[0] for row in sweeps.get(job.processingJobId, ()))
            or ((job.dataCollectionId,) if job.dataCollectionId is not None else ()),
            parameters={
                key: value or "" for key, value in keys.get(job.processingJobId, ()) if key not in OF_PAGES
            },
            comments=job.comments or "",
        )
        for job in jobs
    ]


def _is_settled(flavour: Flavour) -> ColumnElement[bool]:
    """Whether a program is another's, or ours and over."""
    ours = func.coalesce(PROGRAM.c.processingEnvironment, "").like(f"{OUR_ANSWER}%")
    running, status = flavour.status(ResultStatus.RUNNING), PROGRAM.c.processingStatus
    is_running = status.is_(None) if running is None else func.coalesce(status, "") == running
    return ~(ours & is_running)


def _below(
    connection: Connection, of: Table, ids: list[int], *columns: str
) -> dict[int, list[tuple[Any, ...]]]:
    """Rows of a table below jobs, by job, in their order."""
    query = (
        select(of.c.processingJobId, *(of.c[name] for name in columns))
        .where(of.c.processingJobId.in_(ids))
        .order_by(next(iter(of.primary_key.columns)))
    )
    found: dict[int, list[tuple[Any, ...]]] = {}
    for job_id, *values in connection.execute(query):
        found.setdefault(job_id, []).append(tuple(values))
    return found


def put_answer(connection: Connection, flavour: Flavour, answer: Answer, now: datetime.datetime) -> int:
    """Write the program that answers a job, or change it; returns its autoProcProgramId."""
    rows = ResultRows(connection, flavour, now)
    values: dict[str, Any] = {
        "processingPrograms": "ssx-orchestrator",
        "processingStatus": flavour.status(answer.status),
        "processingMessage": shorten(answer.message, LONGEST),
        "recordTimeStamp": now,
    }
    is_over = answer.status is not ResultStatus.RUNNING
    values["processingEndTime" if is_over else "processingStartTime"] = now
    key: Mapping[str, Any] = {
        "processingJobId": answer.job_id,
        "processingEnvironment": f"{OUR_ANSWER}{answer.job_id}",
    }
    program_id = rows.put(PROGRAM, key, values)
    severity = Severity.ERROR if answer.status is ResultStatus.FAILED else Severity.INFO
    message = Message(severity=severity, text=answer.message, description=answer.message)
    rows.put_messages(program_id, [message] if is_over else [])
    return program_id
