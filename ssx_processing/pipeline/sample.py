"""The sample that the images are processed with: as given, and where nobody gave it as found."""

from dataclasses import asdict
from pathlib import Path

import gemmi
import numpy as np

from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import SUMMARY, atomic_folder, read_summary, write_json
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.lattice_type import lattice_type
from ssx_processing.kernels.laue_classes import exact_space_group, group_of_class
from ssx_processing.models import Plan, UnitCell
from ssx_processing.pipeline.cell_frames import Progress, spots_of_hits
from ssx_processing.pipeline.find_cell import CellProposal, CellSearch, find_cells
from ssx_processing.pipeline.stream_plan import are_streams, sample_of_stream
from ssx_processing.settings import (
    RequestedSample,
    RequestedSettings,
    SampleSettings,
    content_key,
)

NOT_DETERMINED = "the true symmetry may be lower, and screw axes are not determined"


def sample_of_plan(
    plan: Plan, settings: RequestedSettings, run_folder: Path, progress: Progress | None = None
) -> SampleSettings:
    """Return the sample as given; a cell that is missing is sought in the images, or was found before.

    Raises
    ------
    SettingsError
        The cell was not given and none can be found, or what was given contradicts what was found.
    """
    sample = settings.sample
    if sample.known is not None:
        return sample.known
    if are_streams(plan.paths):
        return sample_of_stream(plan.paths[0], sample)
    if sample.unit_cell is not None:
        return sample_of_cell(sample, sample.unit_cell)
    return sample_of_search(sample, search_of_plan(plan, settings, run_folder, progress))


def sample_of_cell(sample: RequestedSample, cell: UnitCell) -> SampleSettings:
    """Return the sample whose cell is given and whose space group is not, or only its class."""
    if sample.space_group is not None:
        group = group_of_class(sample.space_group)
        if group is None:
            raise SettingsError(f"space group {sample.space_group} stands for no group of a chiral crystal")
        return SampleSettings(unit_cell=cell, space_group=group.xhm(), assumed=(_of_class(sample, group),))
    gruber = gemmi.GruberVector(gemmi.UnitCell(*cell), "P", False)
    gruber.niggli_reduce()
    a, b, c, alpha, beta, gamma = gruber.get_cell().parameters
    found = lattice_type((a, b, c, alpha, beta, gamma))
    note = f"space group not given: {found.space_group.hm}, the highest symmetry that a primitive cell allows"
    if not np.allclose(found.cell, cell, rtol=0.005):
        note += f", in the setting {cell_words(found.cell)}"
    return SampleSettings(
        unit_cell=found.cell, space_group=found.space_group.xhm(), assumed=(f"{note}; {NOT_DETERMINED}",)
    )


def sample_of_search(sample: RequestedSample, search: CellSearch) -> SampleSettings:
    """Return the sample with the cell that was found.

    Raises
    ------
    SettingsError
        None was found, not so many, or it contradicts the space group given.
    """
    wanted, n = sample.cell_cluster, len(search.proposals)
    if not n:
        raise SettingsError(f"no unit cell was given, and none can be found: {why_none(search)}")
    if wanted > n:
        raise SettingsError(f"cell cluster {wanted} is wanted, but only {n} {_cells(n)} found")
    proposal = search.proposals[wanted - 1]
    others = f" ({n - 1} other {'proposal' if n == 2 else 'proposals'}: see ssx cells)" if n > 1 else ""
    notes = [
        f"cell not given: taking {cell_words(proposal.cell)} {proposal.lattice}, which indexes "
        f"{100 * proposal.share:.0f} % of {search.n_hits} hits{others}"
    ]
    centring = proposal.lattice[1]
    if sample.space_group is None:
        group = gemmi.SpaceGroup(proposal.space_group)
        notes.append(
            f"space group not given: {group.hm}, the highest symmetry that the lattice allows; "
            f"{NOT_DETERMINED}"
        )
    elif (exact := exact_space_group(sample.space_group)) is not None:
        group = exact
    else:
        group = group_of_class(sample.space_group, centring) or gemmi.SpaceGroup(proposal.space_group)
        notes.append(_of_class(sample, group))
    return _checked(proposal, group, tuple(notes))


