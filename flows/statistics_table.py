"""Tables of merging statistics on the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from flows.console import print_lines
from ssx_processing.models import ShellStatistics, UnitCell

COLUMNS = (
    ("observed", "n_observations", 0),
    ("unique", "n_reflections", 0),
    ("compl.", "completeness", 3),
    ("mult.", "multiplicity", 1),
    ("<I/σ>", "mean_i_over_sigma", 1),
    ("Rmerge", "r_merge", 3),
    ("Rmeas", "r_meas", 3),
    ("Rpim", "r_pim", 3),
    ("Rsplit", "r_split", 3),
    ("CC1/2", "cc_half", 3),
    ("CC*", "cc_star", 3),
    ("CCano", "cc_anomalous", 3),
    ("anom.", "anomalous_completeness", 3),
)
"""Heading, attribute of `ShellStatistics`, decimals."""

_LEAST_WIDTH = 132  # characters that a table with all figures takes


@dataclass(frozen=True)
class StatisticsTable:
    """Merging statistics of one source, whatever it was."""

    name: str
    space_group: str
    unit_cell: UnitCell
    shells: tuple[ShellStatistics, ...]
    overall: ShellStatistics
    wilson_b: float
    notes: tuple[str, ...]


def print_statistics(table: StatisticsTable) -> None:
    """Print a row for each shell and one for all; figures that nothing has are left out."""
    console = Console(width=max(Console().width, _LEAST_WIDTH))
    columns = [column for column in COLUMNS if _is_known(column[1], [*table.shells, table.overall])]
    cell = "  ".join(f"{value:.2f}" for value in table.unit_cell)
    grid = Table(title=f"{table.name}: {table.space_group}  {cell}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Å", *(heading for heading, _, _ in columns)):
        grid.add_column(heading, justify="right", no_wrap=True)
    for shell in table.shells:
        grid.add_row(_limits(shell), *(figure(shell, name, n) for _, name, n in columns))
    grid.add_section()
    overall = table.overall
    grid.add_row(_limits(overall), *(figure(overall, name, n) for _, name, n in columns))
    console.print(grid)
    lines = [f"Wilson B {number(table.wilson_b, 1)} Å²", *(f"note: {note}" for note in table.notes)]
    print_lines(console, lines)


def print_side_by_side(tables: Sequence[StatisticsTable]) -> None:
    """Print the overall figures of all sources: one row for each figure, one column for each source."""
    grid = Table("", title="all shells")
    for table in tables:
        grid.add_column(table.name, justify="right")
    overall = [table.overall for table in tables]
    grid.add_row("Å", *map(_limits, overall))
    for heading, name, decimals in COLUMNS:
        if _is_known(name, overall):
            grid.add_row(heading, *(figure(one, name, decimals) for one in overall))
    grid.add_row("Wilson B", *(number(table.wilson_b, 1) for table in tables))
    Console().print(grid)


def _is_known(name: str, shells: Sequence[ShellStatistics]) -> bool:
    return any(np.isfinite(getattr(shell, name)) for shell in shells)


def _limits(shell: ShellStatistics) -> str:
    return f"{shell.d_max:.2f}-{shell.d_min:.2f}"


def figure(shell: ShellStatistics, name: str, decimals: int) -> str:
    """One figure of a shell; CC1/2 with its standard error in units of the last digit."""
    text, error = number(getattr(shell, name), decimals), shell.cc_half_error
    if name == "cc_half" and np.isfinite(error):
        text += f"({error * 10**decimals:.0f})"
    return text


def number(value: float, decimals: int) -> str:
    """Number for people; a dash where there is none.

    Examples
    --------
    >>> number(0.98765, 3), number(float("nan"), 3), number(44953, 0)
    ('0.988', '-', '44953')
    """
    return f"{value:.{decimals}f}" if np.isfinite(value) else "-"
