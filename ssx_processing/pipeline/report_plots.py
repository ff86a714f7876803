"""One look for all plots of the page, and their way into HTML."""

import html
import itertools
import json
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ssx_processing.pipeline.report_colours import GRID, INK

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_AXIS = {
    "gridcolor": GRID,
    "linecolor": INK,
    "ticks": "outside",
    "tickcolor": INK,
    "zeroline": False,
    "automargin": True,
    "exponentformat": "none",
}


@dataclass(frozen=True)
class Plot:
    """A figure with the words around it; all of them plain text."""

    figure: go.Figure
    title: str
    caption: str = ""
    tooltip: str = ""
    """On the title: what is plotted."""

    @property
    def height(self) -> int:
        """Pixels, reserved before the script has drawn anything."""
        return int(self.figure.to_dict()["layout"]["height"])


def styled(figure: go.Figure, *, height: int = 270) -> go.Figure:
    """The figure with the page's look; all its axes get grid and ticks."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.0,
            "x": 0,
            "xanchor": "left",
            "traceorder": "normal",
        },
        hovermode="x unified",
        bargap=0,
        dragmode="zoom",
    )
    figure.update_xaxes(**_AXIS)
    figure.update_yaxes(**_AXIS)
    return figure


def bars(
    edges: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    name: str,
    colour: str,
    hover: str = "%{x:.4g}",
) -> go.Bar:
    """Histogram of values over given bins."""
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    return go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        width=np.diff(edges),
        name=name,
        marker={"color": colour, "line": {"width": 0}},
        hovertemplate=f"{hover}: %{{y}}",
    )


class PlotWriter:
    """HTML of plots, numbered through; the script at the page's end draws them."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def figure(self, plot: Plot) -> str:
        """One plot with title and caption."""
        number = next(self._numbers)
        label = html.escape(f"{plot.title}. {plot.caption}")
        tooltip = f' title="{html.escape(plot.tooltip)}"' if plot.tooltip else ""
        caption = f"<figcaption>{html.escape(plot.caption)}</figcaption>" if plot.caption else ""
        return (
            f"<figure><h3{tooltip}>{html.escape(plot.title)}</h3>"
            f'<div class="plot" id="plot{number}" role="img" aria-label="{label}"'
            f' style="height:{plot.height}px"></div>{caption}'
            f'<script type="application/json" data-plot="plot{number}">{_json(plot.figure)}</script></figure>'
        )

    def row(self, plots: list[Plot]) -> str:
        """Plots side by side, as many as the window is wide enough for."""
        return f'<div class="plots">{"".join(map(self.figure, plots))}</div>'


def _json(figure: go.Figure) -> str:
    """Data and layout; no character that could end the script element."""
    content = json.loads(figure.to_json() or "")
    text = json.dumps({"data": content["data"], "layout": content["layout"]}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
