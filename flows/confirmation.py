"""Who says yes to a large job: the person at the terminal, or one who looks at the Prefect UI."""

import sys

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from rich.prompt import Confirm

from flows.expected_work import Ask, ExpectedWork
from flows.job import ProcessRequest
from flows.prefect_environment import server_is_configured
from flows.settings import SiteSettings


class Go(RunInput):
    """Form in the Prefect UI."""

    begin: bool = True
    """Begin the processing; otherwise it ends here."""


def whom_to_ask(request: ProcessRequest, site: SiteSettings) -> Ask | None:
    """Return who is asked before a large job; None where nobody is there."""
    if request.confirmed:
        return lambda work: True
    if sys.stdin is not None and sys.stdin.isatty():
        return _ask_at_the_terminal
    if server_is_configured():
        return lambda work: _ask_in_the_ui(work, site.confirm_wait_s)
    return None


def _ask_at_the_terminal(work: ExpectedWork) -> bool:
    return Confirm.ask(f"{work.words}. Begin?", default=False)


def _ask_in_the_ui(work: ExpectedWork, wait_s: float) -> bool:
    """The run is paused meanwhile; Prefect fails it when nobody answers."""
    form = Go.with_initial_data(description=f"## Begin this?\n\n{work.words}", begin=True)
    return pause_flow_run(wait_for_input=form, timeout=int(wait_s)).begin
