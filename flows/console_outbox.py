"""The outbox on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from flows.replay import listed, why_it_waits
from ispyb_io.outbox import Outbox


def print_records(outbox: Outbox, *, refused_only: bool) -> None:
    """Print what waits or was refused, since when and why."""
    records = listed(outbox, refused_only=refused_only)
    if not records:
        print_lines(
            Console(), ["ISPyB refused nothing" if refused_only else "nothing waits: ISPyB has all results"]
        )
        return
    if refused_only:
        print_lines(Console(), [f"{r.record_id}  {r.subject}, {r.status}: {r.reason}" for r in records])
        return
    table = Table()
    for name in ("no.", "result of", "status", "since"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    for r in records:
        why = Text(f"{r.state}: {why_it_waits(r, outbox)}")
        table.add_row(str(r.record_id), Text(r.subject), r.status, f"{r.enqueued:%m-%d %H:%M}", why)
    Console().print(table)


@contextmanager
def delivery_progress(outbox: Outbox) -> Iterator[Callable[[], None]]:
    """A bar on stderr while records are delivered; to be told after each."""
    columns = (TextColumn("delivering"), BarColumn(), MofNCompleteColumn(), TextColumn("records"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=outbox.count_waiting())
        yield lambda: progress.advance(task)
