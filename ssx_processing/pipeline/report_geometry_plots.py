"""Plots of the geometry: how refined parameters hang together, and the detector's drift over the chunks."""

from itertools import pairwise

import plotly.graph_objects as go

from ssx_processing.pipeline.drift import LIMIT_DISTANCE, LIMIT_PX, DriftPoint, drift_of
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.report_colours import BLUE, GREEN, INK, ORANGE
from ssx_processing.pipeline.report_data import ReportData
from ssx_processing.pipeline.report_plots import Plot, styled

SCALE = [[0.0, BLUE], [0.5, "white"], [1.0, "#d55e00"]]


def correlation_plot(refinement: GeometryRefinement) -> Plot:
    """Correlation matrix of the refined parameters."""
    names = list(refinement.names)
    figure = go.Figure(
        go.Heatmap(
            z=refinement.correlation,
            x=names,
            y=names,
            zmin=-1.0,
            zmax=1.0,
            colorscale=SCALE,
            texttemplate="%{z:.2f}",
            hovertemplate="%{y} with %{x}: %{z:.3f}<extra></extra>",
            xgap=1,
            ygap=1,
            colorbar={"thickness": 12, "tickvals": [-1, 0, 1]},
        )
    )
    styled(figure, height=110 + 34 * len(names)).update_layout(hovermode="closest")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=35)
    caption = "Near +1 or -1: the data know the two together much worse than each with the other held."
    return Plot(figure, "Correlation of refined parameters", caption)


def drift_points(data: ReportData) -> list[tuple[str, float, DriftPoint]]:
    """Images, middle image and move of each chunk that has lattices enough."""
    if data.calibration is None:
        return []
    points = []
    for chunk in data.chunks:
        point = drift_of([chunk.drift], data.calibration.geometry) if chunk.drift is not None else None
        if point is not None:
            points.append((chunk.images, 0.5 * (chunk.frames.start + 1 + chunk.frames.stop), point))
    return points


def total_drift(data: ReportData) -> DriftPoint | None:
    """Move over all chunks together."""
    if data.calibration is None:
        return None
    return drift_of(
        [chunk.drift for chunk in data.chunks if chunk.drift is not None], data.calibration.geometry
    )


def drift_plots(data: ReportData) -> list[Plot]:
    """Beam centre and distance of each chunk against the calibration; empty without any."""
    points = drift_points(data)
    if not points:
        return []
    caption = "Of each chunk's lattices, with standard deviations; dashed: from where on it is reported."
    centre = go.Figure([_track(points, 0, BLUE, -0.1), _track(points, 1, ORANGE, 0.1)])
    distance = go.Figure([_track(points, 2, GREEN, 0.0)])
    plots = []
    for figure, title, axis, limit in (
        (centre, "Beam centre against calibration", "shift / px", LIMIT_PX),
        (distance, "Distance against calibration", "change / %", LIMIT_DISTANCE),
    ):
        styled(figure, height=260)
        figure.update_layout(hovermode="closest", showlegend=figure is centre)
        for y in (-limit, limit):
            figure.add_hline(y=y, line={"color": INK, "width": 1.0, "dash": "dash"})
        figure.add_hline(y=0.0, line={"color": INK, "width": 0.8})
        figure.update_xaxes(title_text="image")
        figure.update_yaxes(title_text=axis)
        plots.append(Plot(figure, title, caption))
    return plots


def _track(points: list[tuple[str, float, DriftPoint]], which: int, colour: str, aside: float) -> go.Scatter:
    """One parameter over the chunks, moved aside a little so that error bars do not hide each other."""
    width = max((b[1] - a[1] for a, b in pairwise(points)), default=0.0)
    return go.Scatter(
        x=[middle + aside * width for _, middle, _ in points],
        y=[point.shifts[which] for _, _, point in points],
        error_y={"type": "data", "array": [point.sds[which] for _, _, point in points], "thickness": 1.2},
        name=points[0][2].names[which],
        mode="lines+markers",
        line={"color": colour, "width": 1.5},
        marker={"size": 6},
        text=[f"images {images}, {point.n_lattices} lattices" for images, _, point in points],
        hovertemplate="%{text}: %{y:.3f}<extra></extra>",
    )
