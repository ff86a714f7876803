"""Plots of the differences between subsets."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ssx_processing.pipeline.report_colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_plots import Plot, styled
from ssx_processing.pipeline.report_words import WORDS
from ssx_processing.pipeline.subset_differences import OVERALL

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
N_TICKS = 6


def difference_plots(table: pd.DataFrame) -> list[Plot]:
    """Half-set correlation of the differences, and Riso, of each pair against resolution."""
    shells = table[table["shell"] != OVERALL]
    if shells.empty:
        return []
    plots = []
    for name, caption in (
        ("cc_difference", "Above 0 by more than its error, and than grey (random split): a real difference."),
        ("r_iso", "Grey: a random split of the same lattices; only what is above it is a difference."),
    ):
        figure = go.Figure(_lines(shells, name))
        _on_resolution_axis(figure, shells)
        if name == "cc_difference":
            figure.add_hline(y=0, line={"color": INK, "width": 1.2, "dash": "dash"})
        plots.append(Plot(figure, WORDS[name].label, caption, WORDS[name].tooltip))
    return plots


def _lines(shells: pd.DataFrame, name: str) -> list[go.Scatter]:
    """A line for each pair and, in grey, for its random split."""
    lines = []
    for i, (pair, of_pair) in enumerate(shells.groupby(["first", "second"], sort=False)):
        is_random = of_pair["is_random"].to_numpy(bool)
        label = " - ".join(map(str, pair))
        lines.append(_line(of_pair[~is_random], name, label, _COLOURS[i % len(_COLOURS)]))
        if is_random.any():
            lines.append(_line(of_pair[is_random], name, f"{label}, random split", GREY))
    return lines


def _line(rows: pd.DataFrame, name: str, label: str, colour: str) -> go.Scatter:
    errors = rows["cc_difference_error"] if name == "cc_difference" else None
    return go.Scatter(
        x=_middle(rows),
        y=rows[name],
        error_y=None if errors is None else {"array": errors, "width": 2, "thickness": 1},
        name=label,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        text=[f"{a:.2f}-{b:.2f} Å" for a, b in zip(rows["d_max"], rows["d_min"], strict=True)],
        hovertemplate="%{text}: %{y:.3f}",
    )


def _middle(rows: pd.DataFrame) -> np.ndarray:
    """1/d² in the middle of each shell."""
    return (0.5 * (rows["d_max"] ** -2.0 + rows["d_min"] ** -2.0)).to_numpy()


def _on_resolution_axis(figure: go.Figure, shells: pd.DataFrame) -> None:
    low, high = float(shells["d_max"].max()) ** -2, float(shells["d_min"].min()) ** -2
    ticks = np.linspace(low, high, N_TICKS + 1)[1:]
    styled(figure).update_layout(hovermode="closest")
    figure.update_xaxes(
        title_text="resolution / Å", tickvals=ticks, ticktext=[f"{t**-0.5:.2f}" for t in ticks]
    )
