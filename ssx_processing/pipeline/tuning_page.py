"""The scan of thresholds as an HTML page that works offline: hits, false spots, spots per frame."""

import html
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.recommendation import PointJudgement, Recommendation, blanks
from ssx_processing.pipeline.report import TEMPLATE
from ssx_processing.pipeline.report_binning import COUNT_TICKS, count_bins, on_count_axis
from ssx_processing.pipeline.report_colours import BLUE, GREY, INK, ORANGE
from ssx_processing.pipeline.report_plots import Plot, PlotWriter, styled
from ssx_processing.pipeline.tuning import Thresholds, ThresholdScan


def write_tuning_page(
    path: Path, images: Sequence[Path], scan: ThresholdScan, recommendation: Recommendation
) -> Path:
    """Write the page; ``images`` are named in its title."""
    path.write_text(tuning_page(images, scan, recommendation), encoding="utf-8")
    return path


def tuning_page(images: Sequence[Path], scan: ThresholdScan, recommendation: Recommendation) -> str:
    """The page as text."""
    plots = PlotWriter()
    body = [
        page.section("recommendation", "Recommendation", *_recommendation(recommendation)),
        page.section(
            "grid",
            "Thresholds tried",
            plots.row(
                [
                    grid_plot(
                        recommendation, "n_hits", "Hits", "Frames at or above the safe cut, ice left out."
                    ),
                    grid_plot(
                        recommendation,
                        "false_spots",
                        "Spots on a blank",
                        "Mean over the blanks.",
                    ),
                    grid_plot(recommendation, "spots_per_hit", "Spots on a hit", "Median over the hits."),
                ]
            ),
            _table(recommendation),
        ),
        page.section("spots", "Spots per frame", plots.figure(spots_plot(scan, recommendation))),
    ]
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    frames = f"{len(scan.frames)} frames looked at, {scan.frames[0]} to {scan.frames[-1]} (counted from 0)"
    facts = [
        ("files", f"{images[0]}{more}"),
        ("frames", frames),
        ("background", f"{round(float(np.median(scan.median_background)), 3):g} counts per pixel, median"),
    ]
    template = Template((files(__package__ or "") / TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"Thresholds for {images[0].name}"),
        about=page.facts(facts),
        notices="",
        body="".join(body),
        plotly=get_plotlyjs(),
    )


def _recommendation(recommendation: Recommendation) -> list[str]:
    if recommendation.best is None:
        box, title = "warning", "Nothing to recommend"
    elif recommendation.options:
        box, title = "good", shlex.join(" ".join(recommendation.options).split())
    else:
        box, title = "good", "The settings are fine as they are"
    inside = f"<strong>{html.escape(title)}</strong>{page.items(recommendation.reasons)}"
    return [f'<div class="notice {box}">{inside}</div>']


def label(thresholds: Thresholds) -> str:
    """One point of the grid in few words."""
    t = thresholds
    return f"min_snr {t.min_snr:g}, min_significance {t.min_significance:g}, min_counts {t.min_counts:g}"


def varied(points: Sequence[PointJudgement]) -> str:
    """Which threshold of the pixels was varied beside min_significance."""
    return "min_counts" if len({point.thresholds.min_counts for point in points}) > 1 else "min_snr"


