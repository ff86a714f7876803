"""The commands of ``ssx ispyb``: what the configured ISPyB offers."""

import typer

from flows.cli_options import start

ispyb_app = typer.Typer(no_args_is_help=True, help="ISPyB itself.")


@ispyb_app.command("check")
def ispyb_check() -> None:
    """Say what the configured ISPyB offers, lacks, and whether results can be written."""
    site = start(None)
    from flows.console import print_offers
    from flows.databases import open_databases
    from ispyb_io.protocol import RejectedError

    with open_databases(site) as databases:
        offers = databases.require_ispyb().offers()
    print_offers(offers)
    if offers.problems:
        raise RejectedError("; ".join(offers.problems))
