"""Plots of unit cells: histograms and scatter plots, by cluster or by whether they are merged."""

import itertools
from collections.abc import Sequence

import gemmi
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.report_binning import even_sample, value_bins
from ssx_processing.pipeline.report_colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_data import ReportData
from ssx_processing.pipeline.report_plots import Plot, bars, styled

MAX_POINTS = 2500
CLUSTER_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
"""Of the clusters drawn on their own, from the largest on; the smaller ones are drawn together."""
FREE_CELL_PARAMETERS = {
    "triclinic": "a b c alpha beta gamma",
    "orthorhombic": "a b c",
    "tetragonal": "a c",
    "trigonal": "a c",
    "hexagonal": "a c",
    "cubic": "a",
}
SYMBOLS: dict[str, str] = dict(zip(CELL_COLUMNS, "abcαβγ", strict=True))


def free_cell_parameters(space_group: gemmi.SpaceGroup) -> list[str]:
    """Cell parameters that the lattice symmetry leaves free.

    Examples
    --------
    >>> [free_cell_parameters(gemmi.SpaceGroup(name)) for name in ("P43212", "P1211", "R3:R")]
    [['a', 'c'], ['a', 'b', 'c', 'beta'], ['a', 'alpha']]
    """
    if space_group.ext == "R":
        return ["a", "alpha"]
    system = space_group.crystal_system_str()
    if system == "monoclinic":
        angle = {"a": "alpha", "b": "beta", "c": "gamma"}[space_group.monoclinic_unique_axis()]
        return ["a", "b", "c", angle]
    return FREE_CELL_PARAMETERS[system].split()


def lattice_groups(lattices: pd.DataFrame) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Label, colour and members of what is drawn apart: clusters of cells, else merged and left out."""
    if "cell_cluster" in lattices:
        cluster = lattices["cell_cluster"].fillna(0).to_numpy(np.int64)
        n_drawn = len(CLUSTER_COLOURS)
        if cluster.max(initial=0) > 1:
            own = [
                (f"cluster {k}", colour, cluster == k) for k, colour in enumerate(CLUSTER_COLOURS, start=1)
            ]
            rest = [("smaller clusters", RED, cluster > n_drawn), ("in no cluster", GREY, cluster == 0)]
            return [group for group in (*own, *rest) if group[2].any()]
    merged = lattices["merged"].to_numpy(bool)
    if not merged.any():
        return [("all lattices", BLUE, ~merged)]
    return [("merged", BLUE, merged), ("not merged", ORANGE, ~merged)]


def cell_bins(
    values: NDArray[np.float64], expected: float, groups: Sequence[tuple[str, str, NDArray[np.bool_]]]
) -> NDArray[np.float64]:
    """Edges of bins over the bulk of all lattices and of every group that is not tiny, and the expected."""
    also = [expected]
    for _, colour, members in groups:
        some = values[members]
        if colour != GREY and len(some) >= max(5, 0.01 * len(values)):
            also += np.percentile(some, [2, 98]).tolist()
    return value_bins(values, tuple(also))


def cell_plots(data: ReportData) -> list[Plot]:
    """Histogram of each free cell parameter."""
    plots = []
    groups = lattice_groups(data.lattices)
    for name in free_cell_parameters(data.settings.sample.gemmi_space_group):
        expected, unit = _expected(data, name)
        values = data.lattices[name].to_numpy(np.float64)
        edges = cell_bins(values, expected, groups)
        figure = go.Figure([bars(edges, values[m], name=label, colour=c) for label, c, m in groups])
        styled(figure, height=260).update_layout(barmode="stack", showlegend=True)
        figure.update_xaxes(title_text=f"{SYMBOLS[name]} / {unit}")
        figure.update_yaxes(title_text="lattices")
        figure.add_vline(x=expected, line={"color": INK, "width": 1.5, "dash": "dash"})
        outside = int(((values < edges[0]) | (values > edges[-1])).sum())
        caption = f"Dashed: expected, {expected:.2f} {unit}."
        if outside:
            caption += f" {outside} lattices are outside the plot."
        plots.append(Plot(figure, f"Cell parameter {SYMBOLS[name]}", caption))
    return plots


def cell_scatter_plots(data: ReportData) -> list[Plot]:
    """Free cell parameters against each other: lengths against lengths, angles against angles."""
    free = free_cell_parameters(data.settings.sample.gemmi_space_group)
    pairs = [
        (one, other)
        for one, other in itertools.combinations(free, 2)
        if (one in CELL_COLUMNS[:3]) == (other in CELL_COLUMNS[:3]) or len(free) <= 2
    ]
    return [_scatter(data, one, other) for one, other in pairs]


def _scatter(data: ReportData, one: str, other: str) -> Plot:
    groups = lattice_groups(data.lattices)
    chosen = np.zeros(len(data.lattices), bool)
    chosen[even_sample(len(chosen), MAX_POINTS)] = True
    figure = go.Figure()
    x, y = (data.lattices[name].to_numpy(np.float64) for name in (one, other))
    for label, colour, members in groups:
        drawn = members & chosen
        figure.add_scatter(
            x=x[drawn].astype(np.float32), y=y[drawn].astype(np.float32), name=label, mode="markers",
            marker={"color": colour, "size": 4 if chosen.sum() > 500 else 6, "opacity": 0.5},
            hovertemplate=f"{SYMBOLS[one]} %{{x:.2f}}, {SYMBOLS[other]} %{{y:.2f}}",
        )  # fmt: skip
    styled(figure, height=260).update_layout(hovermode="closest", showlegend=True)
    figure.update_layout(legend={"itemsizing": "constant"})
    edges = []
    for axis, name, values in (("x", one, x), ("y", other, y)):
        expected, unit = _expected(data, name)
        edges.append(cell_bins(values, expected, groups))
        update = figure.update_xaxes if axis == "x" else figure.update_yaxes
        update(title_text=f"{SYMBOLS[name]} / {unit}", range=[edges[-1][0], edges[-1][-1]])
    figure.add_scatter(
        x=[_expected(data, one)[0]], y=[_expected(data, other)[0]], name="expected", mode="markers",
        marker={"color": INK, "size": 13, "symbol": "cross-thin", "line": {"width": 2, "color": INK}},
        hovertemplate="expected %{x:.2f}, %{y:.2f}",
    )  # fmt: skip
    n_lattices, n_drawn = len(chosen), int(chosen.sum())
    points = "Each point is" if n_drawn == n_lattices else f"{n_drawn} of {n_lattices} points, each"
    caption = (
        f"{points} a lattice. One round cloud is good. Two clouds are two crystal forms, which should be "
        "merged apart; a cloud drawn out along the diagonal is a scale that varies from frame to frame: "
        "distance or wavelength."
    )
    return Plot(figure, f"{SYMBOLS[one]} against {SYMBOLS[other]}", caption)


def _expected(data: ReportData, name: str) -> tuple[float, str]:
    """Expected value of a cell parameter, and its unit."""
    place = CELL_COLUMNS.index(name)
    return data.settings.sample.unit_cell[place], "Å" if place < 3 else "°"
