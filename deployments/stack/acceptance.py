"""A chip goes through the whole stack; what must then be so."""

import datetime
import uuid
from dataclasses import dataclass

import httpx
from sqlalchemy import insert, text

from deployments.stack.database_servers import create_prefects_database
from deployments.stack.machine import Machine
from deployments.stack.programs import wait_until
from flows.demo import cc_to_truth
from flows.outcome import read_outcome
from ispyb_io.asked import MERGE
from ispyb_io.asked_jobs import JOB, PARAMETER
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.simulation.chip import SimulatedChip

LEAST_CC = 0.9
"""Correlation of the merged with the simulated intensities, of 40 crystals."""
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Check:
    """One thing that must be so."""

    what: str
    holds: bool
    seen: str


def acceptance_run(machine: Machine, chip: SimulatedChip) -> list[Check]:
    """Collect a chip, wait for its result, look at it from all sides, and lose Prefect's database."""
    machine.tell("a chip is collected; waiting for its result")
    group_id = machine.collect(chip, "acceptance")
    done = machine.wait_for_result(group_id, PATIENCE_S)
    wait_until(lambda: _state_of(machine, group_id) == "Completed", "its run in Prefect is not completed")
    outcome = read_outcome(done.folder)
    cc, n = cc_to_truth(outcome.merge.folder / "merged.mtz", chip.truth)
    checks = [
        Check("the watcher found the group", True, f"group {group_id}"),
        Check("the ledger has a whole result", done.status is WorkStatus.SUCCESS, done.message),
        Check("it was processed once", done.attempts == 1, f"{done.attempts} attempts"),
        Check("the intensities are the simulated ones", cc > LEAST_CC, f"CC {cc:.3f}, {n} reflections"),
        Check("ISPyB has the programs of the result", *_programs(machine, done.program_ids)),
        Check("Prefect shows the run as completed", True, _name_of(machine, group_id)),
        Check("without the account the server says no", *_is_refused(machine)),
        Check("an event of data acquisition wakes the watcher", *_event(machine)),
        Check("a merge asked for in ISPyB is made and answered there", *_asked(machine, group_id)),
    ]
    return [*checks, *lose_prefects_database(machine, group_id)]


def lose_prefects_database(machine: Machine, group_id: int) -> list[Check]:
    """Nothing is in it but history: results, rows and ledger stand, and nothing is done twice."""
    machine.tell("Prefect's database is lost")
    before = machine.processing(group_id)
    for program in (machine.watcher, machine.worker, machine.server):
        program.stop()
    create_prefects_database(machine.folder / "pg")
    machine.server.start()
    machine.register()
    for program in (machine.worker, machine.watcher):
        program.start()
    status = machine.ssx("status")
    looks = machine.ssx("watch")
    after = machine.processing(group_id)
    shown = "success" if "success" in status else "no success"
    return [
        Check(
            "after the loss of Prefect's database the result stands",
            shown == "success",
            f"ssx status: {shown}",
        ),
        Check("and nothing is done twice", after == before and not machine.runs(), " ".join(looks.split())),
    ]


def _name_of(machine: Machine, group_id: int) -> str:
    return next((run["name"] for run in _runs_of(machine, group_id)), "no run")


def _state_of(machine: Machine, group_id: int) -> str:
    return next((run["state_name"] for run in _runs_of(machine, group_id)), "no run")


def _runs_of(machine: Machine, group_id: int) -> list[dict]:
    return [run for run in machine.runs() if f"group {group_id}" in run["tags"]]


def _programs(machine: Machine, program_ids: tuple[int, ...]) -> tuple[bool, str]:
    with machine.engine("ispyb") as engine, engine.connect() as connection:
        query = "SELECT autoProcProgramId, processingPrograms, processingStatus FROM AutoProcProgram"
        rows = {row[0]: row[1:] for row in connection.execute(text(query))}
    status = [str(rows[id_][1]) for id_ in program_ids if id_ in rows]
    seen = f"{len(status)} of {len(program_ids)}: {', '.join(status)}"
    return bool(program_ids) and status == ["SUCCESS"] * len(program_ids), seen


def _is_refused(machine: Machine) -> tuple[bool, str]:
    status = httpx.post(f"{machine.api}/flow_runs/filter", json={}, timeout=30).status_code
    return status == httpx.codes.UNAUTHORIZED, f"HTTP {status}"


def _asked(machine: Machine, group_id: int) -> tuple[bool, str]:
    """A ProcessingJob, as SynchWeb writes it, is taken up by the watcher and carried out by the worker."""
    with machine.engine("ispyb") as engine, engine.begin() as connection:
        of_group = text("SELECT min(dataCollectionId) FROM DataCollection WHERE dataCollectionGroupId = :id")
        collection = connection.execute(of_group, {"id": group_id}).scalar_one()
        job = insert(JOB).values(dataCollectionId=collection, recipe=MERGE, automatic=0)
        job_id = connection.execute(job).inserted_primary_key[0]  # pyright: ignore[reportOptionalSubscript]
        wish = {"parameterKey": "merging.d_min", "parameterValue": "3.0"}
        connection.execute(insert(PARAMETER).values(processingJobId=job_id, **wish))
    query = text(
        "SELECT processingStatus, processingMessage FROM AutoProcProgram WHERE processingJobId = :id"
    )

    def answer() -> tuple[str, str] | None:
        with machine.engine("ispyb") as engine, engine.connect() as connection:
            row = connection.execute(query, {"id": job_id}).first()
        return (row[0], row[1]) if row is not None and row[0] != "RUNNING" else None

    name = f"ISPyB job {job_id}"
    wait_until(lambda: answer() is not None, f"{name} is not answered", patience_s=PATIENCE_S)
    by_worker = any(run["name"] == name and run["deployment_id"] for run in machine.runs())
    status, message = answer() or ("", "")
    return status == "SUCCESS" and by_worker, f"{name}: {status}, {message}"


def _event(machine: Machine) -> tuple[bool, str]:
    """The deployment `watch` runs when data acquisition says that something has been collected."""
    event = {
        "id": str(uuid.uuid4()),
        "event": "ssx.collection.ended",
        "occurred": datetime.datetime.now(datetime.UTC).isoformat(),
        "resource": {"prefect.resource.id": "ssx.beamline.demo"},
        "payload": {},
    }
    machine.ask("events", [event])

    def state() -> str | None:
        of_watch = {
            "flows": {"name": {"any_": ["watch"]}},
            "flow_runs": {"deployment_id": {"is_null_": False}},
        }
        runs = machine.ask("flow_runs/filter", of_watch | {"sort": "START_TIME_DESC"})
        return next((run["state_name"] for run in runs), None)

    wait_until(lambda: state() in ("Completed", "Failed", "Crashed"), "the event began no run of the watcher")
    return state() == "Completed", f"the run is {state()}"
