"""Cells found, as an HTML page that works offline: proposals, histograms, scatter plots by cell."""

import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import gemmi
import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.find_cell import CellProposal, CellSearch
from ssx_processing.pipeline.report import TEMPLATE
from ssx_processing.pipeline.report_colours import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_plots import Plot, PlotWriter, styled

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)
NAMES = ("a", "b", "c", "alpha", "beta", "gamma")
FREE = {
    "a": NAMES,
    "m": ("a", "b", "c", "beta"),
    "o": ("a", "b", "c"),
    "t": ("a", "c"),
    "h": ("a", "c"),
    "c": ("a",),
}
"""Crystal family to the parameters that its symmetry leaves free."""
LATTICES = {
    "aP": "triclinic", "mP": "monoclinic", "mC": "monoclinic, C-centred", "oP": "orthorhombic",
    "oC": "orthorhombic, C-centred", "oI": "orthorhombic, body-centred", "oF": "orthorhombic, face-centred",
    "tP": "tetragonal", "tI": "tetragonal, body-centred", "hP": "hexagonal or trigonal", "hR": "rhombohedral",
    "cP": "cubic", "cI": "cubic, body-centred", "cF": "cubic, face-centred",
}  # fmt: skip


def write_cells_page(
    path: Path, images: Sequence[Path], search: CellSearch, n_frames: int, commands: Sequence[str]
) -> Path:
    """Write the page.

    Parameters
    ----------
    n_frames
        Frames looked at.
    commands
        Command line that processes with each proposal.
    """
    path.write_text(cells_page(images, search, n_frames, commands), encoding="utf-8")
    return path


def cells_page(images: Sequence[Path], search: CellSearch, n_frames: int, commands: Sequence[str]) -> str:
    """The page as text."""
    plots = PlotWriter()
    body = [
        page.section("proposals", "Cells found", *_proposals(search, commands)),
        page.section(
            "parameters",
            "Cells of the single hits",
            page.paragraph(
                "One entry for each hit that a cell indexes. Good: one narrow peak. Two peaks in one colour "
                "are two crystal forms or two distances; a broad one points to the geometry."
            ),
            plots.row([histogram(search, name) for name in varying(search)]),
        ),
        page.section("scatter", "One length against another", plots.row([*scatters(search)])),
        page.section("share", "Share of the hits", plots.figure(shares(search))),
    ]
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    facts = [
        ("files", f"{images[0]}{more}"),
        ("frames looked at", str(n_frames)),
        ("hits", page.share(search.n_hits, n_frames)),
        (
            "searched",
            f"{search.n_searched} hits with most spots, on {search.n_found} of them a lattice was seen",
        ),
    ]
    template = Template((files(__package__ or "") / TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"Cells of {images[0].name}"),
        about=page.facts(facts),
        notices="",
        body="".join(body),
        plotly=get_plotlyjs(),
    )


def process_options(proposal: CellProposal) -> list[str]:
    """Options of ``ssx process`` for a cell."""
    cell = ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in proposal.cell)
    group = gemmi.SpaceGroup(proposal.space_group).xhm().replace(" ", "")
    return ["--cell", cell, "--space-group", group]


def _proposals(search: CellSearch, commands: Sequence[str]) -> list[str]:
    first = search.proposals[0]
    box = "good" if first.figure >= 0.3 else "warning"
    advice = (
        "The space group is the highest that the lattice allows, without screw axes: stills do not show "
        "them. Give the true one if you know it, e.g. P43212 in place of P422.",
        "A good cell indexes most hits and explains most of their spots. One that indexes few is another "
        "crystal form, a second kind of crystal, or chance.",
    )
    inside = f"<strong>{html.escape(commands[0])}</strong>{page.items(advice)}"
    headings = [page.plain_heading(text) for text in (
        "", "lattice", "a, b, c (Å), angles (°)", "spread", "volume (Å³)", "hits indexed", "spots explained",
        "figure of merit", "found blindly on", "note",
    )]  # fmt: skip
    rows = [
        page.row(
            [
                str(number),
                f"{proposal.lattice}, {LATTICES[proposal.lattice]}",
                _numbers(proposal.cell),
                _numbers(proposal.spread),
                f"{proposal.volume:.0f}",
                page.share(proposal.n_frames, search.n_hits),
                f"{100 * proposal.explained:.0f} %",
                page.number(proposal.figure),
                f"{proposal.n_seeds} hits",
                proposal.note,
            ],
            first_is_text=True,
        )
        for number, proposal in enumerate(search.proposals, start=1)
    ]
    words = (
        "Figure of merit: share of the hits times share of their spots, 1 at best. Found blindly: hits on "
        "which the search saw this lattice without knowing the cell."
    )
    others = page.folded("Commands for the others", page.items(commands[1:])) if len(commands) > 1 else ""
    return [
        f'<div class="notice {box}">{inside}</div>',
        page.table(headings, rows),
        page.paragraph(words),
        others,
    ]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def varying(search: CellSearch) -> list[str]:
    """Names of the parameters that are free in any of the lattices."""
    free = {name for proposal in search.proposals for name in FREE[proposal.lattice[0]]}
    return [name for name in NAMES if name in free]


