"""A picture for Prefect's pages: what each chunk gave, how far the data go.

The pages show images but run no scripts, so the report's plots cannot stand there.
"""

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from ispyb_io.ledger_records import Chunk
from ssx_processing.models import ShellStatistics
from ssx_processing.pipeline.report_colours import BLUE, GREEN, GRID, INK, ORANGE, RED

WIDTH, HEIGHT, MARGIN, BOTTOM = 380, 220, 44, 40
STEPS = (1, 2, 5)


def summary_image(chunks: Sequence[Chunk], shells: Sequence[ShellStatistics]) -> str:
    """Markdown of an image (SVG) with rates over the chunks and statistics over the shells.

    Parameters
    ----------
    chunks
        None, as of a merge alone: the first plot is left out.
    """
    plots = [plot for plot in (list(_rates(chunks)), list(_shells(shells))) if plot]
    if not plots:
        return ""
    parts = [f'<g transform="translate({WIDTH * i},0)">{"".join(plot)}</g>' for i, plot in enumerate(plots)]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(plots)}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )
    return f"![rates and statistics](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _rates(chunks: Sequence[Chunk]) -> Iterator[str]:
    """Bars: fraction of hits, and of indexed frames, of each chunk; a failed one is red."""
    if not chunks:
        return
    n = len(chunks)
    hits = [_rate(chunk, "frame_hits") for chunk in chunks]
    top = _ceiling(max(hits))
    y = _axis_y(top)
    yield from _frame("hits (orange) and indexed (blue) of all frames", top, percent=True)
    step = (WIDTH - MARGIN - 12) / n
    for i, chunk in enumerate(chunks):
        x, width = MARGIN + i * step, max(0.8 * step, 0.5)
        if not chunk.status.has_result:
            yield _bar(x, y(top), width, y(0), RED, opacity=0.5)
            continue
        yield _bar(x, y(hits[i]), width, y(0), ORANGE)
        yield _bar(x, y(_rate(chunk, "frames_indexed")), width, y(0), BLUE)
    for i in sorted({0, n // 2, n - 1}):
        yield _text(MARGIN + (i + 0.4) * step, HEIGHT - BOTTOM + 14, str(chunks[i].index + 1))
    yield _text((WIDTH + MARGIN) / 2, HEIGHT - 8, "chunk" + _failed(chunks))


def _failed(chunks: Sequence[Chunk]) -> str:
    n = sum(not chunk.status.has_result for chunk in chunks)
    return f" ({n} failed: red)" if n else ""


def _shells(shells: Sequence[ShellStatistics]) -> Iterator[str]:
    """Lines: CC1/2 and completeness by resolution."""
    if not shells:
        return
    y = _axis_y(1.0)
    yield from _frame("CC1/2 (blue) and completeness (green)", 1.0)
    step = (WIDTH - MARGIN - 24) / max(len(shells) - 1, 1)
    for name, colour in (("completeness", GREEN), ("cc_half", BLUE)):
        values = [getattr(shell, name) for shell in shells]
        points = [
            (MARGIN + 8 + i * step, y(min(max(value, 0.0), 1.0)))
            for i, value in enumerate(values)
            if not math.isnan(value)
        ]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>' for a, b in points)
    for i in sorted({0, len(shells) // 3, 2 * len(shells) // 3, len(shells) - 1}):
        yield _text(MARGIN + 8 + i * step, HEIGHT - BOTTOM + 14, f"{shells[i].d_min:.2f}")
    yield _text((WIDTH + MARGIN) / 2, HEIGHT - 8, "resolution of the shell's end, Å")


def _rate(chunk: Chunk, name: str) -> float:
    return chunk.counts.get(name, 0) / max(chunk.stop - chunk.start, 1)


def _ceiling(value: float) -> float:
    """Next of 1, 2, 5 times a power of ten, at most 1.

    Examples
    --------
    >>> _ceiling(0.31), _ceiling(0.07), _ceiling(0.6), _ceiling(0.0)
    (0.5, 0.1, 1.0, 0.005)
    """
    value = max(value, 0.005)
    power = 10.0 ** math.floor(math.log10(value))
    return min(round(next((s * power for s in STEPS if s * power >= value), 10 * power), 6), 1.0)


def _axis_y(top: float) -> Callable[[float], float]:
    """Height on the page of a value."""
    return lambda value: 24 + (HEIGHT - BOTTOM - 24) * (1 - value / top)


def _frame(title: str, top: float, *, percent: bool = False) -> Iterator[str]:
    """Title, grid and numbers of the upright axis."""
    y = _axis_y(top)
    yield _text((WIDTH + MARGIN) / 2, 14, title)
    for part in (0.0, 0.5, 1.0):
        at = y(part * top)
        yield f'<line x1="{MARGIN}" x2="{WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>'
        label = f"{100 * part * top:.3g} %" if percent else f"{part * top:g}"
        yield _text(MARGIN - 4, at + 4, label, anchor="end")


def _bar(x: float, top: float, width: float, bottom: float, colour: str, *, opacity: float = 1.0) -> str:
    return (
        f'<rect x="{x:.2f}" y="{top:.1f}" width="{width:.2f}" height="{max(bottom - top, 0):.1f}" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
