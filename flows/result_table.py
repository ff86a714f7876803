"""The figures that a result is known by."""

from flows.outcome import Outcome


def result_rows(outcome: Outcome) -> list[tuple[str, str]]:
    """Names and values of the table that ends a run."""
    counts, merge, overall = outcome.counts, outcome.merge, outcome.merge.overall
    return [
        ("frames_total", f"{counts.frames_total}"),
        ("frame_hits", f"{counts.frame_hits} ({counts.hit_rate:.1%})"),
        ("frames_indexed", f"{counts.frames_indexed} ({counts.indexing_rate:.1%} of hits)"),
        ("lattices_indexed", f"{counts.lattices_indexed}"),
        ("lattices_merged", f"{merge.lattices_merged}"),
        ("space group", merge.space_group),
        ("unit cell", "  ".join(f"{value:.2f}" for value in merge.unit_cell)),
        ("resolution", f"{overall.d_max:.2f} - {overall.d_min:.2f} Å"),
        ("completeness", f"{overall.completeness:.3f}"),
        ("multiplicity", f"{overall.multiplicity:.1f}"),
        ("CC1/2", f"{overall.cc_half:.3f}"),
        ("Rsplit", f"{overall.r_split:.3f}"),
    ]
