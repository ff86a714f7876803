"""Tables that the ``ssx`` command prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.outcome import Outcome
from flows.result_table import merge_lines, result_rows, reuse_line
from ispyb_io.ledger_records import Chunk, Processing
from ispyb_io.records import Offers

if TYPE_CHECKING:
    from flows.job_look import JobLook
    from flows.looks import GroupLook


def print_outcome(outcome: Outcome, extra: Iterable[tuple[str, str]] = (), *, now: bool = True) -> None:
    """Print the table of a result, what it was made of and where its files are; parameters as below."""
    print_figures(outcome, extra)
    print_origin(outcome, now=now)


def print_figures(outcome: Outcome, extra: Iterable[tuple[str, str]] = ()) -> None:
    """Print the table of a result, which may be before its report is written.

    Parameters
    ----------
    extra
        More rows, name and value.
    """
    table = Table(title=f"{outcome.name}: {outcome.status}", show_header=False)
    for name, value in (*result_rows(outcome), *extra):
        table.add_row(name, value)
    Console().print(table)


def print_origin(outcome: Outcome, *, now: bool = True) -> None:
    """Print what a result was made of and where its files are.

    Parameters
    ----------
    now
        The result was made just now: say what of it was there before.
    """
    console = Console()
    if now:
        print_lines(console, [reuse_line(outcome), *(f"changed: {change}" for change in outcome.changes)])
    print_lines(console, [f"missing: {line}" for line in outcome.merge.missing])
    print_lines(console, [f"note: {line}" for line in outcome.merge.warnings])
    print_lines(console, [f"note: {line}" for line in outcome.notices])
    print_lines(console, merge_lines(outcome.merge))
    print_lines(console, [f"{name}: {value}" for name, value in outcome.facts.items() if value])
    places = [("MTZ", outcome.merge.folder / "merged.mtz"), *(("report", path) for path in outcome.reports)]
    print_places(console, places)
    if outcome.program_ids:
        ids = ", ".join(map(str, outcome.program_ids))
        print_lines(console, [f"ISPyB   AutoProcProgram {ids}"])


def print_places(console: Console, places: Iterable[tuple[str, Path]]) -> None:
    """Print names and paths, never broken: paths are for copying."""
    print_lines(console, [f"{name:7s} {path}" for name, path in places])


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print plain text as it is."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def print_looks(looks: Sequence["GroupLook"]) -> None:
    """Print what the watcher thinks of each group."""
    console = Console()
    for look in looks:
        print_lines(console, [f"group {look.group_id}: {look.verdict}; {look.detail}"])


def print_jobs(jobs: Sequence["JobLook"]) -> None:
    """Print what became of what is asked for in ISPyB."""
    print_lines(Console(), [job.line for job in jobs])


def print_processings(processings: Sequence[Processing], names: Mapping[int, str]) -> None:
    """Print the ledger's processings, with the names of groups by their numbers in the ledger."""
    if not processings:
        print_lines(Console(), ["nothing was processed yet; for results of files: ssx status DIR"])
        return
    table = Table("key", "group", "status", "began", "attempts", "message")
    for p in processings:
        of_ispyb = p.data_collection_group_id
        group = names.get(p.group_id or 0, "") if of_ispyb is None else str(of_ispyb)
        table.add_row(p.key[:8], group, p.status, str(p.started or ""), str(p.attempts), Text(p.message))
    Console().print(table)


def print_provenance(processing: Processing) -> None:
    """Print key, versions and settings of a processing."""
    console = Console()
    versions = ", ".join(f"{name} {version}" for name, version in processing.versions.items())
    lines = [
        f"key     {processing.key}, by {processing.started_by} at {processing.started}",
        f"with    {versions}",
    ]
    for section, values in processing.settings.items():
        if isinstance(values, dict):
            lines += [f"        {section}.{name} = {value}" for name, value in values.items()]
        else:
            lines.append(f"        {section} = {values}")
    print_lines(console, lines)


def print_chunks(chunks: Sequence[Chunk]) -> None:
    """Print the chunks of a processing; people count chunks and images from 1."""
    table = Table("chunk", "images", "status", "tries", "hits", "indexed", "s", "key", "message")
    for c in chunks:
        hits, indexed = (str(c.counts.get(name, "")) for name in ("frame_hits", "frames_indexed"))
        message = f"{c.message} ({c.worker})" if c.message and c.worker else c.message
        seconds = "" if c.seconds is None else f"{c.seconds:.1f}"
        work = (hits, indexed, seconds, c.key[:8])
        table.add_row(str(c.index + 1), c.images, c.status, str(c.attempts), *work, Text(message))
    Console().print(table)


def print_offers(offers: Offers) -> None:
    """Print what a py-ispyb is not told, and why it takes no results if so."""
    console = Console()
    lines = [f"{offers.dialect} {offers.server_version}", *offers.limits]
    lines += [f"problem: {problem}" for problem in offers.problems]
    print_lines(console, lines)
