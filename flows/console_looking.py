"""Tables that the commands for looking and tuning print."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from ssx_processing.pipeline.recommendation import PointJudgement, Recommendation
from ssx_processing.pipeline.tuning_page import varied

if TYPE_CHECKING:
    from collections.abc import Callable


@contextmanager
def frames_progress(what: str) -> "Iterator[Callable[[int, int], None]]":
    """A bar on stderr while frames are looked at."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


def print_tuning(recommendation: Recommendation) -> None:
    """Print hits and false spots over the grid, and what is recommended."""
    console = Console()
    points = recommendation.points
    name = varied(points)
    across = sorted({point.thresholds.min_significance for point in points})
    table = Table(
        title="hits / spots on a blank / safe cut", caption="[bold]> as it is now, * recommended[/]"
    )
    table.add_column(name, justify="right")
    for value in across:
        table.add_column(f"min_significance {value:g}", justify="right")
    for value in sorted({getattr(point.thresholds, name) for point in points}):
        row = {p.thresholds.min_significance: p for p in points if getattr(p.thresholds, name) == value}
        table.add_row(f"{value:g}", *(_cell(row[key], recommendation) for key in across))
    console.print(table)
    print_lines(console, recommendation.reasons)
    if recommendation.options:
        print_lines(console, ["take: " + " ".join(recommendation.options)])


def _cell(point: PointJudgement, recommendation: Recommendation) -> Text:
    best = recommendation.best
    is_best = best is not None and best.thresholds == point.thresholds
    is_now = recommendation.now.thresholds == point.thresholds
    mark = ("*" if is_best else "") + (">" if is_now else "")
    blank = f"{point.false_spots:.1f}" if point.safe_cut else "-"
    return Text(f"{mark}{point.n_hits}, {blank}", style="bold" if mark else "")
