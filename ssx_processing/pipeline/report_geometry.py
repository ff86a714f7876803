"""The page's section on the geometry: what was refined, how well it is known, whether it drifts."""

import math

from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.drift import DriftPoint
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.report_data import ReportData
from ssx_processing.pipeline.report_geometry_plots import correlation_plot, drift_plots, total_drift
from ssx_processing.pipeline.report_plots import PlotWriter

LEVELS = {
    "none": "nothing",
    "centre": "beam centre",
    "detector": "beam centre, distance and tilts",
    "panels": "beam centre, distance, tilts and groups of panels",
}


def geometry_section(data: ReportData, plots: PlotWriter) -> str:
    """All about the geometry; empty without a calibration."""
    if data.calibration is None:
        return ""
    refinement = data.calibration.refinement
    parts = [_facts(refinement)]
    if refinement.notes:
        parts.append(page.items([note[0].upper() + note[1:] + "." for note in refinement.notes]))
    if refinement.names:
        parts.append(_parameter_table(refinement))
    if refinement.group_names:
        parts.append(
            page.folded(f"groups of panels ({len(refinement.group_names)})", _group_table(refinement))
        )
    if len(refinement.names) > 2:
        parts.append(plots.figure(correlation_plot(refinement)))
    drift = drift_plots(data)
    if drift:
        parts += [plots.row(drift), page.paragraph(_total(total_drift(data)))]
    return page.section("geometry", "Geometry", *parts)


def _facts(refinement: GeometryRefinement) -> str:
    cell = refinement.unit_cell
    rows = [
        ("refined", LEVELS[refinement.level]),
        (
            "lattices, spots that counted",
            f"{refinement.n_lattices}, {refinement.n_spots} with I/σ of {refinement.min_snr:.1f} or more",
        ),
        ("rmsd of spots before, after", f"{_px(refinement.rmsd_before_px)}, {_px(refinement.rmsd_after_px)}"),
    ]
    if cell is not None:
        rows.append(("mean cell of the crystals", " ".join(f"{v:.2f}" for v in cell)))
    return page.facts(rows)


def _px(value: float) -> str:
    return f"{value:.2f} px" if math.isfinite(value) else page.UNKNOWN


def _parameter_table(refinement: GeometryRefinement) -> str:
    headings = [
        page.plain_heading(text) for text in ("parameter", "refined - given", "standard deviation", "unit")
    ]
    rows = [
        page.row([name, f"{shift:+.4f}", f"{sd:.4f}", unit], first_is_text=True)
        for name, shift, sd, unit in zip(
            refinement.names, refinement.shifts, refinement.sds, refinement.units, strict=True
        )
    ]
    return page.table(headings, rows)


def _group_table(refinement: GeometryRefinement) -> str:
    names = ("group", "x / mm", "y / mm", "z / mm", "about x / mrad", "about y / mrad", "about z / mrad")
    rows = [
        page.row([name, *(f"{value:+.4f}" for value in shifts)], first_is_text=True)
        for name, shifts in zip(refinement.group_names, refinement.group_shifts, strict=True)
    ]
    return page.table([page.plain_heading(name) for name in names], rows)


def _total(point: DriftPoint | None) -> str:
    if point is None:
        return "All chunks together have too few lattices to say where the detector was."
    values = ", ".join(
        f"{name} {shift:+.3f} ± {sd:.3f} {unit}"
        for name, shift, sd, unit in zip(point.names, point.shifts, point.sds, point.units, strict=True)
    )
    return f"All chunks together against the calibration ({point.n_lattices} lattices): {values}."
