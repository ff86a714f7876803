"""``ssx watch``: find groups in ISPyB and process them."""

from typing import Annotated

import typer

from flows.cli_options import Workers, start
from flows.unfinished import unfinished_shown

watch_app = typer.Typer()


@watch_app.command("watch")
def watch_(
    follow: Annotated[bool, typer.Option("--follow", help="Look again and again, for ever.")] = False,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            help="With --follow: POST /wake to this port makes it look now.",
            metavar="[HOST:]PORT",
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Find serial data collection groups in ISPyB and process those that are ready."""
    if listen is not None and not follow:
        raise typer.BadParameter("it needs --follow: one look is over before anybody can wake it")
    site = start(workers)
    from flows.console import print_looks
    from flows.databases import open_databases
    from flows.replay import raise_if_refused
    from flows.wake import Wake, listening
    from flows.watch import run_watch, watch_for_ever

    if follow:
        from rich.console import Console

        wake = Wake()
        with listening(listen, wake), Console(stderr=True).status("starting") as status:
            watch_for_ever(site, print_looks, wake, status.update)
    with unfinished_shown():
        print_looks(run_watch(site))
    with open_databases(site) as databases:
        raise_if_refused(databases.require_outbox())
