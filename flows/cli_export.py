"""``ssx export``: a result as files for other programs, for deposition and for a publication."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_input import parse_result
from flows.cli_options import Result, say
from flows.result_folders import folder_of_group
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from ssx_processing.formats.mmcif import Delivery

export_app = typer.Typer()


@export_app.command()
def export(
    result: Result,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="mtz, mmcif, table1, unmerged-mtz, crystfel, dials, all; may be repeated; default: first 3.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the files; older ones of the same name go.")] = Path(),
    free_flags: Annotated[
        Path | None, typer.Option(help="MTZ whose free flags are kept, in place of our own.", metavar="MTZ")
    ] = None,
    delivery: Annotated[
        str | None,
        typer.Option(help="How crystals came into the beam, for mmCIF: fixed-target or injection."),
    ] = None,
) -> None:
    """Write merged or unmerged intensities, statistics and Table 1 for other programs and the PDB."""
    from flows.console_looking import working
    from flows.outcome import CARRIER
    from flows.result_folders import merge_of_result
    from ssx_processing.pipeline.export import DEFAULT, FORMATS, ExportOptions, known_formats
    from ssx_processing.pipeline.export_source import read_export_source

    names = known_formats(format_ or DEFAULT)
    way = parse_delivery(delivery)
    group_id, folder = parse_result(result)
    place = merge_of_result(folder or folder_of_group(group_id))
    options = ExportOptions(free_flags, way, place.facts.get(CARRIER))
    name = f"group-{group_id}" if group_id is not None else place.name
    source = read_export_source(name, place.merged_folder, place.run_folders)
    for warning in source.summary.warnings:
        say(f"note: {warning}")
    for chosen in names:
        kind = FORMATS[chosen]
        with working(f"{chosen}: reading observations" if kind.is_slow else chosen):
            written = kind.write(source, out, options)
        for path in written:
            say(f"{path}  {_size(path)}  {kind.purpose}")


def parse_delivery(text: str | None) -> "Delivery | None":
    """How crystals came into the beam.

    Examples
    --------
    >>> parse_delivery("fixed-target").value
    'fixed target'
    """
    from ssx_processing.formats.mmcif import Delivery

    if text is None:
        return None
    try:
        return Delivery(text.replace("-", " "))
    except ValueError as error:
        raise SettingsError(f"--delivery {text}: expected fixed-target or injection") from error


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
