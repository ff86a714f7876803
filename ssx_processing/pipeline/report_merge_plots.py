"""Plots of merged intensities: shells of resolution, and scales of the lattices."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from ssx_processing.models import ShellStatistics
from ssx_processing.pipeline.merge_summary import LOW_MULTIPLICITY
from ssx_processing.pipeline.report_binning import value_bins
from ssx_processing.pipeline.report_colours import BLUE, GREEN, INK, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_data import MergeResult
from ssx_processing.pipeline.report_plots import Plot, bars, styled
from ssx_processing.pipeline.report_words import WORDS

N_TICKS = 6


def shell_plots(merge: MergeResult, cc_half_limit: float) -> list[Plot]:
    """Statistics against resolution."""
    shells = merge.summary.shells
    return [
        _correlations(shells, cc_half_limit),
        _one(shells, "r_split", PURPLE, [0, None], None, "Low at low resolution; rises towards the limit."),
        _one(shells, "mean_i_over_sigma", GREEN, [0, None], 1.0, "Should stay above 1 (dashed)."),
        _one(shells, "completeness", BLUE, [0, 1.05], 1.0, "Should be near 1 in every shell."),
        _one(
            shells, "multiplicity", ORANGE, [0, None], LOW_MULTIPLICITY,
            f"Should stay above {LOW_MULTIPLICITY:.0f} (dashed).",
        ),
        _mean_intensity(shells, merge.reflections),
        *_r_factors(shells),
        *_anomalous(shells),
        *_reference(merge),
    ]  # fmt: skip


def _middle(shells: Sequence[ShellStatistics]) -> NDArray[np.float64]:
    """1/d² in the middle of each shell."""
    return np.array([0.5 * (1 / s.d_max**2 + 1 / s.d_min**2) for s in shells])


def _on_resolution_axis(figure: go.Figure, shells: Sequence[ShellStatistics]) -> go.Figure:
    """The figure with an axis linear in 1/d² and labelled in Å."""
    low, high = 1 / shells[0].d_max ** 2, 1 / shells[-1].d_min ** 2
    ticks = np.linspace(low, high, N_TICKS + 1)[1:]
    styled(figure)
    figure.update_xaxes(
        title_text="resolution / Å",
        tickvals=ticks,
        ticktext=[f"{t**-0.5:.2f}" for t in ticks],
        range=[low - 0.02 * (high - low), high + 0.02 * (high - low)],
    )
    return figure


def _line(shells: Sequence[ShellStatistics], name: str, colour: str, symbol: str = "circle") -> go.Scatter:
    errors = [shell.cc_half_error for shell in shells] if name == "cc_half" else None
    return go.Scatter(
        x=_middle(shells),
        error_y=None if errors is None else {"array": errors, "width": 2, "thickness": 1},
        y=[getattr(shell, name) for shell in shells],
        name=WORDS[name].label,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "size": 6},
        text=[f"{shell.d_max:.2f}-{shell.d_min:.2f} Å" for shell in shells],
        hovertemplate="%{text}: %{y:.3f}",
    )


def _limit(figure: go.Figure, y: float) -> None:
    figure.add_hline(y=y, line={"color": INK, "width": 1.2, "dash": "dash"})


def _correlations(shells: Sequence[ShellStatistics], limit: float) -> Plot:
    figure = go.Figure([_line(shells, "cc_half", BLUE), _line(shells, "cc_star", ORANGE, "diamond")])
    _on_resolution_axis(figure, shells).update_layout(hovermode="closest")
    lowest = min([0.0, *(s.cc_half for s in shells if np.isfinite(s.cc_half))])
    figure.update_yaxes(range=[lowest - 0.03, 1.05])
    _limit(figure, limit)
    caption = (
        f"Near 1 at low resolution, then a smooth fall; the usual end of the data is {limit:g} (dashed)."
    )
    return Plot(figure, "CC1/2 and CC*", caption, WORDS["cc_half"].tooltip)


def _one(
    shells: Sequence[ShellStatistics],
    name: str,
    colour: str,
    limits: list[float | None],
    reference: float | None,
    caption: str,
) -> Plot:
    figure = go.Figure(_line(shells, name, colour))
    _on_resolution_axis(figure, shells).update_layout(showlegend=False, hovermode="closest")
    values = [value for s in shells if np.isfinite(value := getattr(s, name))]
    top = limits[1] or 1.08 * max([*values, reference or 0.0, 1e-3])
    figure.update_yaxes(range=[limits[0], top])
    if reference is not None:
        _limit(figure, reference)
    word = WORDS[name]
    return Plot(figure, word.label[0].upper() + word.label[1:], caption, word.tooltip)


def _r_factors(shells: Sequence[ShellStatistics]) -> list[Plot]:
    """Rmeas and Rpim; nothing for results from before they were counted."""
    if not any(np.isfinite(shell.r_meas) for shell in shells):
        return []
    figure = go.Figure([_line(shells, "r_meas", RED), _line(shells, "r_pim", PURPLE, "diamond")])
    _on_resolution_axis(figure, shells).update_layout(hovermode="closest")
    figure.update_yaxes(rangemode="tozero")
    caption = (
        "Rmeas of stills is large: observations are parts of reflections. Rpim is what merging makes of it."
    )
    return [Plot(figure, "R factors", caption, f"{WORDS['r_meas'].tooltip} {WORDS['r_pim'].tooltip}")]


def _anomalous(shells: Sequence[ShellStatistics]) -> list[Plot]:
    """Anomalous signal and completeness; nothing where no Friedel pairs are known."""
    if not any(np.isfinite(shell.cc_anomalous) for shell in shells):
        return []
    lines = [_line(shells, "cc_anomalous", ORANGE), _line(shells, "anomalous_completeness", BLUE, "diamond")]
    figure = go.Figure(lines)
    _on_resolution_axis(figure, shells).update_layout(hovermode="closest")
    lowest = min([0.0, *(s.cc_anomalous for s in shells if np.isfinite(s.cc_anomalous))])
    figure.update_yaxes(range=[lowest - 0.03, 1.05])
    _limit(figure, 0.0)
    caption = "CCanom around 0 (dashed): no anomalous signal."
    return [Plot(figure, "Anomalous signal", caption, WORDS["cc_anomalous"].tooltip)]


def _reference(merge: MergeResult) -> list[Plot]:
    """Correlation with the reference, if there is one."""
    check, shells = merge.summary.reference, merge.summary.shells
    if check is None:
        return []
    line = _line(shells, "cc_half", GREEN).update(
        y=check.cc_shells, error_y=None, name=WORDS["cc_reference"].label
    )
    figure = go.Figure(line)
    _on_resolution_axis(figure, shells).update_layout(showlegend=False, hovermode="closest")
    figure.update_yaxes(range=[min([0.0, *(cc for cc in check.cc_shells if np.isfinite(cc))]) - 0.03, 1.05])
    caption = f"{check.source}: {check.verdict}."
    return [Plot(figure, WORDS["cc_reference"].label, caption, WORDS["cc_reference"].tooltip)]


def _mean_intensity(shells: Sequence[ShellStatistics], reflections: pd.DataFrame) -> Plot:
    """Mean merged intensity of each shell on a logarithmic axis: a Wilson plot without its constants."""
    d, intensity = reflections["d"].to_numpy(), reflections["intensity"].to_numpy()
    means = []
    for shell in shells:
        inside = (d <= shell.d_max) & (d >= shell.d_min)
        mean = float(intensity[inside].mean()) if inside.any() else 0.0
        means.append(mean if mean > 0 else None)
    figure = go.Figure(
        go.Scatter(
            x=_middle(shells), y=means, mode="lines+markers", line={"color": INK, "width": 2},
            text=[f"{shell.d_max:.2f}-{shell.d_min:.2f} Å" for shell in shells],
            hovertemplate="%{text}: %{y:.3g}<extra></extra>",
        )
    )  # fmt: skip
    _on_resolution_axis(figure, shells).update_layout(showlegend=False, hovermode="closest")
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    caption = (
        "Wilson plot: beyond about 4 Å it should fall along a line; a flat end is noise, a spike is ice."
    )
    return Plot(figure, "Mean intensity", caption, WORDS["wilson_b"].tooltip)


def scale_plots(merge: MergeResult) -> list[Plot]:
    """Scale, relative B and correlation of each lattice that was scaled."""
    lattices = merge.lattices[merge.lattices["scale"].notna()]
    merged = (lattices["filter_reason"] == "").to_numpy()
    scale = lattices["scale"].to_numpy(np.float64)
    log_scale = np.log10(scale, out=np.full(len(scale), np.nan), where=scale > 0)
    plots = []
    for word, values, axis, caption in (
        (
            "scale",
            log_scale,
            "log10 of the scale",
            "One hump; a second one hints at another kind of crystal.",
        ),
        ("b_factor", lattices["b_factor"].to_numpy(float), "Å²", "Centred at 0; a long right tail: damaged."),
        (
            "cc",
            lattices["cc"].to_numpy(float),
            "correlation",
            "The higher the better; low ones are left out.",
        ),
    ):
        edges = value_bins(values)
        figure = go.Figure(bars(edges, values[merged], name="merged", colour=BLUE))
        if not merged.all():
            figure.add_trace(bars(edges, values[~merged], name="left out", colour=ORANGE))
        styled(figure, height=240).update_layout(barmode="stack", showlegend=not merged.all())
        figure.update_xaxes(title_text=axis)
        figure.update_yaxes(title_text="lattices")
        plots.append(
            Plot(figure, WORDS[word].label[0].upper() + WORDS[word].label[1:], caption, WORDS[word].tooltip)
        )
    return plots
