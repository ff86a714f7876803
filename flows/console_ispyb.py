"""Tables of ``ssx ispyb check``."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from flows.ispyb_check import GroupSeen, IspybCheck
from flows.ispyb_pages import Shown
from flows.reconciliation import Finding
from ispyb_io.rights import Right


def print_check(check: IspybCheck) -> None:
    """Print what was looked at, the problems last."""
    console = Console()
    _print_schema(console, check)
    _print_rights(console, check.rights)
    _print_ledger(console, check)
    print_lines(console, ["", "What the pages can show with this database"])
    print_lines(console, [f"  {line}" for line in _pages(check.pages)])
    print_lines(console, [f"  {check.asking}"])
    _print_groups(console, check.groups)
    _print_findings(console, check.findings)
    print_lines(
        console, ["", "Results can be written." if not check.problems else "Results cannot be written:"]
    )
    print_lines(console, [f"  {problem}" for problem in check.problems])


def _print_schema(console: Console, check: IspybCheck) -> None:
    offers = check.offers
    types = ", ".join(offers.experiment_types) if offers.experiment_types else "any text"
    lines = [
        f"{check.address}: {offers.dialect} {offers.server_version}",
        f"tables            {', '.join(offers.tables) or 'none that we know'}",
        f"missing tables    {', '.join(offers.missing_tables) or 'none'}",
        f"missing columns   {', '.join(offers.missing_columns) or 'none'}",
        f"experiment types  {types}",
    ]
    print_lines(console, lines)
    if offers.missing_tables:
        print_lines(
            console,
            ["                  (a table on which the account has no right at all counts as missing)"],
        )


def _print_rights(console: Console, rights: Sequence[Right]) -> None:
    refused = [right for right in rights if not right.allowed]
    read = [right for right in rights if right.action == "SELECT"]
    may_read = sum(right.allowed for right in read)
    written = {right.table for right in rights if right.action == "INSERT"}
    complete = written - {right.table for right in refused}
    print_lines(
        console,
        [
            "",
            "What the account may do (tried with statements that touch no row)",
            f"  read {may_read} of {len(read)} tables, write {len(complete)} of {len(written)}",
        ],
    )
    for right in refused:
        advice = f"GRANT {right.action} ON `{right.table}` TO the account"
        print_lines(console, [f"  no {right.action} on {right.table}; {advice}"])


def _print_ledger(console: Console, check: IspybCheck) -> None:
    ledger = check.ledger
    if ledger is None:
        print_lines(console, ["", "Ledger: a file of its own, made when it is needed"])
        return
    print_lines(console, ["", f"Ledger: {ledger.address}, {len(ledger.tables)} tables"])
    if ledger.missing_tables:
        advice = "made at the first run where the account may CREATE; else see ssx ispyb ledger-sql"
        print_lines(console, [f"  missing {', '.join(ledger.missing_tables)}; {advice}"])


def _pages(pages: Iterable[Shown]) -> list[str]:
    return [f"{page.page}: {'' if page.shown else 'not '}shown: {page.what}" for page in pages]


def _print_groups(console: Console, groups: Sequence[GroupSeen]) -> None:
    print_lines(console, [""])
    if not groups:
        print_lines(console, ["No serial data collection groups in this range."])
        return
    table = Table(
        "group", "proposal", "beamline", "type", "began", "runs", "sample", title="Latest serial groups"
    )
    for g in groups:
        began = g.start_time.isoformat(sep=" ", timespec="minutes") if g.start_time else ""
        cells = (g.proposal, g.beamline, g.experiment_type or "", began, str(g.n_data_collections), g.sample)
        table.add_row(str(g.group_id), *map(Text, cells))
    console.print(table)
    for group in groups:
        print_lines(console, [f"group {group.group_id}, {line}" for line in _pages(group.pages)])


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    print_lines(console, [""])
    if not findings:
        print_lines(console, ["Records and files agree, as far as was looked."])
        return
    print_lines(
        console, [f"{len(findings)} findings; groups are processed all the same, as far as files are known"]
    )
    for finding in findings:
        collection = f", data collection {finding.data_collection_id}" if finding.data_collection_id else ""
        print_lines(console, [f"  group {finding.group_id}{collection}: {finding.what}; {finding.advice}"])
