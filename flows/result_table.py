"""The figures that a result is known by."""

import math
from collections.abc import Mapping
from pathlib import Path

from flows.outcome import Outcome
from ssx_processing.formats.merge_record import read_merge_table
from ssx_processing.models import FrameCounts, MergeSummary, ReferenceCheck, SubsetSummary


def result_rows(outcome: Outcome) -> list[tuple[str, str]]:
    """Names and values of the table that ends a run."""
    counts, merge, overall = outcome.counts, outcome.merge, outcome.merge.overall
    return [
        ("frames_total", f"{counts.frames_total}"),
        ("frame_hits", f"{counts.frame_hits} ({counts.hit_rate:.1%})"),
        (
            "frames_indexed",
            f"{counts.frames_indexed} ({counts.indexing_rate:.1%} of hits, "
            f"{counts.indexed_fraction:.1%} of frames)",
        ),
        ("lattices_indexed", f"{counts.lattices_indexed}"),
        *_spots_explained(counts),
        ("lattices_merged", f"{merge.lattices_merged}{_left_out(merge.lattices_excluded)}"),
        ("space group", merge.space_group),
        ("unit cell", "  ".join(f"{value:.2f}" for value in merge.unit_cell)),
        ("resolution", f"{overall.d_max:.2f} - {overall.d_min:.2f} Å"),
        ("completeness", f"{overall.completeness:.3f}"),
        ("multiplicity", f"{overall.multiplicity:.1f}"),
        ("CC1/2", _with_error(overall.cc_half, overall.cc_half_error)),
        ("Rsplit", f"{overall.r_split:.3f}"),
        *_where_known("Rpim", overall.r_pim),
        *_where_known("CCanom", overall.cc_anomalous),
        *_reference(merge.reference),
    ]


def reuse_line(outcome: Outcome) -> str:
    """What of the result was there before."""
    merge = outcome.merge
    chunks = f"{outcome.chunks_reused} of {outcome.chunks_done} chunks were there already"
    if outcome.chunks_from_spots:
        found = "started from spots found before (frames without a lattice were not read)"
        chunks += f", {outcome.chunks_from_spots} {found}"
    if merge.reused:
        return f"{chunks}, the merge was there already"
    prepared = 0 if merge.chunks_read is None else merge.chunks_merged - merge.chunks_read
    if not prepared:
        return f"{chunks}, the merge is new"
    return (
        f"{chunks}, the merge is new: read {merge.chunks_read} of {merge.chunks_merged} chunks, "
        f"{prepared} as an earlier merge prepared them"
    )


def merge_lines(merge: MergeSummary) -> list[str]:
    """How it was scaled, its subsets and how they differ, and what more lattices would bring."""
    from ssx_processing.pipeline.subset_differences import difference_words

    table = read_merge_table(merge.folder, "differences")
    return [
        *([f"scaling: {merge.scaling}"] if merge.scaling else []),
        *(_subset(subset) for subset in merge.subsets),
        *(f"difference: {words}" for words in (difference_words(table) if table is not None else ())),
        *_growth(merge.folder),
    ]


def _left_out(excluded: Mapping[str, int]) -> str:
    """How many lattices were left out, and why; nothing where none was.

    Examples
    --------
    >>> _left_out({"low correlation": 2})
    ' (left out: 2 low correlation)'
    """
    reasons = ", ".join(f"{n} {reason}" for reason, n in excluded.items())
    return f" (left out: {reasons})" if reasons else ""


def _subset(subset: SubsetSummary) -> str:
    found = subset.overall
    return (
        f"subset {subset.label}: {subset.lattices_merged} lattices, completeness {found.completeness:.3f}, "
        f"multiplicity {found.multiplicity:.1f}, CC1/2 {_with_error(found.cc_half, found.cc_half_error)}"
    )


def _growth(merge_folder: Path) -> list[str]:
    from ssx_processing.pipeline.growth_curve import growth_of_table, growth_words

    table = read_merge_table(merge_folder, "growth")
    words = growth_words(growth_of_table(table)) if table is not None else ""
    return [f"growth: {words}"] if words else []


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f}"


def _where_known(name: str, value: float) -> list[tuple[str, str]]:
    """No row for results from before it was counted."""
    return [(name, f"{value:.3f}")] if math.isfinite(value) else []


def _reference(check: ReferenceCheck | None) -> list[tuple[str, str]]:
    if check is None:
        return []
    return [("reference", f"{check.verdict}; CC {check.cc:.3f}, Riso {check.r_iso:.3f} to {check.source}")]


def _spots_explained(counts: FrameCounts) -> list[tuple[str, str]]:
    """Spots that lattices explain, and shares of the spots; no row for results from before they were counted.

    Examples
    --------
    >>> _spots_explained(FrameCounts(spots_on_hits=200, spots_on_indexed=160, spots_explained=120))
    [('spots explained', '120 (60.0% on hits, 75.0% on indexed frames)')]
    """
    if not counts.spots_on_hits:
        return []
    of_hits = counts.spots_explained / counts.spots_on_hits
    of_indexed = counts.spots_explained / max(counts.spots_on_indexed, 1)
    shares = f"{of_hits:.1%} on hits, {of_indexed:.1%} on indexed frames"
    return [("spots explained", f"{counts.spots_explained} ({shares})")]
