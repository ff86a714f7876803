"""Commands for looking and tuning: one frame, a grid of thresholds, another cut. They need no Prefect."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_input import parse_cell, parse_result, parse_settings
from flows.cli_options import Cell, Geometry, Result, Settings, SpaceGroup, say
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from ssx_processing.pipeline.recut import ProcessedFrames, Recut

looking_app = typer.Typer()

Images = Annotated[list[Path], typer.Argument(help="Images: NXmx masters, CBF, whatever dxtbx reads.")]


@looking_app.command()
def view(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Images: NXmx masters, CBF, whatever dxtbx reads; with --result by default its."),
    ] = None,
    frame: Annotated[int, typer.Option(help="Number of the frame, from 0 over all files.", min=0)] = 0,
    spots: Annotated[bool, typer.Option(help="Circle the spots.")] = True,
    ice: Annotated[bool, typer.Option("--ice", help="Draw where ice has its rings.")] = False,
    lattice: Annotated[
        bool, typer.Option("--lattice", help="Index the frame and draw the predicted reflections.")
    ] = False,
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            help="See it as this result did: its settings, geometry, masks.",
            metavar="GROUP|FOLDER",
        ),
    ] = None,
    cell: Cell = None,
    space_group: SpaceGroup = None,
    out: Annotated[
        Path | None, typer.Option(help="A .html page or a .png picture; by default a page here.")
    ] = None,
    geometry: Geometry = None,
    set_: Settings = None,
) -> None:
    """Show one frame: pixels, spots, rings of resolution, and why it is a hit or not; its lattices."""
    from flows.frame_inputs import FrameRequest, frame_inputs

    request = FrameRequest(
        tuple(files or ()), result, parse_cell(cell), space_group, geometry, parse_settings(set_), lattice
    )
    if out is not None:
        refuse_other_than_page_or_picture(out)
    inputs = frame_inputs(request)
    target = out or Path(f"{inputs.files[0].name.split('.')[0]}_frame{frame}.html")
    refuse_unwritable(target)
    from flows.console_looking import patience
    from ssx_processing.formats.frames import FrameSet

    with patience(), FrameSet(inputs.files, inputs.geometry_file) as frames:
        from ssx_processing.pipeline.frame_view import look_at_frame

        processor = inputs.processor(frames)
        seen = look_at_frame(frames, frame, inputs.spots, processor, lattices=lattice)
    if target.suffix == ".png":
        from ssx_processing.pipeline.frame_picture import write_picture as write
    else:
        from ssx_processing.pipeline.frame_page import write_page as write
    write(seen, target, spots=spots, ice=ice)
    for line in (seen.decision, *(seen.lattices.sentences if seen.lattices else ())):
        say(line)
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
    refuse_unwritable(target)
    from flows.frame_inputs import spot_settings

    settings = spot_settings(parse_settings(set_), files, geometry)
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


@looking_app.command("recut")
def recut_(
    result: Result,
    min_spots: Annotated[int | None, typer.Option(help="Fewest spots of a hit.", min=1)] = None,
    min_signal: Annotated[
        float | None, typer.Option(help="Fewest photons in the spots of a hit.", min=0)
    ] = None,
) -> None:
    """Show what another cut would make of frames already processed; no image is read."""
    group_id, folder = parse_result(result)
    from flows.console_looking import print_recuts, recut_sentences
    from flows.result_folders import folder_of_group
    from ssx_processing.pipeline.recut import ladder, read_processed_frames, recut, run_folders

    processed = read_processed_frames(run_folders(folder or folder_of_group(group_id)))
    spots = processed.settings.spots
    used = recut(processed, spots.min_spots_for_hit, spots.min_signal_for_hit)
    signal = spots.min_signal_for_hit if min_signal is None else min_signal
    wanted = recut(processed, min_spots or spots.min_spots_for_hit, signal)
    is_asked = min_spots is not None or min_signal is not None
    rungs = [] if is_asked else [recut(processed, cut, signal) for cut in ladder(used.min_spots)]
    print_recuts(sorted({*rungs, used, wanted}, key=lambda cut: (cut.min_spots, cut.min_signal)), used)
    if processed.n_unreadable or processed.n_missing_chunks:
        missing = f"{processed.n_missing_chunks} missing chunks"
        say(f"left out: {processed.n_unreadable} unreadable frames, {missing}")
    if is_asked:
        for line in recut_sentences(wanted, process_command(processed, wanted, group_id, folder)):
            say(line)


def refuse_other_than_page_or_picture(target: Path) -> None:
    """Say before the work that its result can only be a page or a picture, and that it cannot be written.

    Raises
    ------
    SettingsError
        The suffix is another, or the place cannot be written.
    """
    if target.suffix not in (".html", ".png"):
        raise SettingsError(f"--out {target}: name a .html page or a .png picture")
    refuse_unwritable(target)


def refuse_unwritable(target: Path) -> None:
    """Say before the work, not after it, that its result cannot be written.

    Raises
    ------
    SettingsError
        There is no such folder, or nothing may be written there, or ``target`` is a folder.
    """
    advice = "name another place with --out"
    if target.is_dir():
        raise SettingsError(f"{target}: is a folder; {advice}")
    if not target.parent.is_dir():
        raise SettingsError(f"{target}: there is no folder {target.parent}; make it, or {advice}")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise SettingsError(f"{target}: may not be written; {advice}")


def process_command(
    processed: "ProcessedFrames", cut: "Recut", group_id: int | None, folder: Path | None
) -> str:
    """Command line that processes with another cut and otherwise the same settings."""
    settings = processed.settings.model_dump(exclude={"sample"}, exclude_defaults=True)
    settings.setdefault("spots", {})["min_spots_for_hit"] = cut.min_spots
    if cut.min_signal or "min_signal_for_hit" in settings["spots"]:
        settings["spots"]["min_signal_for_hit"] = cut.min_signal
    words = ["ssx", "process"]
    if group_id is not None:
        words += ["--group", str(group_id)]
    else:
        sample = processed.settings.sample
        cell = ",".join(f"{value:g}" for value in sample.unit_cell)
        words += [*map(str, processed.paths), "--cell", cell, "--space-group", sample.space_group]
        words += ["--out", str(folder)]
    if processed.geometry_file is not None:
        words += ["--geometry", processed.geometry_file]
    for section, values in settings.items():
        pairs = values.items() if isinstance(values, dict) else [("", values)]
        for name, value in pairs:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words += ["--set", f"{section}.{name}={text}".replace(".=", "=")]
    return shlex.join(words)
