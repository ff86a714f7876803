"""The page for people: one HTML file that works offline, written from the folders of a run. Read first.

`report_data` reads, `report_notices` says what is wrong, `report_tables` and the modules of plots draw;
look and script are in ``report_template.html``.
"""

import html
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline import report_tables as tables
from ssx_processing.pipeline.growth_curve import growth_of_table, growth_words
from ssx_processing.pipeline.reference_check import reference_words
from ssx_processing.pipeline.report_cell_plots import cell_plots, cell_scatter_plots
from ssx_processing.pipeline.report_data import ReportData, read_report_data
from ssx_processing.pipeline.report_difference_plots import difference_plots
from ssx_processing.pipeline.report_frame_plots import collection_plot, lattice_plots, spots_plot
from ssx_processing.pipeline.report_geometry import geometry_section
from ssx_processing.pipeline.report_growth_plots import growth_plots
from ssx_processing.pipeline.report_indexing import indexing_section
from ssx_processing.pipeline.report_merge_plots import scale_plots, shell_plots
from ssx_processing.pipeline.report_notices import Notice, notices
from ssx_processing.pipeline.report_plots import PlotWriter
from ssx_processing.pipeline.report_scaling import scaling_section
from ssx_processing.pipeline.report_setting_plot import setting_plots
from ssx_processing.pipeline.subset_differences import difference_words

TEMPLATE = "report_template.html"


def write_report(
    run_folder: Path,
    merge_folder: Path | None,
    *,
    missing: Sequence[str] = (),
    merge_problem: str = "",
    reused: Collection[str] | None = None,
    facts: Mapping[str, str] | None = None,
    page: Path | None = None,
) -> Path:
    """Write the page of a run, by default into its folder, replacing an older one only when whole.

    The folders alone are enough; the rest says more than they do.

    Parameters
    ----------
    run_folder
        With plan.json, calibration and chunks.
    merge_folder
        The merge to show, which may join several runs; None if there is none.
    missing
        One sentence for each chunk that is not in the result; by default those that the merge knows.
    merge_problem
        Why there is no merge.
    reused
        Keys of the chunks that were not computed this time.
    facts
        Shown below the title, e.g. proposal and sample.
    page
        Where it goes instead.

    Raises
    ------
    ChunkError
        There is no plan, or a result folder is damaged.
    """
    data = read_report_data(
        run_folder,
        merge_folder,
        missing=missing,
        merge_problem=merge_problem,
        reused=frozenset(reused) if reused is not None else None,
        facts=facts,
    )
    path = page or RunFolder(run_folder).report
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(report_page(data), encoding="utf-8")
    temporary.replace(path)
    return path


def report_page(data: ReportData) -> str:
    """The page as text."""
    template = Template((files(__package__ or "") / TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(data.name),
        about=_about(data),
        notices=_notice_boxes(notices(data)),
        body="".join([_overview(data), *_sections(data)]),
        plotly=get_plotlyjs(),
    )


def _about(data: ReportData) -> str:
    pairs = dict(data.facts)
    if data.data_collection_id is not None:
        pairs["dataCollectionId"] = str(data.data_collection_id)
    sample = data.settings.sample
    pairs["expected"] = f"{sample.space_group}, cell {tables.cell_text(sample.unit_cell)}"
    pairs["folder"] = str(data.run_folder)
    pairs["page written"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return page.facts(pairs.items())


def _notice_boxes(found: Sequence[Notice]) -> str:
    if not found:
        return '<div class="notice good"><strong>Complete.</strong> All chunks are in, no warnings.</div>'
    boxes = []
    for notice in found:
        css, word = ("severe", "Attention") if notice.is_severe else ("warning", "Note")
        lines = page.items(notice.lines) if notice.lines else ""
        title = html.escape(notice.title)
        boxes.append(f'<div class="notice {css}" role="alert"><strong>{word}: {title}</strong>{lines}</div>')
    return "".join(boxes)


def _overview(data: ReportData) -> str:
    return page.section("overview", "Result", tables.in_words(data), tables.headline(data))


def _sections(data: ReportData) -> list[str]:
    plots = PlotWriter()
    sections = [
        page.section(
            "collection", "Frames", plots.figure(collection_plot(data)), plots.figure(spots_plot(data))
        ),
    ]
    sections.append(indexing_section(data, plots))
    if len(data.lattices):
        cells = (
            "A single narrow hump around the expected value is good; two humps are two crystal forms, an "
            "offset is a wrong distance or wavelength. Parameters that the symmetry fixes are not shown."
        )
        sections.append(
            page.section(
                "cells",
                "Unit cell",
                page.paragraph(cells),
                plots.row([*cell_plots(data), *cell_scatter_plots(data)]),
                tables.cell_table(data),
            )
        )
    if data.merge is not None and data.merge.summary.shells:
        sections += [_merged_section(data, plots), scaling_section(data.merge, plots)]
    if len(data.lattices):
        scales = plots.row(scale_plots(data.merge)) if data.merge is not None else ""
        found = plots.row(lattice_plots(data))
        sections.append(page.section("lattices", "Lattices", found, scales, tables.excluded_table(data)))
    return [*sections, *_provenance(data, plots)]


def _merged_section(data: ReportData, plots: PlotWriter) -> str:
    if data.merge is None:
        return ""
    curves = plots.row(shell_plots(data.merge, data.settings.merging.cc_half_limit))
    parts = [curves, tables.shell_table(data), plots.row(setting_plots(data.merge))]
    if data.merge.summary.reference is not None:
        parts.append(page.paragraph(reference_words(data.merge.summary.reference)))
    if data.merge.growth is not None:
        words = growth_words(growth_of_table(data.merge.growth))
        parts += [page.paragraph(words) if words else "", plots.row(growth_plots(data.merge.growth))]
    if data.merge.differences is not None:
        parts += [page.paragraph(words) for words in difference_words(data.merge.differences)]
        parts.append(plots.row(difference_plots(data.merge.differences)))
    return page.section("merging", "Merged intensities", *parts)


def _provenance(data: ReportData, plots: PlotWriter) -> list[str]:
    about = "CPU seconds are of one core; the first chunk of a worker includes some start-up."
    return [
        page.section("chunks", "Chunks", tables.chunk_table(data), page.paragraph(about)),
        geometry_section(data, plots),
        page.section(
            "calibration", "Calibration", tables.calibration_facts(data.calibration, data.wavelength)
        ),
        page.section(
            "settings",
            "Settings and versions",
            page.paragraph("Values marked * differ from the default."),
            tables.settings_table(data.settings),
            tables.version_facts(data),
        ),
        page.section("files", "Files", tables.file_facts(data)),
        page.section("words", "What the numbers mean", tables.glossary()),
    ]
