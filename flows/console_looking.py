"""Tables that the commands for looking and tuning print."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.console import print_lines
from ssx_processing.pipeline.find_cell import CellSearch
from ssx_processing.pipeline.recommendation import PointJudgement, Recommendation
from ssx_processing.pipeline.recut import Recut
from ssx_processing.pipeline.tuning_page import varied


@contextmanager
def frames_progress(what: str) -> Iterator[Callable[[int, int], None]]:
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


@contextmanager
def patience() -> Iterator[None]:
    """Say on a terminal, while it lasts, that work is going on and why it may take so long."""
    text = "reading, finding spots (once after an installation also compiling, up to a minute)"
    with Console(stderr=True).status(text):
        yield


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on a terminal, while it lasts, what is being done."""
    with Console(stderr=True).status(what):
        yield


def print_tuning(recommendation: Recommendation) -> None:
    """Print hits and false spots over the grid, and what is recommended."""
    console = Console()
    points = recommendation.points
    name = varied(points)
    across = sorted({point.thresholds.min_significance for point in points})
    table = Table(
        title="hits, and false spots on a blank",
        caption=f"down: {name}; across: min_significance; > as it is now, * recommended",
    )
    table.add_column(name, justify="right")
    for value in across:
        table.add_column(f"{value:g}", justify="right", no_wrap=True)
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


def print_cells(search: CellSearch, n_frames: int) -> None:
    """Print the cells found, the one that indexes most hits first."""
    table = Table(title=f"cells that fit {search.n_hits} hits of {n_frames} frames")
    for heading in ("", "type", "a, b, c, alpha, beta, gamma", "hits", "spots", "f"):
        table.add_column(heading, no_wrap=True)
    for number, proposal in enumerate(search.proposals, start=1):
        table.add_row(
            str(number),
            proposal.lattice,
            " ".join(f"{value:.2f}" for value in proposal.cell),
            f"{proposal.n_frames} = {100 * proposal.share:.0f} %",
            f"{100 * proposal.explained:.0f} %",
            f"{proposal.figure:.2f}",
        )
    console = Console()
    console.print(table)
    notes = [f"{n}: {p.note}" for n, p in enumerate(search.proposals, start=1) if p.note]
    words = "hits: those that a cell explains best; spots: the median share of theirs; f: the product."
    print_lines(console, [words, *notes])


def print_recuts(cuts: Sequence[Recut], used: Recut) -> None:
    """Print what each cut makes of the frames; the one used stands out."""
    with_signal = any(cut.min_signal for cut in cuts)
    table = Table(title=f"{used.n_frames} frames; > the cut used")
    headings = ("spots", *(("photons",) if with_signal else ()), "hits", "rate", "new", "lost", "indexed")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", min_width=10)
    for cut in cuts:
        is_used = (cut.min_spots, cut.min_signal) == (used.min_spots, used.min_signal)
        table.add_row(
            f"{'> ' if is_used else ''}{cut.min_spots}",
            *((f"{cut.min_signal:g}",) if with_signal else ()),
            str(cut.n_hits),
            f"{cut.hit_rate:.1%}",
            str(cut.n_new),
            str(cut.n_lost),
            f"{cut.n_indexed} ({cut.indexing_rate:.0%} of {cut.n_tried})" if cut.n_tried else "0",
            "█" * round(10 * cut.hit_rate),
            style="bold" if is_used else "",
        )
    Console().print(table)
    print_lines(
        Console(),
        ["new: hits that were none, and so were not indexed; lost: hits that would be none any more."],
    )


def recut_sentences(cut: Recut, command: str) -> list[str]:
    """What the cut asked for changes, and what to run for it."""
    lines = [f"{cut.n_hits} of {cut.n_frames} frames would be hits."]
    if cut.n_lost:
        lines.append(f"Lost: {cut.n_lost}, of which {cut.n_lost_indexed} are indexed.")
    if cut.n_new:
        lines.append(
            f"New: {cut.n_new}. They were no hits, so they have not been indexed; how many of them will "
            "index is not known."
        )
    if cut.n_lost or cut.n_new:
        lines += ["To make it so (reads all images again):", f"  {command}"]
    else:
        lines.append("Nothing would change.")
    return lines
