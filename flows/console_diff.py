"""Two results side by side on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from flows.diff import ComparedResult, Difference


def print_difference(one: ComparedResult, other: ComparedResult, found: Difference) -> None:
    """Print what differs, then figures and CC1/2 by resolution of both."""
    console = Console()
    print_lines(console, [f"setting: {line}" for line in found.settings] or ["settings are the same"])
    print_lines(console, [f"version: {line}" for line in found.versions])
    print_lines(console, [f"chunks: {line}" for line in found.chunks])
    table = Table("", one.title, other.title)
    for name, first, second in found.figures:
        table.add_row(name, Text(first), Text(second), style="" if first == second else "bold")
    console.print(table)
    if not found.shells:
        print_lines(console, ["the resolution shells are not the same; see ssx show of each"])
        return
    table = Table("CC1/2", one.title, other.title)
    for row in found.shells:
        table.add_row(*row)
    console.print(table)
