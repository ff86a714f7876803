"""Headline and tables of the page."""

import html
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np
from pydantic import BaseModel

from ssx_processing import __version__
from ssx_processing.kernels.geometry import beam_centre_px
from ssx_processing.models import ShellStatistics
from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.calibration import Calibration
from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.report_cell_plots import SYMBOLS, free_cell_parameters
from ssx_processing.pipeline.report_data import ChunkRecord, ReportData
from ssx_processing.pipeline.report_words import WORDS
from ssx_processing.settings import ALGORITHM_VERSION, ProcessingSettings

MAX_FILES = 200
LIBRARIES = ("numpy", "numba", "gemmi", "h5py", "hdf5plugin", "scipy", "pandas", "plotly")
SHELL_COLUMNS = (
    ("n_observations", 0), ("n_reflections", 0), ("n_possible", 0), ("completeness", 3), ("multiplicity", 1),
    ("mean_i_over_sigma", 2), ("cc_half", 3), ("cc_star", 3), ("r_split", 3),
)  # fmt: skip
LATER_SHELL_COLUMNS = (("r_meas", 3), ("r_pim", 3), ("cc_anomalous", 3), ("anomalous_completeness", 3))
"""Shown where anything is known of them: results of before they were counted have none."""
HEADLINE_STATISTICS = (
    ("completeness", 3), ("multiplicity", 1), ("cc_half", 3), ("cc_star", 3), ("r_split", 3),
    ("mean_i_over_sigma", 2),
)  # fmt: skip


def cell_text(cell: tuple[float, ...]) -> str:
    """Cell for people.

    Examples
    --------
    >>> cell_text((79.1, 79.1, 37.9, 90.0, 90.0, 90.0))
    '79.10 79.10 37.90 90.00 90.00 90.00'
    """
    return " ".join(f"{value:.2f}" for value in cell)


def headline(data: ReportData) -> str:
    """The numbers that are looked at first."""
    counts = data.counts
    hit_rate, indexing_rate = (WORDS[name].label for name in ("hit_rate", "indexing_rate"))
    frames = [
        page.tile("frames_total", str(counts.frames_total), f"of {data.frames_total} in the files"),
        page.tile("frames_unreadable", str(counts.frames_unreadable)),
        page.tile(
            "frame_hits",
            str(counts.frame_hits),
            f"{hit_rate} {page.share(counts.frame_hits, counts.frames_total)} frames",
        ),
        page.tile(
            "frames_indexed",
            str(counts.frames_indexed),
            f"{indexing_rate} {page.share(counts.frames_indexed, counts.frame_hits)} hits",
        ),
        page.tile("lattices_indexed", str(counts.lattices_indexed)),
    ]
    return _tiles([*frames, _merged_tile(data)]) + _merging_tiles(data)


def _tiles(tiles: list[str]) -> str:
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _merged_tile(data: ReportData) -> str:
    if data.merge is None:
        return page.tile("lattices_merged", page.UNKNOWN, "no merge")
    summary = data.merge.summary
    read = summary.counts
    is_alone = read.frames_total == data.counts.frames_total
    others = "" if is_alone else f"; merged with others, {read.frames_total} frames in all"
    return page.tile("lattices_merged", str(summary.lattices_merged), f"of {read.lattices_indexed}{others}")


def _merging_tiles(data: ReportData) -> str:
    if data.merge is None:
        return ""
    summary = data.merge.summary
    overall, last = summary.overall, summary.shells[-1] if summary.shells else None
    tiles = [
        page.tile("resolution", f"{overall.d_max:.1f}-{overall.d_min:.2f} Å", _shell_limits(last)),
        *(
            page.tile(name, page.number(getattr(overall, name), decimals), _outer(last, name, decimals))
            for name, decimals in HEADLINE_STATISTICS
        ),
        page.tile("wilson_b", f"{page.number(summary.wilson_b, 1)} Å²"),
        page.tile("space_group", summary.space_group),
        page.tile(
            "unit_cell", cell_text(summary.unit_cell), "median of merged lattices; Å and degrees", css="wide"
        ),
    ]
    return _tiles(tiles)


def _shell_limits(shell: ShellStatistics | None) -> str:
    return f"outer shell {shell.d_max:.2f}-{shell.d_min:.2f}" if shell else ""


def _outer(shell: ShellStatistics | None, name: str, decimals: int) -> str:
    return f"outer shell {page.number(getattr(shell, name), decimals)}" if shell else ""


