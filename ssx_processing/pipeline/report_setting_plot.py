"""Plot of how clearly each lattice belongs to its indexing setting."""

import numpy as np
import plotly.graph_objects as go

from ssx_processing.kernels.reindexing import IDENTITY
from ssx_processing.pipeline.report_binning import value_bins
from ssx_processing.pipeline.report_colours import BLUE, GREEN, INK, ORANGE, PURPLE, RED
from ssx_processing.pipeline.report_data import MergeResult
from ssx_processing.pipeline.report_plots import Plot, bars, styled

_COLOURS = (ORANGE, GREEN, PURPLE, RED)


def setting_plots(merge: MergeResult) -> list[Plot]:
    """Margins of the lattices by setting; none where there was nothing to tell, or it was not resolved."""
    if "ambiguity_margin" not in merge.lattices:
        return []
    lattices = merge.lattices[merge.lattices["ambiguity_margin"].notna()]
    if lattices.empty:
        return []
    reindexing = lattices["reindexing"].to_numpy(str)
    as_indexed = reindexing == IDENTITY
    signed = np.where(as_indexed, 1.0, -1.0) * lattices["ambiguity_margin"].to_numpy(float)
    edges = value_bins(signed)
    figure = go.Figure(bars(edges, signed[as_indexed], name="as indexed", colour=BLUE))
    for i, operator in enumerate(np.unique(reindexing[~as_indexed])):
        mine = reindexing == operator
        figure.add_trace(bars(edges, signed[mine], name=operator, colour=_COLOURS[i % len(_COLOURS)]))
    styled(figure).update_layout(barmode="stack", showlegend=True)
    figure.add_vline(x=0, line={"color": INK, "width": 1.2, "dash": "dash"})
    figure.update_xaxes(title_text="correlation as indexed less that reindexed")
    figure.update_yaxes(title_text="lattices")
    caption = (
        "Humps on both sides with little at 0 (dashed) are good; lattices near 0 may be in the wrong "
        "setting. One hump only: all had been indexed alike."
    )
    tooltip = (
        "Correlation of a lattice with all others in its setting, less that in the next best setting; to the "
        "left those that were reindexed."
    )
    return [Plot(figure, "Indexing setting", caption, tooltip)]
