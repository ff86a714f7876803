"""CrystFEL streams in place of images: what is in them, and the sample that they are of."""

from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np

from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.formats.crystfel_stream import CrystfelStream, is_stream
from ssx_processing.formats.geometry_file import geometry_identity
from ssx_processing.formats.stream_geometry import stream_geometry
from ssx_processing.formats.stream_records import TargetCell
from ssx_processing.kernels.laue_classes import exact_space_group, group_of_class
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import FrameRange, UnitCell
from ssx_processing.settings import RequestedSample, SampleSettings, content_key

CRYSTALS_FOR_CELL = 200
HIGHEST_SYMMETRY = {
    "triclinic": "P 1", "monoclinic": "{} 1 2 1", "orthorhombic": "{} 2 2 2", "tetragonal": "{} 4 2 2",
    "rhombohedral": "R 3 2:R", "hexagonal": "{} 6 2 2", "cubic": "{} 4 3 2",
}  # fmt: skip
"""Space group without screw axes by CrystFEL's lattice type."""


def are_streams(paths: Sequence[Path]) -> bool:
    """Whether the files of a data set are CrystFEL streams.

    Raises
    ------
    ImageReadError
        Some are and some are not.
    """
    found = [is_stream(path) for path in paths]
    if any(found) and not all(found):
        other = paths[found.index(False)]
        raise ImageReadError(
            f"{other}: is no CrystFEL stream, but {paths[found.index(True)]} is one; process them apart"
        )
    return any(found)


def identity_of_streams(paths: Sequence[Path], geometry_file: Path | None) -> str:
    """Stands for the streams as they are now."""
    files = [
        {"path": str(path.resolve()), "size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
        for path in paths
    ]
    geometry = geometry_identity(geometry_file).sha256 if geometry_file is not None else None
    return content_key({"streams": files, "geometry": geometry})


def frames_of_streams(paths: Sequence[Path]) -> tuple[int, ...]:
    """Frames in each stream.

    Raises
    ------
    ImageReadError
        One is no stream, or has none.
    """
    counts = []
    for path in paths:
        counts.append(len(CrystfelStream(path)))
        if counts[-1] == 0:
            raise ImageReadError(f"{path}: has no chunk; has indexamajig begun to write?")
    return tuple(counts)


def wavelength_of_stream(path: Path, geometry_file: Path | None) -> float:
    """Median over some frames, Å."""
    return stream_geometry(CrystfelStream(path), geometry_file).given.geometry.wavelength


def parts_of_range(paths: Sequence[Path], frames: FrameRange) -> list[tuple[Path, int, int, int]]:
    """Stream, first frame in it, frame behind the last in it, number of the first; of a range of frames."""
    parts, before = [], 0
    for path, n in zip(paths, frames_of_streams(paths), strict=True):
        start, stop = max(frames.start - before, 0), min(frames.stop - before, n)
        if start < stop:
            parts.append((path, start, stop, before + start))
        before += n
    return parts


def sample_of_stream(path: Path, sample: RequestedSample) -> SampleSettings:
    """Sample as given; what is missing is that of the stream: its target cell, else its crystals.

    Raises
    ------
    SettingsError
        Nothing is known of the cell, or what was given contradicts what is in the stream.
    """
    notes = []
    target = _target_of(path)
    cell = sample.unit_cell
    if cell is None:
        cell = target.cell if target.cell is not None else _median_cell(path)
        source = "target cell of the stream" if target.cell is not None else "median of the stream's crystals"
        notes.append(f"cell not given: taking the {source}, {target.lattice_type} {target.centring}")
    exact = exact_space_group(sample.space_group) if sample.space_group is not None else None
    if exact is not None:
        group = exact
    elif sample.space_group is not None:
        group = group_of_class(sample.space_group, _centring(target)) or _highest(target)
        notes.append(
            f"of the space group only {sample.space_group} was given: {group.hm} stands for it; "
            "screw axes are not determined"
        )
    else:
        group = _highest(target)
        notes.append(
            f"space group not given: {group.hm}, the highest symmetry of its lattice, {target.lattice_type}; "
            "the true symmetry may be lower, and screw axes are not determined"
        )
    return SampleSettings(unit_cell=cell, space_group=group.xhm(), assumed=tuple(notes))


def _target_of(path: Path) -> TargetCell:
    """Lattice that CrystFEL was told, else that of the first crystal."""
    stream = CrystfelStream(path)
    if stream.header.target is not None:
        return stream.header.target
    for frame in stream.frames():
        for crystal in frame.crystals:
            return TargetCell(crystal.lattice_type, crystal.centring, crystal.unique_axis)
    raise SettingsError(f"{path}: has neither a target cell nor a crystal; give --cell and --space-group")


def _centring(target: TargetCell) -> str:
    """As gemmi calls it: CrystFEL's H is R on hexagonal axes."""
    return "R" if target.centring == "H" else target.centring


def _highest(target: TargetCell) -> gemmi.SpaceGroup:
    if target.centring == "H":
        return gemmi.SpaceGroup("R 3 2:H")
    if target.lattice_type not in HIGHEST_SYMMETRY:
        raise SettingsError(
            f"the stream calls its lattice {target.lattice_type!r}, expected one of "
            f"{', '.join(HIGHEST_SYMMETRY)}; give --space-group"
        )
    name = HIGHEST_SYMMETRY[target.lattice_type].format(target.centring)
    group = gemmi.find_spacegroup_by_name(name)
    if group is None:
        raise SettingsError(f"no space group is called {name}; give --space-group")
    return group


def _median_cell(path: Path) -> UnitCell:
    cells = [
        cell_of(crystal.a_matrix)
        for frame in CrystfelStream(path).some_frames(CRYSTALS_FOR_CELL)
        for crystal in frame.crystals
    ]
    if not cells:
        raise SettingsError(f"{path}: no crystal in the frames looked at; give --cell and --space-group")
    a, b, c, alpha, beta, gamma = (float(value) for value in np.median(cells, axis=0))
    return a, b, c, alpha, beta, gamma
