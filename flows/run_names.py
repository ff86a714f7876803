"""How a flow run is called in the Prefect UI, once it is known what it is about."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows.artifacts import only_shown
from flows.job import Job
from flows.run_titles import tags_of, title_of


@only_shown()
def name_run(job: Job, *, is_live: bool = False) -> None:
    """Give the present run name and tags of its job."""
    run_id = flow_run.get_id()
    if run_id is None:  # called without Prefect
        return
    tags = {*flow_run.get_tags(), *tags_of(job, is_live=is_live)}
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(run_id), name=title_of(job), tags=sorted(tags))
