"""Plots of how the merged data grew with the number of lattices."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ssx_processing.kernels.growth import Growth, forecast
from ssx_processing.pipeline.growth_curve import growth_of_table
from ssx_processing.pipeline.report_colours import BLUE, GREEN, ORANGE, PURPLE
from ssx_processing.pipeline.report_plots import Plot, styled
from ssx_processing.pipeline.report_words import WORDS

_FACTORS = (1.25, 1.5, 2.0)  # further than twice nobody should look
_FIGURES = (
    ("cc_half", BLUE, "circle"), ("completeness", GREEN, "square"), ("r_split", PURPLE, "diamond")
)  # fmt: skip


def growth_plots(table: pd.DataFrame) -> list[Plot]:
    """CC1/2, completeness and Rsplit, and the multiplicity, against the number of lattices."""
    growth = growth_of_table(table)
    if len(growth.n_lattices) < 2:
        return []
    return [_quality(growth), _multiplicity(growth)]


def _quality(growth: Growth) -> Plot:
    figure = go.Figure()
    for name, colour, symbol in _FIGURES:
        errors = growth.cc_half_error if name == "cc_half" else None
        figure.add_trace(_line(growth, name, colour, symbol, errors))
    for name, colour, _ in _FIGURES[:2]:
        figure.add_trace(_forecast(growth, name, colour))
    styled(figure).update_layout(hovermode="closest")
    figure.update_xaxes(title_text="lattices merged", rangemode="tozero")
    lowest = float(np.nanmin([0.0, *growth.cc_half]))
    figure.update_yaxes(range=[lowest - 0.03, 1.05])
    caption = (
        "In the order of collection. Steep at the end: more lattices help; flat: other things limit. "
        "Dotted: expected of more lattices of this quality, with standard error."
    )
    return Plot(figure, "Growth with lattices", caption, WORDS["growth"].tooltip)


def _line(growth: Growth, name: str, colour: str, symbol: str, errors: np.ndarray | None) -> go.Scatter:
    return go.Scatter(
        x=growth.n_lattices,
        y=getattr(growth, name),
        error_y=None if errors is None else {"array": errors, "width": 2, "thickness": 1},
        name=WORDS[name].label,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "size": 6},
        hovertemplate="%{x} lattices: %{y:.3f}",
    )


def _forecast(growth: Growth, name: str, colour: str) -> go.Scatter:
    now = int(growth.n_lattices[-1])
    expected = [forecast(growth, round(now * factor)) for factor in _FACTORS]
    return go.Scatter(
        x=[now, *(one.n_lattices for one in expected)],
        y=[float(getattr(growth, name)[-1]), *(getattr(one, name) for one in expected)],
        error_y={"array": [0.0, *(getattr(one, f"{name}_error") for one in expected)], "width": 2},
        mode="lines",
        line={"color": colour, "width": 2, "dash": "dot"},
        showlegend=False,
        name=f"{WORDS[name].label}, expected",
        hovertemplate="%{x} lattices, expected: %{y:.3f}<extra></extra>",
    )


def _multiplicity(growth: Growth) -> Plot:
    figure = go.Figure(_line(growth, "multiplicity", ORANGE, "circle", None))
    styled(figure).update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(title_text="lattices merged", rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    caption = "A straight line; where it bends, lattices have fewer observations or were left out."
    return Plot(figure, "Multiplicity with lattices", caption, WORDS["multiplicity"].tooltip)
