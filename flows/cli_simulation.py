"""The command that simulates still images."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import Workers, say, start

simulation_app = typer.Typer()


@simulation_app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the images and their truth go.")],
    frames: Annotated[int, typer.Option(help="Frames to simulate.", min=1)] = 200,
    hits: Annotated[float, typer.Option(help="Share of frames with a crystal.", min=0, max=1)] = 0.4,
    seed: Annotated[int, typer.Option(help="Another seed is another chip.", min=0)] = 0,
    name: Annotated[str, typer.Option(help="Start of the file names.")] = "chip",
    workers: Workers = None,
) -> None:
    """Simulate still images with a known answer, as NXmx."""
    site = start(workers)
    from flows.demo import simulation_progress
    from ssx_processing.simulation.chip import simulate_chip
    from ssx_processing.simulation.chip_settings import ChipSettings

    settings = ChipSettings(
        name=name,
        n_frames=frames,
        n_files=min(2, frames),
        hit_fraction=hits,
        seed=seed,
        n_workers=site.n_workers,
    )
    with simulation_progress(settings) as progress:
        chip = simulate_chip(folder, settings, progress)
    say(str(chip.master))
    cell = ",".join(f"{value:g}" for value in chip.sample.unit_cell)
    symmetry = chip.sample.space_group
    say(f"process it: ssx process {chip.master} --cell {cell} --space-group {symmetry} --out DIR")
