"""``ssx notify``: see whether those whom the site tells of results hear of it."""

import typer

from flows.cli_options import say, start
from ssx_processing.errors import SsxError

notify_app = typer.Typer()


@notify_app.command("notify")
def notify_() -> None:
    """Send a line to those whom SSX_NOTIFY_URLS names, to see whether it arrives."""
    site = start(None)
    from flows.notices import send

    if send(["a test: those who read this hear of the results of serial crystallography"], site):
        raise SsxError("the line could not be sent to everybody; with ssx --debug notify Apprise says why")
    say("sent")
