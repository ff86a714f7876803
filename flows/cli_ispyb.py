"""The commands of ``ssx ispyb``: what an ISPyB offers, an embedded one, the ledger as SQL, the outbox."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import say, start

ispyb_app = typer.Typer(no_args_is_help=True, help="ISPyB itself.")


@ispyb_app.command("check")
def ispyb_check(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            help="Address of an ISPyB; by default the site's. Others on this computer see a password given "
            "here (ps): better set SSX_ISPYB_URL, or SSX_ISPYB_URL_FILE to a file that holds it.",
            metavar="[URL]",
        ),
    ] = None,
    groups: Annotated[
        int, typer.Option(help="How many of the latest serial groups are looked at.", min=0)
    ] = 10,
    since: Annotated[
        datetime.datetime | None,
        typer.Option(help="Only groups that began then or later.", formats=["%Y-%m-%d"]),
    ] = None,
    beamline: Annotated[str | None, typer.Option(help="Only groups of this beamline.")] = None,
    files: Annotated[bool, typer.Option(help="Look for the files of the groups, and open them.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say what an ISPyB offers and lacks, what pages will show, what is wrong with the latest groups."""
    site = start(None)
    from flows.console_ispyb import print_check
    from flows.ispyb_check import check_database
    from flows.secret_values import reveal
    from ispyb_io.protocol import RejectedError
    from ispyb_io.rest_address import is_rest
    from ispyb_io.survey import Scope
    from ssx_processing.errors import SettingsError

    if url is None and site.ispyb_url is None:
        raise SettingsError(
            "no ISPyB is configured; set SSX_ISPYB_URL or SSX_ISPYB_URL_FILE, or give an address"
        )
    address = url or (reveal(site.ispyb_url) if site.ispyb_url else "")
    if is_rest(address):
        refuse_options_of_databases(context)
        check_rest(address, as_json=json_)
        return
    scope = Scope(n_groups=groups, since=since, beamline=beamline, proposal=site.proposal)
    check = check_database(address, site, scope, with_files=files)
    if json_:
        say(check.model_dump_json(indent=2))
    else:
        print_check(check)
    if check.problems:
        n = len(check.problems)
        raise RejectedError(
            f"results cannot be written: {check.problems[0]}" + (f"; and {n - 1} more" if n > 1 else "")
        )


def refuse_options_of_databases(context: typer.Context) -> None:
    """Raise if an option is given that a py-ispyb cannot follow."""
    from ispyb_io.protocol import RejectedError

    options = {
        "groups": "--groups",
        "since": "--since",
        "beamline": "--beamline",
        "files": "--files/--no-files",
    }
    sources = {option: context.get_parameter_source(name) for name, option in options.items()}
    given = [option for option, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        raise RejectedError(
            f"only for databases: {', '.join(given)}; of a py-ispyb the latest groups are not looked at, "
            "give the address of its database or leave the option out"
        )


def check_rest(address: str, *, as_json: bool) -> None:
    """The same for a py-ispyb: whether it can be told results, and what it is not told."""
    from flows.console import print_offers
    from flows.databases import open_ispyb, place_of
    from ispyb_io.protocol import RejectedError

    with open_ispyb(address) as client:
        offers = client.offers()
    if as_json:
        say(json.dumps({"address": place_of(address), "offers": offers.model_dump(mode="json")}, indent=2))
    else:
        print_offers(offers)
    if offers.problems:
        raise RejectedError(f"results cannot be written: {'; '.join(offers.problems)}")


@ispyb_app.command("init")
def ispyb_init(
    file: Annotated[Path, typer.Argument(help="SQLite file, made if it is not there.")] = Path(
        "ispyb.sqlite"
    ),
) -> None:
    """Make an embedded ISPyB, in one SQLite file: to try things where there is no ISPyB."""
    from ispyb_io.embedded import create_embedded_ispyb

    was_there = file.is_file()
    create_embedded_ispyb(file).dispose()
    say(f"{file.absolute()}: {'was there; what it lacked was added' if was_there else 'made'}")
    say(f"use it: export SSX_ISPYB_URL=sqlite:///{file.absolute()}")


@ispyb_app.command("ledger-sql")
def ispyb_ledger_sql(
    account: Annotated[
        str | None,
        typer.Option(help="Account that gets SELECT, INSERT and UPDATE on the tables.", metavar="USER@HOST"),
    ] = None,
) -> None:
    """Print the SQL that makes the ledger's tables in a MariaDB or MySQL database, for its owner."""
    from ispyb_io.ledger_sql import ledger_sql

    say(ledger_sql(account).rstrip())


@ispyb_app.command("outbox")
def ispyb_outbox(
    replay: Annotated[bool, typer.Option("--replay", help="Deliver now what waits.")] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only what ISPyB refused, with the whole reason.")
    ] = False,
    retry: Annotated[
        str | None,
        typer.Option(help="Let a refused record, or all, wait again; or one that is for another ISPyB."),
    ] = None,
    drop: Annotated[int | None, typer.Option(help="Forget a refused record.")] = None,
) -> None:
    """Show the results that ISPyB does not have yet, since when and why; deliver them now."""
    site = start(None)
    from flows import replay as outbox_work
    from flows.console_outbox import delivery_progress, print_records
    from flows.databases import open_databases

    with open_databases(site) as databases:
        outbox = databases.require_outbox()
        if drop is not None:
            record = outbox.drop(drop)
            say(f"dropped record {drop}: {record.subject}, {record.status}")
        if retry is not None:
            say(f"{outbox_work.retry(databases, retry)} refused before, waiting again")
        if replay:
            with delivery_progress(outbox) as show:
                outbox_work.replay(databases, show)
        print_records(outbox, refused_only=refused)
        outbox_work.raise_if_refused(outbox)
