"""``ssx watch``: find groups in ISPyB and process them."""

from typing import Annotated

import typer

from flows.cli_options import Workers, start
from flows.unfinished import unfinished_shown
from ssx_processing.errors import SsxError

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
    from flows.console import print_jobs, print_looks
    from flows.databases import open_databases
    from flows.replay import raise_if_refused
    from flows.wake import Wake, listening
    from flows.watch import run_watch, take_up_jobs, watch_for_ever

    if follow:
        from rich.console import Console

        wake = Wake()
        with listening(listen, wake), Console(stderr=True).status("starting") as status:
            watch_for_ever(site, print_looks, print_jobs, wake, status.update)
    with unfinished_shown():
        try:
            print_looks(run_watch(site))
        finally:  # a group that fails each time must not keep them waiting
            jobs = take_up_jobs(site)
            print_jobs(jobs)
    with open_databases(site) as databases:
        raise_if_refused(databases.require_outbox())
    if failed := [job.line for job in jobs if job.has_failed]:
        raise SsxError("; ".join(failed))