def in_words(data: ReportData) -> str:
    """The result in two sentences."""
    counts = data.counts
    if not counts.frame_hits:
        return page.paragraph(f"None of {counts.frames_total} frames shows diffraction.")
    text = (
        f"{counts.frame_hits} of {counts.frames_total} frames show diffraction; "
        f"{counts.frames_indexed} of these were indexed and gave {counts.lattices_indexed} lattices."
    )
    if data.merge is not None:
        summary, overall = data.merge.summary, data.merge.summary.overall
        text += (
            f" {summary.lattices_merged} lattices were merged to {overall.d_min:.2f} Å: every reflection was "
            f"observed {overall.multiplicity:.1f} times on average; the result holds "
            f"{overall.n_reflections} of {overall.n_possible} possible ones; "
            f"CC1/2 is {page.number(overall.cc_half, 3)}."
        )
    return page.paragraph(text)


def shell_table(data: ReportData) -> str:
    """Statistics by resolution; Table 1 is made from its last row."""
    if data.merge is None:
        return ""
    summary = data.merge.summary
    shells = [*summary.shells, summary.overall]
    later = [
        column for column in LATER_SHELL_COLUMNS if any(np.isfinite(getattr(s, column[0])) for s in shells)
    ]
    columns = (*SHELL_COLUMNS, *later)
    headings = [page.plain_heading("Å"), *(page.heading(name) for name, _ in columns)]
    rows = [page.row(_shell_cells(shell, columns), first_is_text=True) for shell in summary.shells]
    rows.append(page.row(_shell_cells(summary.overall, columns), css="sum", first_is_text=True))
    return page.table(headings, rows)


def _shell_cells(shell: ShellStatistics, columns: Sequence[tuple[str, int]]) -> list[str]:
    numbers = [page.number(getattr(shell, name), decimals) for name, decimals in columns]
    return [f"{shell.d_max:.2f}-{shell.d_min:.2f}", *numbers]


def cell_table(data: ReportData) -> str:
    """Medians and spreads of the free cell parameters."""
    merged = data.lattices["merged"].to_numpy(bool)
    groups = [("all lattices", np.ones(len(merged), bool))] + [("merged", merged)] * bool(merged.any())
    headings = [page.plain_heading(text) for text in ("", "expected")]
    headings += [page.plain_heading(f"{what}, {name}") for name, _ in groups for what in ("median", "s.d.")]
    rows = []
    for name in free_cell_parameters(data.settings.sample.gemmi_space_group):
        place = CELL_COLUMNS.index(name)
        values = data.lattices[name].to_numpy(float)
        cells = [f"{SYMBOLS[name]} / {'Å' if place < 3 else '°'}"]
        cells.append(f"{data.settings.sample.unit_cell[place]:.2f}")
        for _, chosen in groups:
            some = values[chosen]
            cells.append(page.number(float(np.median(some)) if len(some) else None, 3))
            cells.append(page.number(float(np.std(some, ddof=1)) if len(some) > 1 else None, 3))
        rows.append(page.row(cells, first_is_text=True))
    return page.table(headings, rows)


def excluded_table(data: ReportData) -> str:
    """Why lattices are not in the merged intensities."""
    if data.merge is None:
        return ""
    excluded = data.merge.summary.lattices_excluded
    if not excluded:
        return page.paragraph("No lattice was left out.")
    total = data.merge.summary.counts.lattices_indexed
    rows = [
        page.row([reason, str(n), page.share(n, total)], first_is_text=True) for reason, n in excluded.items()
    ]
    return page.table([page.plain_heading(t) for t in ("left out because", "lattices", "share")], rows)


def chunk_table(data: ReportData) -> str:
    """One row for each chunk of the plan."""
    headings = [page.plain_heading(text) for text in ("chunk", "images", "result")]
    names = ("frames_total", "frames_unreadable", "frame_hits", "frames_indexed", "lattices_indexed")
    headings += [*map(page.heading, names), page.heading("hit_rate"), page.heading("indexing_rate")]
    headings += [page.heading("cpu_per_frame"), page.plain_heading("folder")]
    rows = [_chunk_row(chunk, data.reused, names) for chunk in data.chunks]
    return page.table(headings, rows)


