"""Table 1 of a publication, from the lattices that were merged: text, Markdown, LaTeX."""

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gemmi
import pandas as pd

from ssx_processing.formats.mmcif import symbol_of_the_pdb
from ssx_processing.models import MergeSummary, ShellStatistics, UnitCell
from ssx_processing.pipeline.cell_spread import cell_spread, with_spread

FOOTNOTE = (
    "Values in parentheses are for the outer shell. Cell: median over the merged lattices and, in "
    "parentheses, their standard deviation in units of the last digit. CC_{1/2}, CC* and R_{split}: "
    "half sets of lattices."
)
"""Below the table; with the markup of `Row`."""


@dataclass(frozen=True)
class Row:
    """A line of the table; ``_{x}`` is a subscript, ``^{x}`` a superscript."""

    label: str
    value: str


def table_one(summary: MergeSummary, lattices: pd.DataFrame, wavelength: float) -> list[Row]:
    """Rows of the table.

    Parameters
    ----------
    lattices
        lattices.parquet of the merge.
    wavelength
        Å.
    """
    return [
        Row("Wavelength (Å)", f"{wavelength:.4f}"),
        Row("Space group", space_group_markup(summary.space_group)),
        *_cell_rows(summary.unit_cell, cell_spread(lattices)),
        *_count_rows(summary),
        *_statistics_rows(summary),
    ]


def _cell_rows(unit_cell: UnitCell, spread: Sequence[float]) -> list[Row]:
    words = [with_spread(value, sd, 2) for value, sd in zip(unit_cell, spread, strict=True)]
    return [Row("a, b, c (Å)", ", ".join(words[:3])), Row("α, β, γ (°)", ", ".join(words[3:]))]


def _count_rows(summary: MergeSummary) -> list[Row]:
    counts = summary.counts
    return [
        Row("Frames collected", f"{counts.frames_total}"),
        Row("Hits (% of frames)", f"{counts.frame_hits} ({100 * counts.hit_rate:.1f})"),
        Row("Indexed frames (% of hits)", f"{counts.frames_indexed} ({100 * counts.indexing_rate:.1f})"),
        Row("Lattices indexed", f"{counts.lattices_indexed}"),
        Row("Lattices merged", f"{summary.lattices_merged}"),
    ]


def _statistics_rows(summary: MergeSummary) -> list[Row]:
    overall, outer = summary.overall, summary.shells[-1]

    def both(label: str, word: Callable[[ShellStatistics], str]) -> Row:
        return Row(label, f"{word(overall)} ({word(outer)})")

    return [
        both("Resolution (Å)", lambda shell: f"{shell.d_max:.2f}–{shell.d_min:.2f}"),
        both("Observations", lambda shell: f"{shell.n_observations}"),
        both("Unique reflections", lambda shell: f"{shell.n_reflections}"),
        both("Completeness (%)", lambda shell: _number(100 * shell.completeness, 1)),
        both("Multiplicity", lambda shell: _number(shell.multiplicity, 1)),
        both("⟨I/σ(I)⟩", lambda shell: _number(shell.mean_i_over_sigma, 1)),
        both("CC_{1/2}", lambda shell: _number(shell.cc_half, 3)),
        both("CC*", lambda shell: _number(shell.cc_star, 3)),
        both("R_{split} (%)", lambda shell: _number(100 * shell.r_split, 1)),
        *_where_known(overall, outer),
        Row("Wilson B (Å^{2})", _number(summary.wilson_b, 1)),
    ]


_MORE = (
    ("R_{meas} (%)", "r_meas", 100, 1),
    ("R_{pim} (%)", "r_pim", 100, 1),
    ("CC_{anom}", "cc_anomalous", 1, 3),
    ("Anomalous completeness (%)", "anomalous_completeness", 100, 1),
)
"""Statistics that not every result has: label, attribute, factor, decimals."""


def _where_known(overall: ShellStatistics, outer: ShellStatistics) -> list[Row]:
    rows = []
    for label, name, factor, decimals in _MORE:
        values = [factor * getattr(shell, name, math.nan) for shell in (overall, outer)]
        if math.isfinite(values[0]):
            words = [_number(value, decimals) for value in values]
            rows.append(Row(label, f"{words[0]} ({words[1]})"))
    return rows


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def space_group_markup(space_group: str) -> str:
    """Symbol with its screw axes as subscripts, without the 1s of a monoclinic full symbol.

    Examples
    --------
    >>> [space_group_markup(name) for name in ("P43212", "P 1 21 1", "C121", "P6322", "P 31 2 1", "H 3 2")]
    ['P4_{3}2_{1}2', 'P2_{1}', 'C2', 'P6_{3}22', 'P3_{1}21', 'H32']
    """
    group = gemmi.find_spacegroup_by_name(space_group)
    if group is None:
        return space_group
    first, *axes = symbol_of_the_pdb(group).split()
    if group.crystal_system_str() == "monoclinic":
        axes = [axis for axis in axes if axis != "1"]
    return first + "".join(re.sub(r"^(\d)(\d)$", r"\1_{\2}", axis) for axis in axes)


def as_text(rows: Sequence[Row]) -> str:
    """Two columns, for reading and for spreadsheets that split at wide gaps."""
    width = max(len(_plain(row.label)) for row in rows) + 3
    lines = [f"{_plain(row.label):<{width}}{_plain(row.value)}" for row in rows]
    return "\n".join([*lines, "", _plain(FOOTNOTE), ""])


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of GitHub's and Pandoc's Markdown."""
    lines = [f"| {_markdown(row.label)} | {_markdown(row.value)} |" for row in rows]
    return "\n".join(["| | |", "|---|---|", *lines, "", _markdown(FOOTNOTE), ""])


def as_latex(rows: Sequence[Row]) -> str:
    """A LaTeX tabular with booktabs' rules."""
    lines = [f"{_latex(row.label)} & {_latex(row.value)} \\\\" for row in rows]
    head = ["% needs \\usepackage{booktabs}", "\\begin{tabular}{ll}", "\\toprule"]
    return "\n".join([*head, *lines, "\\bottomrule", "\\end{tabular}", "", f"% {_latex(FOOTNOTE)}", ""])


def _plain(text: str) -> str:
    return re.sub(r"[_^]\{(.*?)\}", r"\1", text.replace("^{2}", "²"))


def _markdown(text: str) -> str:
    escaped = re.sub(r"([*|])", r"\\\1", html.escape(text, quote=False))
    return re.sub(r"\^\{(.*?)\}", r"<sup>\1</sup>", re.sub(r"_\{(.*?)\}", r"<sub>\1</sub>", escaped))


_LATEX_OF = {
    "%": r"\%",
    "Å": r"\AA{}",
    "°": r"$^\circ$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "σ": r"$\sigma$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "*": r"$^*$",
    "–": "--",
}


def _latex(text: str) -> str:
    for character, command in _LATEX_OF.items():
        text = text.replace(character, command)
    return re.sub(r"([_^])\{(.*?)\}", r"$\1{\\mathrm{\2}}$", text)
