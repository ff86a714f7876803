"""How the intensities were scaled: partialities, turns of the crystals, true errors, what was left out."""

import numpy as np
import plotly.graph_objects as go

from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.report_binning import value_bins
from ssx_processing.pipeline.report_colours import BLUE, GREEN, INK, ORANGE, PURPLE
from ssx_processing.pipeline.report_data import MergeResult
from ssx_processing.pipeline.report_plots import Plot, PlotWriter, bars, styled


def scaling_section(merge: MergeResult, plots: PlotWriter) -> str:
    """Words and plots; nothing for merges that did not keep their scaling."""
    if "observation_model" not in merge.details:
        return ""
    return page.section(
        "scaling",
        "Scaling",
        page.facts(_facts(merge)),
        plots.row(_model_plots(merge)),
        plots.row(_turns(merge)),
    )


def _facts(merge: MergeResult) -> list[tuple[str, str]]:
    details = merge.details
    rejected, model = details["rejected"], details["observation_model"]
    found = [
        ("model", merge.summary.scaling),
        ("cycles", f"{details['scaling_cycles']}"),
        ("outliers left out", f"{rejected['outlier']} observations"),
        (
            "not determined",
            f"{rejected['reflections_not_determined']} reflections, never seen near the sphere",
        ),
        ("counting noise", f"{model['noise_factor']:.2f} times what integration says"),
    ]
    if details["model"] == "postrefinement":
        found.append(
            ("crystals turned by", f"{model['turn_sd_deg']:.4f}° about each axis (standard deviation)")
        )
    return found + [
        (
            f"subset {subset.label}",
            f"{subset.lattices_merged} lattices, completeness {subset.overall.completeness:.3f}, "
            f"multiplicity {subset.overall.multiplicity:.1f}, CC1/2 {subset.overall.cc_half:.3f}, "
            f"Rsplit {subset.overall.r_split:.3f}",
        )
        for subset in merge.summary.subsets
    ]


def _model_plots(merge: MergeResult) -> list[Plot]:
    model, repeats = merge.details["observation_model"], merge.details["repeats"]
    knots = np.array(model["knots"])
    shown = knots <= 3.0
    figure = go.Figure()
    for name, values, colour in (("partiality", "partiality", BLUE), ("spread", "spread", ORANGE)):
        figure.add_trace(
            go.Scatter(
                x=knots[shown], y=np.array(model[values])[shown], name=name, mode="lines+markers",
                line={"color": colour, "width": 2}, hovertemplate="%{y:.3f}",
            )
        )  # fmt: skip
    styled(figure)
    figure.update_xaxes(title_text="excitation error / rocking width")
    figure.update_yaxes(range=[0, None])
    caption = (
        "Learnt from the data. A fall to 0.5 near 1 is usual; flat: the errors say nothing (wrong geometry?)."
    )
    partiality = Plot(figure, "Partiality", caption, "Mean of measured over full intensity, and its spread.")
    known = np.array(repeats["n"]) > 0
    chi = go.Figure(
        go.Bar(
            x=[f"{x:.3g}" for x in np.array(repeats["intensity"], float)[known]],
            y=np.array(repeats["chi_square"], float)[known], marker={"color": GREEN},
            hovertemplate="%{y:.2f}",
        )
    )  # fmt: skip
    styled(chi).update_layout(bargap=0.15)
    chi.add_hline(y=1, line={"color": INK, "width": 1.2, "dash": "dash"})
    chi.update_xaxes(title_text="merged intensity", type="category")
    caption = "By the model alone; standard errors are corrected by it. Far from 1 (dashed): not modelled."
    return [partiality, Plot(chi, "Chi-square of repeats", caption, "Scatter over what the model expects.")]


def _turns(merge: MergeResult) -> list[Plot]:
    if merge.details["model"] != "postrefinement" or "turn_x" not in merge.lattices:
        return []
    lattices = merge.lattices[merge.lattices["filter_reason"] == ""]
    x, y, width = (lattices[name].to_numpy(float) for name in ("turn_x", "turn_y", "width"))
    turns = np.degrees(np.hypot(x, y))
    found = []
    for values, colour, title, axis, caption in (
        (turns, BLUE, "Turns by post-refinement", "degrees", "Much beyond 0.05: orientations were poor."),
        (width, PURPLE, "Rocking width", "relative to the calibration's", "One hump around 1 is good."),
    ):
        known = values[np.isfinite(values)]
        if len(known):
            figure = styled(go.Figure(bars(value_bins(known), known, name=title, colour=colour)))
            figure.update_xaxes(title_text=axis)
            figure.update_yaxes(title_text="lattices")
            found.append(Plot(figure, title, caption))
    return found