def _chunk_row(chunk: ChunkRecord, reused: frozenset[str] | None, names: tuple[str, ...]) -> str:
    start, counts = [str(chunk.number), chunk.images], chunk.counts
    if counts is None:
        return page.row([*start, "MISSING", *[page.UNKNOWN] * (len(names) + 4)], css="bad")
    result = "done, spots reused" if chunk.spots_reused else "done"
    if reused is not None and chunk.folder.name in reused:
        result = "reused"
    cells = [*start, result, *(str(getattr(counts, name)) for name in names)]
    cells += [
        page.number(counts.hit_rate if counts.frames_total else None, 3),
        page.number(counts.indexing_rate if counts.frame_hits else None, 3),
        page.number(chunk.cpu_seconds / max(counts.frames_total, 1), 3),
        chunk.folder.name,
    ]
    return page.row(cells)


def calibration_facts(calibration: Calibration | None, wavelength: float) -> str:
    """What was learnt before the chunks were processed."""
    if calibration is None:
        return page.paragraph("The calibration folder is not there any more.")
    x, y = beam_centre_px(calibration.geometry)
    shift_x, shift_y = calibration.beam_shift_px
    n_bad, n_hot = int(calibration.bad_pixels.sum()), calibration.n_hot_pixels
    return page.facts(
        [
            ("frames looked at", f"{calibration.n_frames}, {calibration.n_hits} hits"),
            ("lattices used", str(calibration.n_lattices)),
            ("beam centre correction", f"{shift_x:+.2f} px fast, {shift_y:+.2f} px slow"),
            ("beam centre used", f"{x:.2f} px fast, {y:.2f} px slow"),
            ("pixels masked", f"{n_bad}, of these {n_hot} found hot"),
            ("saturation", f"{calibration.saturation:g} counts"),
            ("rocking width", calibration.rocking.in_words),
            ("radius of masks of round spots", f"{calibration.peak_radius_px:.2f} px"),
            ("wavelength", f"{wavelength:.5f} Å"),
            ("folder", calibration.folder.name),
        ]
    )


def settings_table(settings: ProcessingSettings) -> str:
    """All settings with default and meaning; those that differ are marked."""
    headings = [page.plain_heading(text) for text in ("setting", "value", "default", "meaning")]
    return page.table(headings, _setting_rows(settings, ""), css="settings")


def _setting_rows(model: BaseModel, prefix: str) -> list[str]:
    rows = []
    for name, about in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            rows += _setting_rows(value, f"{prefix}{name}.")
            continue
        is_required = about.is_required()
        is_changed = not is_required and value != about.default
        default = "required" if is_required else _setting(about.default)
        cells = (f"{prefix}{name}", _setting(value) + " *" * is_changed, default, about.description or "")
        css = ' class="changed"' if is_changed else ""
        rows.append(f"<tr{css}>{''.join(f'<td class=text>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    return rows


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return "automatic" if value is None else str(value)


def version_facts(data: ReportData) -> str:
    """What computed the chunks, and what wrote the page."""
    computed = sorted({chunk.version for chunk in data.chunks if not chunk.is_missing})
    here = [("Python", python_version()), *((name, version(name)) for name in LIBRARIES)]
    return page.facts(
        [
            ("chunks computed by", f"ssx-orchestrator {', '.join(computed) or page.UNKNOWN}"),
            ("page written by", f"ssx-orchestrator {__version__}, algorithm {ALGORITHM_VERSION}"),
            ("libraries", ", ".join(f"{name} {number}" for name, number in here)),
        ]
    )


def file_facts(data: ReportData) -> str:
    """Where results and images are."""
    results: list[tuple[str, str]] = [("results", str(data.run_folder))]
    if data.merge is not None:
        folder = data.merge.summary.folder
        results += [
            ("merged intensities (MTZ)", str(folder / "merged.mtz")),
            ("shells", str(folder / "shells.csv")),
        ]
        results += [("lattices merged and left out", str(folder / "lattices.parquet"))]
    results += [("tables of the chunks", str(data.run_folder / "chunks"))]
    return page.facts(results) + page.folded(
        f"image files ({len(data.paths)})", page.items(_listed(data.paths))
    )


def _listed(paths: tuple[Path, ...]) -> list[str]:
    lines = [str(path) for path in paths[:MAX_FILES]]
    rest = len(paths) - len(lines)
    return [*lines, f"and {rest} more, the last {paths[-1]}"] if rest else lines


def glossary() -> str:
    """All definitions, for paper and for screens without a mouse."""
    return page.facts((word.label, word.tooltip) for word in WORDS.values())
