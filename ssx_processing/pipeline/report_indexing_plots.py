"""Plots of how indexing went: why hits failed, where spots lie off their predicted places, rivals."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from ssx_processing.kernels.prediction import rocking_sigma
from ssx_processing.models import Misfit
from ssx_processing.pipeline.population import Rocking, robust_sigma
from ssx_processing.pipeline.report_colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE
from ssx_processing.pipeline.report_indexing_data import UNKNOWN, IndexingCounts, SpotResiduals
from ssx_processing.pipeline.report_plots import Plot, styled
from ssx_processing.pipeline.report_words import MISFITS, UNKNOWN_MISFIT, MisfitWord

MOST_BINS, SPOTS_PER_BIN, FEWEST_PER_BIN = 36, 25, 5
"""Of a map: along each side; on average; and for a colour at all."""
CURVE_BINS = 14
FARTHEST_RIVAL = 30.0
"""Runner-up gaps from here on are drawn together."""
NEAR_RIVAL = 2.0
"""A rival that chance explains less than a hundred times better."""
EMPTY = "#dfe3e8"


def misfit_word(value: str) -> MisfitWord:
    """What a misfit of the tables is in words."""
    return MISFITS[Misfit(value)] if value != UNKNOWN and value in set(Misfit) else UNKNOWN_MISFIT


def misfit_plot(counts: IndexingCounts) -> Plot:
    """How many hits were not indexed, by reason."""
    order = [*(reason.value for reason in Misfit), UNKNOWN]
    reasons = [name for name in order if counts.misfits.get(name)]
    n = [counts.misfits[name] for name in reasons]
    figure = go.Figure()
    figure.add_bar(
        x=n, y=[misfit_word(name).label for name in reasons], orientation="h", text=n, textposition="outside",
        cliponaxis=False, marker={"color": ORANGE}, hovertemplate="%{y}: %{x}",
    )  # fmt: skip
    styled(figure, height=70 + 34 * len(reasons)).update_layout(
        showlegend=False, hovermode="closest", bargap=0.3
    )
    figure.update_xaxes(title_text="hits not indexed", range=[0, 1.12 * max(n, default=1)])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    failed = counts.hits - counts.indexed
    return Plot(figure, "Why hits were not indexed", f"{failed} of {counts.hits} hits; the table says more.")


def residual_maps(residuals: SpotResiduals) -> list[Plot]:
    """Median radial and tangential residual over the detector."""
    n_bins = int(np.clip(np.sqrt(len(residuals) / SPOTS_PER_BIN), 6, MOST_BINS))
    edges = [
        np.linspace(v.min() - 1e-3, v.max() + 1e-3, n_bins + 1) for v in (residuals.x_mm, residuals.y_mm)
    ]
    column, row = (
        np.clip(np.digitize(v, e) - 1, 0, n_bins - 1)
        for v, e in zip((residuals.x_mm, residuals.y_mm), edges, strict=True)
    )
    maps = [
        binned_median(row * n_bins + column, values, n_bins * n_bins).reshape(n_bins, n_bins)
        for values in (residuals.radial_px, residuals.tangential_px)
    ]
    known = np.abs(np.concatenate([m[np.isfinite(m)] for m in maps]))
    limit = max(0.1, float(np.ceil(20 * np.percentile(known, 97)) / 20) if len(known) else 0.0)
    n = len(residuals)
    radial = (
        "Observed minus predicted position, away from the beam: median of the spots in each square "
        f"({n} spots). Red: spots lie further out than predicted. White all over is good. One colour that "
        "deepens outwards: distance, or all cell axes. Red on one side and blue on the other: beam centre; "
        "if that deepens outwards: tilt. One block apart: that panel."
    )
    tangential = (
        "The same about the beam; red: counter-clockwise, looking along the beam. One colour everywhere: the "
        "detector is turned about the beam. Two opposite quarters red, the other two blue: panels or pixels "
        "that are not square to each other."
    )
    return [
        Plot(_map(edges, maps[0], limit), "Radial residual", radial),
        Plot(_map(edges, maps[1], limit), "Tangential residual", tangential),
    ]


def binned_median(which: NDArray[np.int64], values: NDArray[np.float32], n_bins: int) -> NDArray[np.floating]:
    """(n_bins,) medians; nan in bins with fewer than 5 values."""
    grouped = pd.Series(values).groupby(which)
    median = grouped.median().where(grouped.size() >= FEWEST_PER_BIN)
    return median.reindex(range(n_bins)).to_numpy(float)


def _map(edges: list[NDArray[np.float64]], values: NDArray[np.floating], limit: float) -> go.Figure:
    """Heat map in millimetres across the beam, as seen along it."""
    x, y = ((e[1:] + e[:-1]) / 2 for e in edges)
    figure = go.Figure()
    figure.add_heatmap(
        x=x.round(2), y=y.round(2), z=[[None if np.isnan(v) else round(v, 3) for v in row] for row in values],
        zmin=-limit, zmax=limit, zmid=0, colorscale="RdBu", reversescale=True,
        colorbar={"title": {"text": "px"}, "thickness": 12, "len": 0.9},
        hovertemplate="x %{x:.0f} mm, y %{y:.0f} mm: %{z:+.2f} px<extra></extra>", hoverongaps=False,
    )  # fmt: skip
    styled(figure, height=400).update_layout(hovermode="closest", plot_bgcolor=EMPTY)
    figure.add_scatter(
        x=[0], y=[0], mode="markers", hoverinfo="skip", showlegend=False,
        marker={"symbol": "cross-thin", "size": 12, "line": {"width": 1.5, "color": INK}},
    )  # fmt: skip
    figure.update_xaxes(title_text="x / mm from the beam", showgrid=False, constrain="domain")
    figure.update_yaxes(
        title={"text": "y / mm, up", "standoff": 12},
        showgrid=False,
        scaleanchor="x",
        scaleratio=1,
        constrain="domain",
    )
    return figure


def residual_curves(residuals: SpotResiduals) -> Plot:
    """Median residuals against the distance from the beam, and what they amount to."""
    radius = np.hypot(residuals.x_mm, residuals.y_mm)
    middle, counts, (radial, tangential) = binned_curves(radius, residuals.radial_px, residuals.tangential_px)
    figure = go.Figure()
    for values, name, colour in ((radial, "radial", BLUE), (tangential, "tangential", ORANGE)):
        figure.add_scatter(
            x=middle.round(2), y=values.round(4), name=name, mode="lines+markers", text=counts,
            line={"color": colour, "width": 2}, marker={"size": 6},
            hovertemplate="%{y:+.3f} px (%{text} spots)",
        )  # fmt: skip
    styled(figure, height=300)
    highest = max(0.1, 1.25 * float(np.nanmax(np.abs([radial, tangential]), initial=0.0)))
    figure.update_xaxes(title_text="distance from the beam / mm", rangemode="tozero")
    figure.update_yaxes(title_text="median residual / px", range=[-highest, highest])
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    growth = float(np.sum(counts * middle * radial) / np.sum(counts * middle**2)) * residuals.pixel_mm
    shift = common_shift_px(residuals)
    caption = (
        f"Flat lines at 0 are good. All spots together lie {shift[0]:+.3f} px along x and {shift[1]:+.3f} px "
        "up from where they are predicted: what is left of the beam centre. The radial residual grows by "
        f"{100 * growth:+.3f} % of the radius: the distance would be so much longer, as far as the cells, "
        "which are refined on every frame, have not taken it up."
    )
    return Plot(figure, "Residuals against the distance from the beam", caption)


def common_shift_px(residuals: SpotResiduals) -> tuple[float, float]:
    """Median residual along the laboratory's x and y."""
    radius = np.maximum(np.hypot(residuals.x_mm, residuals.y_mm), 1e-6)
    x, y = residuals.x_mm / radius, residuals.y_mm / radius
    radial, tangential = residuals.radial_px, residuals.tangential_px
    return float(np.median(radial * x - tangential * y)), float(np.median(radial * y + tangential * x))


