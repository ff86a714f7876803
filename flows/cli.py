"""The ``ssx`` command.

What needs Prefect is imported inside the commands, after its environment is prepared; this also
keeps ``ssx --help`` fast.
"""

import gc
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_cells import cells_app
from flows.cli_diff import diff_app
from flows.cli_events import events_app
from flows.cli_export import export_app
from flows.cli_geometry import geometry_app
from flows.cli_groups import groups_app
from flows.cli_input import parse_cell, parse_result, parse_settings
from flows.cli_ispyb import ispyb_app
from flows.cli_looking import looking_app
from flows.cli_metrics import metrics_app
from flows.cli_notify import notify_app
from flows.cli_options import (
    DEBUG,
    Cell,
    CellCluster,
    Geometry,
    Group,
    Result,
    Settings,
    SpaceGroup,
    Workers,
    bind,
    say,
    start,
)
from flows.cli_retry import retry_app
from flows.cli_simulation import simulation_app
from flows.cli_statistics import statistics_app
from flows.cli_watch import watch_app
from flows.unfinished import unfinished_shown

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serial crystallography: from ISPyB's records, or from images, to merged intensities.",
)
app.add_typer(ispyb_app, name="ispyb")
app.add_typer(groups_app, name="groups")
app.add_typer(watch_app)
app.add_typer(retry_app)
app.add_typer(diff_app)
app.add_typer(notify_app)
app.add_typer(metrics_app)
app.add_typer(looking_app)
app.add_typer(cells_app)
app.add_typer(events_app)
app.add_typer(geometry_app)
app.add_typer(statistics_app)
app.add_typer(export_app)
app.add_typer(simulation_app)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show Prefect's log, and errors with their traceback.")
    ] = False,
    proposal: Annotated[
        str | None,
        typer.Option("--proposal", help="See and process nothing but this proposal's.", metavar="NAME"),
    ] = None,
) -> None:
    """Options of all commands."""
    if debug:
        os.environ[DEBUG] = "1"
    if proposal is not None:
        bind(proposal)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Everything of the demonstration goes here.")] = Path("demo"),
    frames: Annotated[int, typer.Option(help="Frames to simulate.", min=10)] = 2000,
    workers: Workers = None,
) -> None:
    """Simulate a chip, put it into an embedded ISPyB, let the watcher find and process it."""
    from flows import demo as demonstration

    where = demonstration.DemoFolder(folder.resolve())
    where.use()
    site = start(workers)
    from ssx_processing.simulation.chip_settings import ChipSettings

    chip = demonstration.make_demo(where, ChipSettings(n_frames=frames, n_workers=site.n_workers))
    say(f"{'simulated before' if chip.reused else 'simulated'}: {frames} frames in {where.raw}")
    from flows.watch import run_watch

    with unfinished_shown():
        looks = run_watch(site)
    demonstration.print_demo(where, chip, looks)


@app.command("process")
def process_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Images: NXmx masters, CBF, whatever dxtbx reads; or CrystFEL streams."),
    ] = None,
    group: Group = None,
    cell: Cell = None,
    space_group: SpaceGroup = None,
    cell_cluster: CellCluster = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; for files required.")] = None,
    geometry: Geometry = None,
    set_: Settings = None,
    workers: Workers = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Begin it however long it will take; see SSX_CONFIRM_CPU_HOURS.")
    ] = False,
) -> None:
    """Process images, or a data collection group of ISPyB, now."""
    site = start(workers)
    from flows.databases import open_databases
    from flows.job import ProcessRequest
    from flows.job_of_request import find_job, job_of_files
    from flows.planning import check_files

    request = ProcessRequest(
        group_id=group,
        files=tuple(path.absolute() for path in files or ()),
        unit_cell=parse_cell(cell),
        space_group=space_group,
        cell_cluster=cell_cluster or 1,
        settings=parse_settings(set_),
        folder=out.absolute() if out else None,
        geometry_file=geometry.absolute() if geometry else None,
        confirmed=yes,
    )
    # before Prefect takes its time to start
    if request.files:
        check_files(job_of_files(request, site), site)
    else:
        with open_databases(site) as databases:
            check_files(find_job(request, site, databases), site)
    from flows.console import print_outcome
    from flows.process import run_process

    with unfinished_shown():
        print_outcome(run_process(request, site))