def grid_plot(recommendation: Recommendation, name: str, title: str, caption: str) -> Plot:
    """One number over the grid, as colours with figures."""
    points = recommendation.points
    across = sorted({point.thresholds.min_significance for point in points})
    up = sorted({getattr(point.thresholds, varied(points)) for point in points})
    values = np.full((len(up), len(across)), np.nan)
    for point in points:
        row, column = (
            up.index(getattr(point.thresholds, varied(points))),
            across.index(point.thresholds.min_significance),
        )
        values[row, column] = getattr(point, name)
    texts = [
        [page.number(value, 0 if value >= 10 or name == "n_hits" else 1) for value in row] for row in values
    ]
    figure = go.Figure(
        go.Heatmap(
            z=_ranks(values),
            x=[f"{v:g}" for v in across],
            y=[f"{v:g}" for v in up],
            text=texts,
            texttemplate="%{text}",
            colorscale="Blues",
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{text}<extra></extra>",
            zmin=-0.3,
            zmax=1.6,
        )
    )
    styled(figure, height=260).update_layout(hovermode="closest")
    figure.update_xaxes(title_text="min_significance", type="category")
    figure.update_yaxes(title_text=varied(points), type="category")
    for place, colour in ((recommendation.now, GREY), (recommendation.best, ORANGE)):
        if place is not None:
            t = place.thresholds
            column, row = across.index(t.min_significance), up.index(getattr(t, varied(points)))
            figure.add_shape(
                type="rect", x0=column - 0.47, x1=column + 0.47, y0=row - 0.47, y1=row + 0.47,
                line={"color": colour, "width": 3},
            )  # fmt: skip
    return Plot(figure, title, f"{caption} Grey frame: as it is now; orange: recommended.")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values as shares of their range, on a logarithmic scale."""
    logs = np.log1p(np.maximum(values, 0))
    low, high = np.nanmin(logs, initial=np.inf), np.nanmax(logs, initial=-np.inf)
    return (logs - low) / (high - low) if high > low else np.zeros_like(logs)


def _table(recommendation: Recommendation) -> str:
    """All points with all their numbers, folded away."""
    headings = [page.plain_heading(text) for text in (
        "thresholds", "spots on a blank", "safe cut", "hits", "of ice", "spots on a hit",
    )]  # fmt: skip
    rows = [
        page.row(
            [
                label(point.thresholds),
                page.number(point.false_spots),
                str(point.safe_cut or page.UNKNOWN),
                str(point.n_hits),
                str(point.n_icy_hits),
                page.number(point.spots_per_hit, 0),
            ],
            first_is_text=True,
        )
        for point in recommendation.points
    ]
    return page.folded("All numbers", page.table(headings, rows))


def spots_plot(scan: ThresholdScan, recommendation: Recommendation) -> Plot:
    """Histogram of spots per frame at one point of the grid; a slider changes it."""
    edges = count_bins(int(max(scan.n_spots.max(initial=1), scan.settings.min_spots_for_hit)), 30)
    drawn = on_count_axis(edges)
    drawn[0] = -0.4
    blank, figure, steps = blanks(scan), go.Figure(), []
    for number, judged in enumerate(recommendation.points):
        shown = number == recommendation.best_point
        for chosen, name, colour in ((blank, "blanks", GREY), (~blank, "other frames", BLUE)):
            counts, _ = np.histogram(scan.n_spots[number][chosen], edges)
            figure.add_bar(
                x=(drawn[1:] + drawn[:-1]) / 2, y=counts, width=np.diff(drawn), name=name, visible=shown,
                marker={"color": colour}, hovertemplate="%{y} frames",
            )  # fmt: skip
        visible = [place // 2 == number for place in range(2 * len(recommendation.points))]
        cut = _cut(recommendation, number)
        x = float(np.log10(cut - 0.5))
        steps.append(
            {
                "method": "update",
                "label": str(number + 1),
                "args": [
                    {"visible": visible},
                    {"shapes[0].x0": x, "shapes[0].x1": x, "title.text": _slider_title(judged, cut)},
                ],
            }
        )
    start = recommendation.best_point
    cut = _cut(recommendation, start)
    figure.add_vline(x=float(np.log10(cut - 0.5)), line={"color": INK, "width": 1.5, "dash": "dash"})
    styled(figure, height=440).update_layout(
        barmode="stack",
        hovermode="closest",
        title={"text": _slider_title(recommendation.points[start], cut), "font": {"size": 13}, "y": 0.98},
        margin={"t": 62},
        sliders=[
            {
                "steps": steps,
                "active": start,
                "currentvalue": {"prefix": "point of the grid: "},
                "pad": {"t": 45},
            }
        ],
    )
    ticks = on_count_axis(np.array(COUNT_TICKS))
    ticks[0] = drawn[:2].mean()
    figure.update_xaxes(
        title_text="spots per frame",
        tickvals=ticks,
        ticktext=[str(n) for n in COUNT_TICKS],
        range=[-0.42, drawn[-1]],
    )
    figure.update_yaxes(title_text="frames", rangemode="tozero")
    caption = (
        "Good: two separate humps, blanks and hits, with the dashed cut in the valley between them. The "
        "slider goes through all thresholds tried. Blanks are frames with next to no spots at the strictest "
        "thresholds; weak hits may be among them."
    )
    return Plot(figure, "Spots per frame", caption)


def _cut(recommendation: Recommendation, point: int) -> int:
    """The cut drawn: the one recommended, elsewhere the safe one."""
    if recommendation.best is not None and point == recommendation.best_point:
        return recommendation.best.cut
    return recommendation.points[point].cut


def _slider_title(judged: PointJudgement, cut: int) -> str:
    return f"{label(judged.thresholds)}; cut at {cut} spots"
