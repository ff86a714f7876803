"""The section about indexing: shares with their denominators, misfits, residuals, rivals, chunks."""

from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.report_data import ChunkRecord, ReportData
from ssx_processing.pipeline.report_indexing_data import IndexingCounts
from ssx_processing.pipeline.report_indexing_plots import (
    excitation_plot,
    misfit_plot,
    misfit_word,
    residual_curves,
    residual_maps,
    runner_up_plot,
)
from ssx_processing.pipeline.report_plots import PlotWriter

FEWEST_SPOTS_FOR_MAPS = 200
CHUNK_HEADINGS = (
    "chunk", "images", "frames", "hits", "indexed", "of hits", "of frames", "lattices", "per indexed",
    "with 2 or more", "spots explained", "of spots on hits", "median rmsd / px",
)  # fmt: skip


def indexing_section(data: ReportData, plots: PlotWriter) -> str:
    """The section as HTML; empty without hits."""
    total = data.indexing.total
    if not total.hits:
        return ""
    parts = [share_table(total)]
    if total.misfits:
        parts += [plots.figure(misfit_plot(total)), misfit_table(total)]
    residuals = data.indexing.residuals
    if residuals is not None and data.calibration is not None:
        if len(residuals) >= FEWEST_SPOTS_FOR_MAPS:
            parts.append(plots.row(residual_maps(residuals)))
        curves = [residual_curves(residuals), excitation_plot(residuals, data.calibration.rocking)]
        parts.append(plots.row(curves))
    if "runner_up_gap" in data.lattices and data.lattices["runner_up_gap"].notna().any():
        parts.append(plots.figure(runner_up_plot(data.lattices)))
    if total.split:
        parts.append(page.paragraph(split_sentence(total)))
    parts.append(page.folded(f"Indexing by chunk ({len(data.chunks)})", chunk_table(data)))
    return page.section("indexing", "Indexing", *parts)


def share_table(total: IndexingCounts) -> str:
    """Every share beside what it is a share of."""
    per_indexed = total.lattices / total.indexed if total.indexed else None
    rows = [
        ("hits", total.hits, f"{page.share(total.hits, total.frames)} frames"),
        ("hits indexed", total.indexed, f"{page.share(total.indexed, total.hits)} hits"),
        ("frames indexed", total.indexed, f"{page.share(total.indexed, total.frames)} frames"),
        ("lattices", total.lattices, f"{page.number(per_indexed)} per indexed frame"),
        (
            "frames with two lattices or more",
            total.several,
            f"{page.share(total.several, total.indexed)} indexed frames",
        ),
        (
            "spots explained",
            total.explained,
            f"{page.share(total.explained, total.spots_on_indexed)} spots on indexed frames",
        ),
        ("", total.explained, f"{page.share(total.explained, total.spots_on_hits)} spots on hits"),
    ]
    cells = [page.row([name, str(n), text], first_is_text=True) for name, n, text in rows]
    return page.table(map(page.plain_heading, ("", "number", "share")), cells)


def misfit_table(total: IndexingCounts) -> str:
    """What the reasons mean and what to do, most frequent first."""
    headings = map(page.plain_heading, ("not indexed because", "hits", "meaning", "what to do"))
    rows = []
    for name, n in sorted(total.misfits.items(), key=lambda item: -item[1]):
        word = misfit_word(name)
        cells = (word.label, page.share(n, total.hits), word.meaning, word.advice)
        rows.append(page.text_row(cells))
    return page.table(headings, rows, css="settings")


def split_sentence(total: IndexingCounts) -> str:
    """How many crystals are split."""
    share = page.share(total.split, total.lattices)
    return (
        f"{total.split} crystals ({share} lattices) are split: beside the lattice there is nearly the same "
        "one, turned by a little. Their spots are doubled or long; it is counted once."
    )


def chunk_table(data: ReportData) -> str:
    """One row for each chunk of the plan, and the sum; a column for each reason why hits were not indexed."""
    total = data.indexing.total
    reasons = sorted(total.misfits, key=lambda name: -total.misfits[name])
    headings = [*CHUNK_HEADINGS, *(misfit_word(name).label for name in reasons)]
    rows = [_chunk_row(c, data.indexing.by_chunk.get(c.folder.name), reasons) for c in data.chunks]
    rows.append(page.row(["all", "", *_cells(total, reasons)], css="sum"))
    return page.table(map(page.plain_heading, headings), rows)


def _chunk_row(chunk: ChunkRecord, counts: IndexingCounts | None, reasons: list[str]) -> str:
    start = [str(chunk.number), chunk.images]
    if chunk.is_missing or counts is None:
        n_unknown = len(CHUNK_HEADINGS) + len(reasons) - len(start)
        return page.row([*start, *[page.UNKNOWN] * n_unknown], css="bad")
    return page.row([*start, *_cells(counts, reasons)])


def _cells(counts: IndexingCounts, reasons: list[str]) -> list[str]:
    def percent(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f} %" if whole else page.UNKNOWN

    return [
        str(counts.frames),
        str(counts.hits),
        str(counts.indexed),
        percent(counts.indexed, counts.hits),
        percent(counts.indexed, counts.frames),
        str(counts.lattices),
        page.number(counts.lattices / counts.indexed if counts.indexed else None),
        str(counts.several),
        str(counts.explained),
        percent(counts.explained, counts.spots_on_hits),
        page.number(counts.median_rmsd_px),
        *(str(counts.misfits.get(name, 0)) for name in reasons),
    ]
