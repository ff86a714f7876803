"""The command that prints merging statistics of unmerged files and of results. It needs no Prefect."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_input import parse_result
from flows.cli_options import say

if TYPE_CHECKING:
    from flows.statistics_table import StatisticsTable

statistics_app = typer.Typer()


@statistics_app.command()
def statistics(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Unmerged .mtz files, ids of groups, folders of results.", metavar="FILE.mtz|GROUP|FOLDER..."
        ),
    ],
    anomalous: Annotated[
        bool, typer.Option("--anomalous", help="Friedel mates are different reflections; files only.")
    ] = False,
    shells: Annotated[int, typer.Option(help="Resolution shells, of equal volume; files only.", min=1)] = 10,
    d_min: Annotated[
        float | None, typer.Option(help="Highest resolution in Å; files only. By default all there is.")
    ] = None,
) -> None:
    """Print merging statistics by resolution; of several sources also side by side."""
    from flows.permissions import check_files
    from flows.settings import SiteSettings
    from flows.statistics_table import print_side_by_side, print_statistics

    files = [source for source in sources if source.lower().endswith(".mtz")]
    check_files(SiteSettings(), None, others=map(Path, files))
    limits = _common_limits(files, d_min) if len(files) > 1 else (None, d_min)
    tables = [
        _of_file(Path(source), anomalous, shells, limits) if source in files else _of_result(source)
        for source in sources
    ]
    for table in tables:
        print_statistics(table)
    if len(tables) > 1:
        print_side_by_side(tables)
        if len(files) > 1:
            say("files are compared over the resolution that all of them reach")


def _common_limits(files: Sequence[str], d_min: float | None) -> tuple[float, float]:
    """Resolution in Å that all files reach, at both ends."""
    from ssx_processing.pipeline.repeat_statistics import resolution_of_file

    lowest, highest = zip(*(resolution_of_file(Path(file)) for file in files), strict=True)
    return min(lowest), max([*highest, d_min or 0.0])


def _of_file(
    path: Path, anomalous: bool, n_shells: int, limits: tuple[float | None, float | None]
) -> "StatisticsTable":
    from flows.statistics_table import StatisticsTable
    from ssx_processing.pipeline.repeat_statistics import statistics_of_file

    d_max, d_min = limits
    found = statistics_of_file(path, apart=anomalous, n_shells=n_shells, d_max=d_max, d_min=d_min)
    return StatisticsTable(
        found.name,
        found.space_group,
        found.unit_cell,
        found.shells,
        found.overall,
        found.wilson_b,
        found.notes,
    )


def _of_result(source: str) -> "StatisticsTable":
    from flows.outcome import read_outcome
    from flows.result_folders import folder_of_group
    from flows.statistics_table import StatisticsTable

    group_id, folder = parse_result(source)
    outcome = read_outcome(folder or folder_of_group(group_id))
    merge = outcome.merge
    return StatisticsTable(
        outcome.name, merge.space_group, merge.unit_cell, merge.shells, merge.overall, merge.wilson_b, ()
    )
