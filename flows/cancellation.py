"""A run that somebody cancels in Prefect: recorded as such, and begun again only by somebody."""

from ssx_processing.errors import SsxError

CANCELLED = "cancelled in Prefect"
"""Begins the message of such a processing: the watcher leaves it alone."""


class RunCancelledError(SsxError):
    """Somebody cancelled the run."""

    def __init__(self) -> None:
        super().__init__(
            f"{CANCELLED}; chunks that are done are kept: ssx process, or another run in Prefect, goes on"
        )


def is_being_cancelled() -> bool:
    """Whether this run is ended because somebody wants it so, and not because its worker goes down."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    run_id = flow_run.get_id()
    if run_id is None:
        return False
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state  # pyright: ignore[reportArgumentType]  # a text will do
    return state is not None and (state.is_cancelling() or state.is_cancelled())
