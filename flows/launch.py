"""A group that is ready as a run of a deployment, for a worker to take up."""

import hashlib
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment

from flows.job import ProcessRequest

DEPLOYMENT = "process/process-group"
UNDER_WAY = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]


def launch(group_id: int, reason: str) -> str:
    """Begin a run of the deployment unless one is under way; returns what was done, for people.

    Which run there is only saves a second one: that a group is processed once is the ledger's to keep.

    Parameters
    ----------
    reason
        Why the group is ready; for the same reason it is begun once.
    """
    tag = f"group {group_id}"
    with get_client(sync_client=True) as client:
        of_group = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)),
        )
        runs = client.read_flow_runs(flow_run_filter=of_group, limit=1)
    if runs:
        state = runs[0].state_name or "under way"
        return f"run {runs[0].name} is {state.lower()}"
    request = ProcessRequest(group_id=group_id, automatic=True)
    run: Any = run_deployment(  # a coroutine only where it is called from async code
        DEPLOYMENT,
        parameters={"request": request.model_dump(mode="json", exclude_defaults=True)},
        timeout=0,  # it is not waited for
        tags=[tag],
        flow_run_name=request.title,
        idempotency_key=hashlib.sha256(f"{tag}: {reason}".encode()).hexdigest(),
        as_subflow=False,
    )
    return f"run {run.name} is begun"
