"""``ssx cells``: the cells that fit some frames, for crystals of which nobody knows it. Needs no Prefect."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_input import parse_settings
from flows.cli_looking import Images, refuse_unwritable
from flows.cli_options import Geometry, Settings, say
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from ssx_processing.settings import RequestedSettings

cells_app = typer.Typer()


@cells_app.command()
def cells(
    files: Images,
    frames: Annotated[int, typer.Option(help="Frames to look at, spread evenly.", min=10)] = 300,
    min_edge: Annotated[float, typer.Option(help="Å; shortest edge of the primitive cell.", min=5)] = 20.0,
    max_edge: Annotated[float, typer.Option(help="Å; longest edge of the primitive cell.", min=30)] = 350.0,
    out: Annotated[
        Path | None, typer.Option(help="The .html page with the plots; by default a page here.")
    ] = None,
    geometry: Geometry = None,
    set_: Settings = None,
) -> None:
    """Find the unit cell: proposals with lattice type, share of hits, and the command to use them."""
    target = out or Path(f"{files[0].name.split('.')[0]}_cells.html")
    if target.suffix != ".html":
        raise SettingsError(f"--out {target}: name a .html page")
    refuse_unwritable(target)
    settings = settings_of_search(
        files, geometry, set_, n_frames=frames, min_edge=min_edge, max_edge=max_edge
    )
    from flows.console_looking import frames_progress, print_cells
    from ssx_processing.formats.frames import FrameSet
    from ssx_processing.pipeline.cell_frames import spots_of_hits
    from ssx_processing.pipeline.cells_page import process_options, write_cells_page
    from ssx_processing.pipeline.find_cell import find_cells
    from ssx_processing.pipeline.sample import why_none

    with FrameSet(files, geometry) as opened, frames_progress("finding spots") as progress:
        seen = spots_of_hits(opened, settings, progress)
    with frames_progress("seeking cells") as progress:
        search = find_cells(
            seen.hits, seen.s0, seen.sigma_q, min_edge=min_edge, max_edge=max_edge, progress=progress
        )
    if not search.proposals:
        raise SettingsError(f"{files[0]}: no cell found; {why_none(search)}")
    print_cells(search, seen.n_frames)
    commands = [command(files, geometry, set_, process_options(proposal)) for proposal in search.proposals]
    say("process with the first:")
    say(f"  {commands[0]}")
    say(str(write_cells_page(target, files, search, seen.n_frames, commands)))


def command(files: list[Path], geometry: Path | None, set_: list[str] | None, options: list[str]) -> str:
    """Command line that processes the files with a cell found."""
    words = ["ssx", "process", *map(str, files), *options]
    if geometry is not None:
        words += ["--geometry", str(geometry)]
    for text in set_ or ():
        words += ["--set", text]
    return f"{shlex.join(words)} --out DIR"


def settings_of_search(
    files: list[Path], geometry_file: Path | None, texts: list[str] | None, **cells: float
) -> "RequestedSettings":
    """Settings as for processing: defaults, the geometry file's, the site's, those of the command line."""
    from flows.job import ProcessRequest, processing_settings
    from flows.job_of_request import settings_of_geometry
    from flows.permissions import check_files
    from flows.settings import SiteSettings

    check_files(SiteSettings(), None, files, geometry_file=geometry_file)

    given = parse_settings(texts)
    given["cells"] = {**cells, **given.get("cells", {})}
    request = ProcessRequest(
        files=tuple(files), folder=Path(), settings=given, geometry_file=geometry_file or None
    )
    return processing_settings(SiteSettings(), request, None, None, settings_of_geometry(request, files))
