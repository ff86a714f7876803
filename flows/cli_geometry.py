"""The command that hands on the geometry of a result. It needs no Prefect."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_input import parse_result
from flows.cli_looking import refuse_unwritable
from flows.cli_options import Result, say
from flows.result_folders import folder_of_group
from ssx_processing.errors import SettingsError

geometry_app = typer.Typer()


@geometry_app.command()
def geometry(
    result: Result,
    out: Annotated[Path, typer.Option(help="A .expt file for DIALS, or a .geom file for CrystFEL.")] = Path(
        "refined.expt"
    ),
) -> None:
    """Write the geometry that a result was processed with, for --geometry, DIALS or CrystFEL."""
    from ssx_processing.pipeline.geometry_export import SUFFIXES, write_geometry
    from ssx_processing.pipeline.processed_run import read_processed_run
    from ssx_processing.pipeline.recut import run_folders

    if out.suffix not in SUFFIXES:
        raise SettingsError(f"--out {out}: name a file that ends in {' or '.join(SUFFIXES)}")
    refuse_unwritable(out)
    group_id, folder = parse_result(result)
    runs = [read_processed_run(run) for run in run_folders(folder or folder_of_group(group_id))]
    for run in runs:
        target = out if len(runs) == 1 else out.with_stem(f"{out.stem}-{run.folder.name}")
        known = run.calibration
        written = write_geometry(
            target,
            known.geometry,
            bad_pixels=known.bad_pixels,
            saturation=known.saturation,
            underload=known.underload,
            images=run.paths[0],
            geometry_file=run.geometry_file,
            gain=run.settings.spots.gain,
        )
        say(str(written))