@app.command("merge")
def merge_(result: Result, cell_cluster: CellCluster = None, set_: Settings = None) -> None:
    """Merge again what is processed, with other merging settings; no image is read."""
    start(None)
    from flows.console import print_figures, print_origin
    from flows.merge import MergeRequest, run_merge
    from flows.outcome import UnfinishedResultError

    is_name = not result.isdigit() and not Path(result).exists() and "/" not in result
    group_id, folder = (None, None) if is_name else parse_result(result)
    settings = parse_settings(set_)
    if cell_cluster is not None:
        settings.setdefault("merging", {})["cell_cluster"] = cell_cluster
    request = MergeRequest(
        group_id=group_id, group_name=result if is_name else None, folder=folder, settings=settings
    )
    try:
        print_origin(run_merge(request, print_figures))
    except UnfinishedResultError as error:
        print_origin(error.outcome)
        raise


@app.command()
def status(
    folder: Annotated[Path | None, typer.Argument(help="Results of files; by default the site's.")] = None,
) -> None:
    """List what was processed and how it ended."""
    site = start(None)
    from flows.console import print_processings
    from flows.databases import open_databases
    from flows.permissions import check_files
    from flows.replay import outbox_line

    check_files(site, None, others=[folder] if folder else ())
    with open_databases(site, folder, create=folder is None) as databases:
        processings = databases.ledger.processings()
        is_grouped = any(processing.group_id is not None for processing in processings)
        groups = databases.ledger.groups() if is_grouped else []
        print_processings(processings, {group.group_id: group.name for group in groups})
        line = outbox_line(databases.outbox) if databases.outbox else ""
    if line:
        say(line)


@app.command()
def show(result: Result) -> None:
    """Show a result: counts and statistics, settings, chunks."""
    site = start(None)
    from flows.console import print_chunks, print_outcome, print_provenance
    from flows.databases import open_databases, processing_of
    from flows.outcome import read_outcome

    group_id, folder = parse_result(result)
    with open_databases(site, folder, create=folder is None) as databases:
        processing = processing_of(databases.ledger, group_id, folder)
        outcome = replace(read_outcome(processing.folder), program_ids=processing.program_ids)
        print_outcome(outcome, now=False)
        print_provenance(processing)
        print_chunks(databases.ledger.chunks(processing.key))


@app.command()
def report(result: Result) -> None:
    """Write the HTML report of a result again and say where it is."""
    site = start(None)
    from flows.databases import open_databases, processing_of
    from flows.outcome import read_outcome
    from ssx_processing.pipeline.report import write_report

    group_id, folder = parse_result(result)
    with open_databases(site, folder, create=folder is None) as databases:
        outcome = read_outcome(processing_of(databases.ledger, group_id, folder).folder)
    for run_folder, page in outcome.pages:
        say(str(write_report(run_folder, outcome.merge.folder, facts=outcome.facts, page=page)))


@app.command()
def ui(
    folder: Annotated[Path | None, typer.Option(help="Folder of a demonstration.")] = None,
) -> None:
    """Serve the Prefect UI of the runs made here, until interrupted."""
    if folder is not None:
        os.environ["SSX_DATA_HOME"] = str(folder.absolute())
    start(None)
    port = os.environ.setdefault("PREFECT_SERVER_API_PORT", "4200")
    os.environ["PREFECT_SERVER_LOGGING_LEVEL"] = "WARNING"
    say(f"http://127.0.0.1:{port}  (end with Ctrl-C)")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    os.execv(sys.executable, command)  # noqa: S606


def main() -> None:
    """Run the command; every error is one line on stderr and exit status 1."""
    gc.set_threshold(500_000)  # else a tenth of the time of imports goes into looking for what can be freed
    try:
        app()
    except Exception as error:
        if DEBUG in os.environ:
            raise
        from flows.messages import one_line

        sys.exit(f"ssx: {one_line(error)}")
