"""Plots of frames and lattices: what can be seen before anything is merged."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from ssx_processing.models import FrameStatus
from ssx_processing.pipeline.report_binning import (
    COUNT_TICKS,
    count_bins,
    even_sample,
    frames_per_bin,
    on_count_axis,
    value_bins,
)
from ssx_processing.pipeline.report_colours import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_data import ReportData
from ssx_processing.pipeline.report_plots import Plot, bars, styled
from ssx_processing.pipeline.report_words import WORDS

MAX_POINTS = 2500
STATUS_LOOK = {
    FrameStatus.NO_HIT: ("no hit", GREY, "circle"),
    FrameStatus.NOT_INDEXED: ("hit, not indexed", ORANGE, "triangle-up"),
    FrameStatus.INTEGRATED: ("indexed", BLUE, "diamond"),
}


def collection_plot(data: ReportData) -> Plot:
    """Rates, spots and background against the number of the image."""
    width = frames_per_bin(data.frames_total)
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=[3, 3, 1.6])
    _add_rates(figure, data, width)
    _add_spots(figure, data)
    for chunk in data.missing_chunks:
        figure.add_vrect(
            x0=chunk.frames.start + 0.5, x1=chunk.frames.stop + 0.5, fillcolor=GREY, opacity=0.3, line_width=0
        )
    styled(figure, height=620).update_layout(hovermode="closest")
    figure.update_yaxes(title_text="fraction", range=[-0.03, 1.05], row=1, col=1)
    figure.update_yaxes(_count_axis(data), title_text="spots per frame", row=2, col=1)
    figure.update_yaxes(title_text="background", rangemode="tozero", row=3, col=1)
    figure.update_xaxes(range=[0.5, data.frames_total + 0.5])
    figure.update_xaxes(title_text="image number", row=3, col=1)
    shown = "each frame" if len(data.frames) <= MAX_POINTS else f"{MAX_POINTS} frames, evenly chosen"
    caption = (
        f"Top: each point is {'one frame' if width == 1 else f'{width} frames'}; hit rate is of all frames, "
        "indexing rate of the hits. Even curves are good; a fall of both hints at radiation, drying or lost "
        "alignment, a step at a row or a new sample. "
        f"Middle: spots of {shown}; the dashed line is the hit threshold. Bottom: median background in "
        "counts; a fall to zero means no beam. Grey bands are chunks that are missing. Images count from 1; "
        "frame 0 in the tables is image 1."
    )
    return Plot(figure, "Along the collection", caption)


def _add_rates(figure: go.Figure, data: ReportData, width: int) -> None:
    middle, rates = binned_rates(data.frames, data.frames_total, width)
    looks = [("hit_rate", "hit rate", BLUE, "circle"), ("indexing_rate", "indexing rate", GREEN, "square")]
    if data.counts.frames_unreadable:
        looks.append(("unreadable_rate", "unreadable", RED, "x"))
    for name, label, colour, symbol in looks:
        figure.add_scatter(
            x=middle, y=rates[name], name=label, mode="lines+markers", text=rates[f"{name}_text"],
            line={"color": colour, "width": 2}, marker={"symbol": symbol, "size": 6},
            hovertemplate="%{text}", row=1, col=1,
        )  # fmt: skip
    figure.add_scatter(
        x=middle, y=rates["background"], name="background", mode="lines+markers", showlegend=False,
        line={"color": PURPLE, "width": 2}, marker={"size": 4}, hovertemplate="%{y:.2f} counts", row=3, col=1,
    )  # fmt: skip


def binned_rates(
    frames: pd.DataFrame, frames_total: int, width: int
) -> tuple[NDArray[np.float64], dict[str, list]]:
    """Rates in bins of ``width`` frames along the collection; None where their denominator is 0.

    Returns
    -------
    Image number in the middle of each bin, and by name one value or hover text per bin.
    """
    n_bins = max(-(-frames_total // width), 1)
    which = frames["frame"].to_numpy(np.int64) // width
    status = frames["status"].to_numpy(str)

    def count(*wanted: FrameStatus) -> NDArray[np.int64]:
        return np.bincount(which[np.isin(status, wanted)], minlength=n_bins)

    total = np.bincount(which, minlength=n_bins)
    indexed = count(FrameStatus.INTEGRATED)
    hits = count(FrameStatus.NOT_INDEXED, FrameStatus.INTEGRATED)
    unreadable = count(FrameStatus.UNREADABLE)
    columns: dict[str, list] = {}
    for name, part, of, unit in (
        ("hit_rate", hits, total, "frames"),
        ("indexing_rate", indexed, hits, "hits"),
        ("unreadable_rate", unreadable, total, "frames"),
    ):
        columns[name] = [p / n if n else None for p, n in zip(part.tolist(), of.tolist(), strict=True)]
        columns[f"{name}_text"] = [f"{p} of {n} {unit}" for p, n in zip(part, of, strict=True)]
    background = frames.groupby(which)["median_background"].median().reindex(range(n_bins))
    columns["background"] = [None if np.isnan(value) else value for value in background.astype(float)]
    last = np.minimum((np.arange(n_bins) + 1) * width, max(frames_total, 1))
    return (np.arange(n_bins) * width + 1 + last) / 2, columns


def _add_spots(figure: go.Figure, data: ReportData) -> None:
    chosen = data.frames.iloc[even_sample(len(data.frames), MAX_POINTS)]
    for status, (label, colour, symbol) in STATUS_LOOK.items():
        part = chosen[chosen["status"] == status]
        n_spots = part["n_spots"].to_numpy(np.int64)
        figure.add_scatter(
            x=part["frame"].to_numpy() + 1, y=on_count_axis(n_spots), name=label, mode="markers",
            marker={"color": colour, "size": 5, "symbol": symbol, "opacity": 0.7}, text=n_spots,
            hovertemplate="image %{x}: %{text} spots", row=2, col=1,
        )  # fmt: skip
    threshold = float(np.log10(data.settings.spots.min_spots_for_hit - 0.5))
    figure.add_hline(y=threshold, line={"color": INK, "width": 1.5, "dash": "dash"}, row=2, col=1)  # pyright: ignore[reportArgumentType]


def _count_axis(data: ReportData) -> dict[str, Any]:
    """Ticks, and a range from zero to beyond both the hit threshold and the most spots."""
    most = max(
        int(data.frames["n_spots"].max()) if len(data.frames) else 0,
        2 * data.settings.spots.min_spots_for_hit,
    )
    ticks = on_count_axis(np.array(COUNT_TICKS))
    return {
        "tickvals": ticks,
        "ticktext": [str(n) for n in COUNT_TICKS],
        "range": [-0.42, np.log10(1.15 * most)],
    }


def spots_plot(data: ReportData) -> Plot:
    """Histogram of spots per frame."""
    figure = go.Figure()
    n_spots, status = data.frames["n_spots"].to_numpy(np.int64), data.frames["status"].to_numpy(str)
    edges = count_bins(int(n_spots.max(initial=data.settings.spots.min_spots_for_hit)))
    drawn = on_count_axis(edges)
    drawn[0] = -0.4  # the bar of zero, about as wide as its neighbours
    texts = [f"{low}-{high - 1}" if high - 1 > low else str(low) for low, high in itertools.pairwise(edges)]
    for value, (label, colour, _) in STATUS_LOOK.items():
        counts, _ = np.histogram(n_spots[status == value], edges)
        figure.add_bar(
            x=(drawn[1:] + drawn[:-1]) / 2, y=counts, width=np.diff(drawn), name=label, text=texts,
            textposition="none", marker={"color": colour, "line": {"width": 0.5, "color": "white"}},
            hovertemplate="%{text} spots: %{y} frames",
        )  # fmt: skip
    threshold = data.settings.spots.min_spots_for_hit
    styled(figure, height=300).update_layout(barmode="stack", hovermode="closest")
    axis = _count_axis(data)
    axis["tickvals"][0] = drawn[:2].mean()
    figure.update_xaxes(axis, title_text="spots per frame")
    figure.update_yaxes(title_text="frames")
    _cut_bar_of_zero(figure, np.histogram(n_spots, edges)[0], float(drawn[:2].mean()))
    figure.add_vline(x=float(np.log10(threshold - 0.5)), line={"color": INK, "width": 1.5, "dash": "dash"})
    caption = (
        f"The dashed line is the hit threshold, {threshold} spots. Good: two separate humps with the line in "
        "the valley between them. If the line cuts a hump, change spots.min_spots_for_hit."
    )
    return Plot(figure, "Spots per frame", caption)


def _cut_bar_of_zero(figure: go.Figure, counts: NDArray[np.int64], x: float) -> None:
    """Frames without any spot may be so many that nothing else is seen: cut their bar and say how many."""
    highest = int(counts[1:].max(initial=0))
    if counts[0] <= 3 * highest or not highest:
        return
    figure.update_yaxes(range=[0, 1.4 * highest])
    figure.add_annotation(
        x=x, y=1.4 * highest, text=f"{counts[0]} ↑", showarrow=False, yanchor="top", font={"color": "white"}
    )


def lattice_plots(data: ReportData) -> list[Plot]:
    """Quality of the lattices as they were found."""
    lattices = data.lattices
    fraction = lattices["n_indexed"] / lattices["n_spots"].clip(lower=1)
    plots = []
    for word, values, axis, caption in (
        ("resolution_limit", lattices["resolution_limit"], "Å", "Finer to the left."),
        ("rmsd_px", lattices["rmsd_px"], "pixels", "Good: one hump below 1 pixel."),
        ("fraction_indexed", fraction, "fraction", "Low values: more crystals or ice on the frame."),
    ):
        figure = go.Figure(
            bars(value_bins(values.to_numpy(float)), values.to_numpy(float), name="", colour=BLUE)
        )
        styled(figure, height=240).update_layout(showlegend=False)
        figure.update_xaxes(title_text=axis)
        figure.update_yaxes(title_text="lattices")
        plots.append(Plot(figure, WORDS[word].label.capitalize(), caption, WORDS[word].tooltip))
    return plots