def _checked(proposal: CellProposal, group: gemmi.SpaceGroup, notes: tuple[str, ...]) -> SampleSettings:
    is_compatible = gemmi.UnitCell(*proposal.cell).is_compatible_with_spacegroup(group, 0.005)
    if group.centring_type() != proposal.lattice[1] or not is_compatible:
        raise SettingsError(
            f"space group {group.hm} contradicts the cell found, {cell_words(proposal.cell)} "
            f"{proposal.lattice}; give --cell, another --cell-cluster, or no --space-group"
        )
    return SampleSettings(unit_cell=proposal.cell, space_group=group.xhm(), assumed=notes)


def _of_class(sample: RequestedSample, group: gemmi.SpaceGroup) -> str:
    return (
        f"of the space group only {sample.space_group} was given: {group.hm} stands for it; "
        "screw axes are not determined"
    )


def _cells(n: int) -> str:
    return "cell was" if n == 1 else "cells were"


def why_none(search: CellSearch) -> str:
    """Why no cell was found, and what to do; for people."""
    advice = "look at more frames, or check beam centre, distance and wavelength"
    if search.n_hits < 3:
        return f"there are only {search.n_hits} hits among the frames looked at; {advice}, or spots.min_snr"
    if search.n_found == 0:
        return f"on none of {search.n_searched} hits do the spots lie on a lattice; {advice}"
    return (
        f"{search.n_found} of {search.n_searched} hits have a lattice of their own, but no two agree "
        f"well enough; {advice}"
    )


def cell_words(cell: UnitCell) -> str:
    """Cell in short.

    Examples
    --------
    >>> cell_words((79.1, 79.1, 37.9, 90.0, 90.0, 90.0)), cell_words((45.0, 65.0, 90.0, 90.0, 100.5, 90.0))
    ('79.1 79.1 37.9', '45.0 65.0 90.0 90.0 100.5 90.0')
    """
    shown = cell[:3] if np.allclose(cell[3:], 90.0) else cell
    return " ".join(f"{value:.1f}" for value in shown)


def search_of_plan(
    plan: Plan, settings: RequestedSettings, run_folder: Path, progress: Progress | None = None
) -> CellSearch:
    """Seek the cell in frames of a data set, or find that this was done; stored in ``cells/<key>``."""
    relevant = settings.model_dump(include={"spots", "cells", "indexing", "calibration"})
    of_part = {} if plan.frames_there is None else {"frames": plan.frames_there}
    key = content_key({"stage": "cells", "input": plan.identity, **of_part, **relevant})
    folder = RunFolder(run_folder).cells / key
    if (folder / SUMMARY).is_file():
        return read_search(folder)
    with FrameSet(plan.paths, plan.geometry_file) as frames:
        seen = spots_of_hits(frames, settings, progress, plan.frames_to_learn_from)
    search = find_cells(
        seen.hits,
        seen.s0,
        seen.sigma_q,
        min_edge=settings.cells.min_edge,
        max_edge=settings.cells.max_edge,
        progress=progress,
    )
    with atomic_folder(folder) as temporary:
        write_search(temporary, search)
    return search


def write_search(folder: Path, search: CellSearch) -> None:
    """Write all proposals as summary.json."""
    content = asdict(search)
    for proposal in content["proposals"]:
        proposal["cells"] = np.asarray(proposal["cells"]).round(3).tolist()
    write_json(folder / SUMMARY, content)


def read_search(folder: Path) -> CellSearch:
    """Read what `write_search` wrote.

    Raises
    ------
    ChunkError
        The folder is incomplete.
    """
    content = read_summary(folder)
    proposals = tuple(
        CellProposal(
            **proposal
            | {
                "cell": tuple(proposal["cell"]),
                "spread": tuple(proposal["spread"]),
                "cells": np.array(proposal["cells"], np.float64).reshape(-1, 6),
            }
        )
        for proposal in content.pop("proposals")
    )
    return CellSearch(proposals=proposals, **content)
