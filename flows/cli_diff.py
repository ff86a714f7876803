"""``ssx diff``: what differs between two results."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from flows.cli_input import parse_result
from flows.cli_options import say, start

diff_app = typer.Typer()
Compared = Annotated[
    str, typer.Argument(help="Key of a result (ssx status), group in ISPyB, or folder.", metavar="RESULT")
]


@diff_app.command("diff")
def diff_(
    first: Compared,
    second: Compared,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what differs between two results: settings, versions, chunks, figures."""
    site = start(None)
    from flows.console_diff import print_difference
    from flows.databases import open_databases
    from flows.diff import ComparedResult, compared_result, difference, is_key

    def read(text: str) -> ComparedResult:
        group_id, folder = (None, None) if is_key(text) else parse_result(text)
        with open_databases(site, folder, create=folder is None) as databases:
            return compared_result(text, group_id, folder, databases)

    one, other = read(first), read(second)
    found = difference(one, other)
    if as_json:
        say(json.dumps(asdict(found), indent=2))
    else:
        print_difference(one, other, found)