def binned_curves(
    at: NDArray[np.float32], *columns: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[NDArray[np.float64]]]:
    """Medians of columns in bins that hold about as many values each: middles, counts, one array a column."""
    order = np.argsort(at, kind="stable")
    parts = np.array_split(order, int(np.clip(len(at) // SPOTS_PER_BIN, 1, CURVE_BINS)))
    middle = np.array([np.median(at[part]) for part in parts], np.float64)
    medians = [np.array([np.median(column[part]) for part in parts], np.float64) for column in columns]
    return middle, np.array([len(part) for part in parts]), medians


def excitation_plot(residuals: SpotResiduals, rocking: Rocking) -> Plot:
    """Excitation errors of indexed spots against |q|: median, spread, and the width for predictions."""
    order = np.argsort(residuals.q, kind="stable")
    parts = np.array_split(order, int(np.clip(len(order) // SPOTS_PER_BIN, 1, CURVE_BINS)))
    q = np.array([float(np.median(residuals.q[part])) for part in parts])
    errors = [residuals.excitation_error[part].astype(np.float64) for part in parts]
    median = np.array([np.median(e) for e in errors])
    spread = np.array([robust_sigma(e - m) for e, m in zip(errors, median, strict=True)])
    expected = np.array([rocking_sigma(at, rocking.parts()) for at in q])
    figure = go.Figure()
    for values, name, colour, dash in (
        (spread, "spread (robust s.d.)", BLUE, "solid"),
        (expected, "width of the calibration", GREY, "dash"),
        (median, "median", GREEN, "solid"),
    ):
        figure.add_scatter(
            x=q.round(4), y=(1e3 * values).round(4), name=name, mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash}, marker={"size": 5},
            hovertemplate="%{y:.3f}",
        )  # fmt: skip
    styled(figure, height=300)
    figure.update_xaxes(title_text="|q| = 1/d in 1/Å", rangemode="tozero")
    figure.update_yaxes(title_text="excitation error in 0.001/Å")
    caption = (
        "How far reciprocal lattice points of indexed spots are from the Ewald sphere. The median should be "
        "0 at all |q|; the spread grows with |q| where crystals are mosaic or the beam has bandwidth. "
        "Reflections are predicted with the dashed width, scaled to each lattice."
    )
    return Plot(figure, "Excitation error", caption)


def runner_up_plot(lattices: pd.DataFrame) -> Plot:
    """How far the second best orientation of a lattice is behind the best."""
    gap = lattices["runner_up_gap"].to_numpy(float)
    known = gap[np.isfinite(gap)]
    edges = np.append(np.arange(0.0, FARTHEST_RIVAL + 1.0, 1.0), FARTHEST_RIVAL + 2.0)
    counts, _ = np.histogram(np.clip(known, 0.0, FARTHEST_RIVAL + 1.0), edges)
    near = int((known < NEAR_RIVAL).sum())
    texts = [f"{low:g} to {low + 1:g}" for low in edges[:-2]] + [f"{FARTHEST_RIVAL:g} or more"]
    colours = [ORANGE if low < NEAR_RIVAL else PURPLE for low in edges[:-1]]
    figure = go.Figure()
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), marker={"color": colours}, text=texts,
        textposition="none", hovertemplate="%{text}: %{y} lattices",
    )  # fmt: skip
    styled(figure, height=260).update_layout(showlegend=False, hovermode="closest")
    ticks = [0, 5, 10, 15, 20, 25, FARTHEST_RIVAL + 1]
    figure.update_xaxes(
        title_text="log10 E of the runner-up minus that of the lattice", tickvals=ticks,
        ticktext=[*(str(t) for t in ticks[:-1]), f"{FARTHEST_RIVAL:g}+"],
    )  # fmt: skip
    figure.update_yaxes(title_text="lattices")
    caption = (
        f"Far to the right is safe. {near} of {len(known)} lattices with a runner-up have one that is less "
        f"than {10**NEAR_RIVAL:g} times less likely (orange): cells with axes that are nearly alike, or "
        f"nearly multiples of each other, or few spots. {len(gap) - len(known)} lattices have no runner-up."
    )
    return Plot(figure, "Runner-up orientations", caption)
