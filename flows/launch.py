"""What is ready as a run of a deployment, for a worker to take up."""

import datetime
import hashlib
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.states import Crashed

from flows.job import ProcessRequest

UNDER_WAY = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
)
IN_A_PROCESS = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""A run that is so for long, though nobody holds a claim for its group, has lost its process."""


def launch_group(group_id: int, reason: str, *, lost_after_s: float) -> str:
    """Have a group processed; returns what was done, for people.

    Parameters
    ----------
    group_id
        A group that nobody holds a claim for.
    reason
        Why the group is ready.
    lost_after_s
        A run that holds no claim so long after it began is given up.
    """
    request = ProcessRequest(group_id=group_id, automatic=True)
    parameters = {"request": request.model_dump(mode="json", exclude_defaults=True)}
    tag = f"group {group_id}"
    return _begin("process/process-group", parameters, request.title, tag, reason, lost_after_s)


def launch_job(job_id: int, *, lost_after_s: float) -> str:
    """Have a job of ISPyB carried out that nobody holds a claim for; as `launch_group`."""
    tag = f"job {job_id}"
    return _begin("asked-job/asked-job", {"job_id": job_id}, f"ISPyB {tag}", tag, "asked for", lost_after_s)


def _begin(
    deployment: str, parameters: dict[str, Any], name: str, tag: str, reason: str, lost_after_s: float
) -> str:
    """Begin a run of a deployment unless one is under way.

    Which run there is only saves a second one: that a thing is done once is the ledger's to keep.
    """
    with get_client(sync_client=True) as client:
        with_tag = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
        runs = client.read_flow_runs(flow_run_filter=with_tag)
        for run in runs:
            if run.state_type in UNDER_WAY and not _given_up(run, client, lost_after_s):
                state = run.state_name or "under way"
                return f"run {run.name} is {state.lower()}"
    run: Any = run_deployment(  # a coroutine only where it is called from async code
        deployment,
        parameters=parameters,
        timeout=0,  # it is not waited for
        tags=[tag],
        flow_run_name=name,
        # once if two watchers come at the same time, but again when a run has ended without a result
        idempotency_key=hashlib.sha256(f"{tag}: {reason}, after {len(runs)} runs".encode()).hexdigest(),
        as_subflow=False,
    )
    return f"run {run.name} is begun"


def _given_up(run: FlowRun, client: SyncPrefectClient, lost_after_s: float) -> bool:
    """Whether a run has lost its process: its worker was killed with it, or before it had begun."""
    if run.state is None or run.state_type not in IN_A_PROCESS:
        return False
    age = datetime.datetime.now(datetime.UTC) - run.state.timestamp
    if age.total_seconds() < lost_after_s:
        return False
    message = f"{run.state_name} for {age.total_seconds():.0f} s, but nobody works on it; begun again"
    client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return True