def histogram(search: CellSearch, name: str) -> Plot:
    """Histogram of one parameter, a colour for each cell."""
    place = NAMES.index(name)
    unit = "Å" if place < 3 else "°"
    values = [proposal.cells[:, place] for proposal in search.proposals]
    every = np.concatenate(values)
    low, high = np.percentile(every, [1, 99])
    margin = max(0.1 * (high - low), 0.002 * high)
    n_bins = int(np.clip(3 * np.sqrt(len(every)), 10, 60))
    edges = np.linspace(low - margin, high + margin, n_bins + 1)
    figure = go.Figure()
    for number, of_cell in enumerate(values):
        counts, _ = np.histogram(of_cell, edges)
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), name=_name(search, number),
            marker={"color": _colour(number), "line": {"width": 0}}, hovertemplate="%{y} hits",
        )  # fmt: skip
    styled(figure).update_layout(barmode="stack", showlegend=len(values) > 1)
    figure.update_xaxes(title_text=f"{name} ({unit})")
    figure.update_yaxes(title_text="hits", rangemode="tozero")
    medians = "; ".join(f"{np.median(v):.2f} {unit}" for v in values)
    return Plot(figure, name, f"Median {medians}.")


def scatters(search: CellSearch) -> list[Plot]:
    """A against b and b against c; a against c where b is not free."""
    free = varying(search)
    pairs = [("a", "b"), ("b", "c")] if "b" in free else [("a", "c")]
    return [_scatter(search, x, y) for x, y in pairs]


def _scatter(search: CellSearch, x: str, y: str) -> Plot:
    figure = go.Figure()
    for number, proposal in enumerate(search.proposals):
        figure.add_scatter(
            x=proposal.cells[:, NAMES.index(x)],
            y=proposal.cells[:, NAMES.index(y)],
            mode="markers",
            name=_name(search, number),
            marker={"color": _colour(number), "size": 5, "opacity": 0.6},
            hovertemplate=f"{x} %{{x:.2f}}, {y} %{{y:.2f}} Å",
        )
    styled(figure, height=360).update_layout(hovermode="closest", showlegend=len(search.proposals) > 1)
    figure.update_xaxes(title_text=f"{x} (Å)")
    figure.update_yaxes(title_text=f"{y} (Å)")
    return Plot(
        figure,
        f"{y} against {x}",
        "A round cloud is good. A line through the origin points to a distance that varies or is wrong.",
    )


def shares(search: CellSearch) -> Plot:
    """Bar of the hits by the cell that explains them best."""
    figure = go.Figure()
    left = search.n_hits - sum(proposal.n_frames for proposal in search.proposals)
    parts = [(_name(search, n), proposal.n_frames, _colour(n)) for n, proposal in enumerate(search.proposals)]
    for name, count, colour in [*parts, ("not indexed", left, "#d5d9de")]:
        figure.add_bar(
            x=[count], y=["hits"], orientation="h", name=name, marker={"color": colour},
            hovertemplate=f"{count} hits", text=[f"{count}"], textposition="inside",
        )  # fmt: skip
    styled(figure, height=150).update_layout(barmode="stack", hovermode="closest")
    figure.update_yaxes(showticklabels=False)
    figure.update_xaxes(title_text="hits")
    caption = "Each hit counts for the cell that explains it best; the others may be weak, split or ice."
    return Plot(figure, "Hits by cell", caption)


def _name(search: CellSearch, number: int) -> str:
    return f"{number + 1}: {search.proposals[number].lattice}"


def _colour(number: int) -> str:
    return COLOURS[min(number, len(COLOURS) - 1)]
