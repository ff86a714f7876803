"""Small pieces of HTML. Every text that comes in is escaped here, and only here and in `PlotWriter`."""

import html
import math
from collections.abc import Iterable, Sequence

from ssx_processing.pipeline.report_words import WORDS

UNKNOWN = "–"


def number(value: float | None, decimals: int = 2) -> str:
    """A number, or a dash where there is none.

    Examples
    --------
    >>> number(1.005, 1), number(float("nan")), number(None)
    ('1.0', '–', '–')
    """
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def share(part: int, whole: int) -> str:
    """Percentage with its denominator in sight.

    Examples
    --------
    >>> share(1, 4), share(0, 0)
    ('25.0 % of 4', '– of 0')
    """
    return f"{100 * part / whole:.1f} % of {whole}" if whole else f"{UNKNOWN} of 0"


def tile(name: str, value: str, note: str = "", *, css: str = "") -> str:
    """A headline number; what it means shows on hovering."""
    word = WORDS[name]
    small = f"<small>{html.escape(note)}</small>" if note else ""
    return (
        f'<div class="tile {css}" title="{html.escape(word.tooltip)}"><dt>{html.escape(word.label)}'
        f" <code>{html.escape(name)}</code></dt><dd>{html.escape(value)}{small}</dd></div>"
    )


def heading(name: str) -> str:
    """Column heading of a known number, with what it means on hovering."""
    word = WORDS[name]
    return f'<th scope="col" title="{html.escape(word.tooltip)}"><abbr>{html.escape(word.label)}</abbr></th>'


def plain_heading(text: str) -> str:
    """Column heading."""
    return f'<th scope="col">{html.escape(text)}</th>'


def row(cells: Sequence[str], *, css: str = "", first_is_text: bool = False) -> str:
    """Table row; all cells but perhaps the first are aligned as numbers."""
    kind = f' class="{css}"' if css else ""
    texts = [
        f"<td{' class=text' if i == 0 and first_is_text else ''}>{html.escape(c)}</td>"
        for i, c in enumerate(cells)
    ]
    return f"<tr{kind}>{''.join(texts)}</tr>"


def text_row(cells: Sequence[str]) -> str:
    """Table row of texts, which may be long."""
    return f"<tr>{''.join(f'<td class=text>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def table(headings: Iterable[str], rows: Iterable[str], *, css: str = "") -> str:
    """Table from headings and rows that are HTML already; scrolls sideways where it is too wide."""
    kind = f' class="{css}"' if css else ""
    head = f"<thead><tr>{''.join(headings)}</tr></thead>"
    return f'<div class="scroll"><table{kind}>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    lines = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs]
    return f'<dl class="facts">{"".join(lines)}</dl>'


def items(lines: Iterable[str]) -> str:
    """List of sentences."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def folded(title: str, inside: str) -> str:
    """HTML that shows when its title is clicked."""
    return f"<details><summary>{html.escape(title)}</summary>{inside}</details>"


def section(anchor: str, title: str, *parts: str) -> str:
    """Section with a heading; parts are HTML."""
    return f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{"".join(parts)}</section>'


def paragraph(text: str) -> str:
    """Paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"
