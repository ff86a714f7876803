"""Whether the cell that was given is that of the crystals, from the hits of the calibration."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import SettingsError
from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import Geometry, Lattice, SpotList, UnitCell
from ssx_processing.pipeline.cell_frames import spot_error, spot_vectors
from ssx_processing.pipeline.find_cell import CellProposal, find_cells
from ssx_processing.pipeline.sample import cell_words
from ssx_processing.settings import ProcessingSettings

MIN_HITS = 10
"""With fewer hits nothing is said."""
LOW_SHARE = 0.3
"""Below this share of the hits indexed other cells are tried: usual are 50-90 %, a wrong cell has few %."""
CLEARLY = 2.0
"""Another cell is proposed if it indexes so many times as many hits."""
NOTABLE_CHANGE = 0.01
"""A cell length that differs by more is worth saying."""
NAMES = ("a", "b", "c")


def check_cell(
    hits: Sequence[SpotList],
    geometry: Geometry,
    index: Callable[[SpotList], Sequence[Lattice]],
    settings: ProcessingSettings,
) -> tuple[str, ...]:
    """Return what must be known about the cell given, a sentence each; empty if it is right.

    Parameters
    ----------
    hits
        Spots of the hits.
    geometry
        Of the files: one that was corrected with a wrong cell is worse.
    index
        Finds the lattices of a frame with the cell given.

    Raises
    ------
    SettingsError
        The cell given indexes nothing, and another does.
    """
    if len(hits) < MIN_HITS:
        return ()
    found = [index(spots) for spots in hits]
    n_indexed = sum(bool(lattices) for lattices in found)
    given = settings.sample.unit_cell
    notices = _change(np.array([cell_of(la.a_matrix) for lattices in found for la in lattices]), given)
    if n_indexed >= LOW_SHARE * len(hits):
        return notices
    better = _better_cell(hits, geometry, n_indexed, settings)
    if better is None:
        return notices
    notice = (
        f"the cell given, {cell_words(given)}, indexes {100 * n_indexed / len(hits):.0f} % of {len(hits)} "
        f"hits; {cell_words(better.cell)} ({better.lattice}) indexes {100 * better.share:.0f} %: run again "
        f"with --cell {','.join(f'{value:.2f}' for value in better.cell)}"
    )
    if n_indexed == 0:
        raise SettingsError(notice)
    return (notice, *notices)


def _change(cells: NDArray[np.float64], given: UnitCell) -> tuple[str, ...]:
    """Lengths whose median is far from what was given."""
    if len(cells) < MIN_HITS:
        return ()
    median = np.median(cells, axis=0)
    change = median[:3] / np.array(given[:3]) - 1.0
    differing = [
        f"{name} {length:.2f} ({100 * by:+.1f} %)"
        for name, length, by in zip(NAMES, median, change, strict=False)
        if abs(by) > NOTABLE_CHANGE
    ]
    if not differing:
        return ()
    return (
        f"the cell measured differs from the one given, {cell_words(given)}: {', '.join(differing)}; "
        "all lengths alike point to the detector distance or the wavelength, one alone to the crystal",
    )


def _better_cell(
    hits: Sequence[SpotList], geometry: Geometry, n_indexed: int, settings: ProcessingSettings
) -> CellProposal | None:
    """Return the best of other cells if it indexes clearly more."""
    search = find_cells(
        [spot_vectors(spots, geometry) for spots in hits],
        geo.incident_wave_vector(geometry),
        spot_error(geometry, settings.indexing.spot_error_px),
        min_edge=settings.cells.min_edge,
        max_edge=settings.cells.max_edge,
    )
    if not search.proposals:
        return None
    best = search.proposals[0]
    given = np.array(settings.sample.unit_cell)
    is_same = np.allclose(best.cell[:3], given[:3], rtol=NOTABLE_CHANGE) and np.allclose(
        best.cell[3:], given[3:], atol=1.0
    )
    is_clear = best.n_frames >= max(CLEARLY * n_indexed, 0.5 * LOW_SHARE * len(hits))
    return best if is_clear and not is_same else None
