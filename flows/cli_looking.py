"""Commands for looking and tuning: one frame, a grid of thresholds, another cut. They need no Prefect."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_input import parse_settings
from flows.cli_options import Geometry, Settings, say
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from ssx_processing.settings import SpotSettings

looking_app = typer.Typer()

Images = Annotated[list[Path], typer.Argument(help="Images: NXmx masters, CBF, whatever dxtbx reads.")]


@looking_app.command()
def view(
    files: Images,
    frame: Annotated[int, typer.Option(help="Number of the frame, from 0 over all files.", min=0)] = 0,
    spots: Annotated[bool, typer.Option(help="Circle the spots.")] = True,
    ice: Annotated[bool, typer.Option("--ice", help="Draw where ice has its rings.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A .html page or a .png picture; by default a page here.")
    ] = None,
    geometry: Geometry = None,
    set_: Settings = None,
) -> None:
    """Show one frame: pixels, spots, rings of resolution, and why it is a hit or not."""
    target = out or Path(f"{files[0].name.split('.')[0]}_frame{frame}.html")
    if target.suffix not in (".html", ".png"):
        raise SettingsError(f"--out {target}: name a .html page or a .png picture")
    settings = spot_settings(set_, files, geometry)
    from ssx_processing.formats.frames import FrameSet
    from ssx_processing.pipeline.frame_view import look_at_frame

    with FrameSet(files, geometry) as frames:
        seen = look_at_frame(frames, frame, settings)
    if target.suffix == ".png":
        from ssx_processing.pipeline.frame_picture import write_picture as write
    else:
        from ssx_processing.pipeline.frame_page import write_page as write
    write(seen, target, spots=spots, ice=ice)
    say(seen.decision)
    say(str(target))


@looking_app.command()
def tune(
    files: Images,
    frames: Annotated[int, typer.Option(help="Frames to look at, spread evenly.", min=10)] = 200,
    out: Annotated[
        Path | None, typer.Option(help="The .html page with the plots; by default a page here.")
    ] = None,
    geometry: Geometry = None,
    set_: Settings = None,
) -> None:
    """Try a grid of thresholds on some frames and recommend one, with the cut for hits."""
    target = out or Path(f"{files[0].name.split('.')[0]}_tuning.html")
    if target.suffix != ".html":
        raise SettingsError(f"--out {target}: name a .html page")
    settings = spot_settings(set_, files, geometry)
    from flows.console_looking import frames_progress, print_tuning
    from ssx_processing.formats.frames import FrameSet
    from ssx_processing.pipeline.recommendation import recommend
    from ssx_processing.pipeline.tuning import scan_thresholds
    from ssx_processing.pipeline.tuning_page import write_tuning_page

    with FrameSet(files, geometry) as opened, frames_progress("finding spots") as progress:
        scan = scan_thresholds(opened, settings, frames, progress)
    recommendation = recommend(scan)
    print_tuning(recommendation)
    say(str(write_tuning_page(target, files, scan, recommendation)))


def spot_settings(texts: list[str] | None, files: list[Path], geometry_file: Path | None) -> "SpotSettings":
    """Settings of the spots: defaults, those of the geometry file, the site's, those of the command line.

    Raises
    ------
    SettingsError
        A setting is named that has nothing to do with spots.
    """
    given = parse_settings(texts)
    others = [name for name in given if name != "spots"]
    if others:
        raise SettingsError(f"--set {others[0]}: has no say here, only settings of spots, spots.NAME=VALUE")
    from pydantic import TypeAdapter

    from flows.job import merged_mappings
    from flows.settings import SiteSettings
    from ssx_processing.formats.geometry_file import read_geometry
    from ssx_processing.settings import SpotSettings

    gain = read_geometry(geometry_file, files[0]).gain if geometry_file else None
    of_geometry: dict[str, Any] = {} if gain is None else {"gain": gain}
    of_site = merged_mappings(of_geometry, SiteSettings().processing.get("spots", {}))
    merged = merged_mappings({"spots": of_site}, given)
    return TypeAdapter(dict[str, SpotSettings]).validate_python(merged)["spots"]
