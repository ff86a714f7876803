"""Merging statistics of unmerged files, whoever wrote them, by one definition."""

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from ssx_processing.errors import MergeError
from ssx_processing.formats.unmerged_mtz import UnmergedIntensities, read_unmerged_mtz
from ssx_processing.kernels.repeats import RepeatedObservations, merge_repeats
from ssx_processing.kernels.statistics import shell_edges, shell_of, statistics_of, wilson_b
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.models import ShellStatistics, UnitCell


@dataclass(frozen=True)
class FileStatistics:
    """Merging statistics of one file."""

    name: str
    unit_cell: UnitCell
    space_group: str
    shells: tuple[ShellStatistics, ...]
    """From low to high resolution, of equal volume."""
    overall: ShellStatistics
    wilson_b: float
    """Å²; nan when there are too few reflections."""
    notes: tuple[str, ...]
    """What was left out, and what is odd."""


def statistics_of_file(
    path: Path,
    *,
    apart: bool = False,
    n_shells: int = 10,
    d_max: float | None = None,
    d_min: float | None = None,
) -> FileStatistics:
    """Statistics of the observations in an unmerged MTZ, equal to iotbx.merging_statistics'.

    Parameters
    ----------
    apart
        Friedel mates are different reflections.
    d_max, d_min
        Å; by default where the observations end.

    Raises
    ------
    MergeError
        The file cannot be used, or nothing is left within the limits.
    """
    data = read_unmerged_mtz(path)
    d = gemmi.UnitCell(*data.unit_cell).calculate_d_array(data.hkl) if len(data.hkl) else np.empty(0)
    inside = (d <= (d_max or np.inf)) & (d >= (d_min or 0.0))
    if not inside.any():
        raise MergeError(f"{path}: none of {data.n_rows} observations can be used; check the limits in Å")
    observations, n_absent = _observations(data, inside, d_min or float(d.min()))
    found = merge_repeats(observations, apart=apart)
    measured = found.d[found.n > 0]
    edges = shell_edges(d_max or float(measured.max()), d_min or float(measured.min()), n_shells)
    shell = shell_of(observations.d, edges)
    shells = []
    for i in range(n_shells):  # each draws its halves anew, as iotbx does
        of_shell = merge_repeats(observations.inside(shell == i), apart=apart)
        shells.append(
            statistics_of(of_shell, shell_of(of_shell.d, edges) == i, (float(edges[i]), float(edges[i + 1])))
        )
    within = shell_of(found.d, edges) >= 0
    together = merge_repeats(observations)
    operations = gemmi.SpaceGroup(data.space_group).operations()
    hkl = np.asarray(observations.hkl, np.int32)
    epsilon = np.asarray(operations.epsilon_factor_without_centering_array(hkl), np.int32)
    return FileStatistics(
        name=path.name,
        unit_cell=data.unit_cell,
        space_group=data.space_group,
        shells=tuple(shells),
        overall=statistics_of(found, within, (float(edges[0]), float(edges[-1]))),
        wilson_b=wilson_b(together.d, together.intensity, epsilon),
        notes=_notes(data, n_absent),
    )


def resolution_of_file(path: Path) -> tuple[float, float]:
    """Lowest and highest resolution, in Å, of the usable observations in an unmerged MTZ.

    Raises
    ------
    MergeError
        The file cannot be used, or holds none.
    """
    data = read_unmerged_mtz(path)
    if not len(data.hkl):
        raise MergeError(f"{path}: none of {data.n_rows} rows has a finite intensity and a positive sigma")
    d = gemmi.UnitCell(*data.unit_cell).calculate_d_array(data.hkl)
    return float(d.max()), float(d.min())


def _observations(
    data: UnmergedIntensities, inside: np.ndarray, d_min: float
) -> tuple[RepeatedObservations, int]:
    """Observations inside the limits by unique reflection, and how many are of absent ones."""
    unit = asymmetric_unit(data.unit_cell, data.space_group, d_min * (1 - 1e-9))
    uid, minus = unit.find(*data.hkl[inside].T)
    allowed = uid >= 0
    observations = RepeatedObservations(
        uid=uid[allowed],
        minus=minus[allowed],
        intensity=data.intensity[inside][allowed],
        sigma=data.sigma[inside][allowed],
        hkl=unit.hkl,
        d=unit.d,
        centric=unit.centric,
    )
    return observations, int((~allowed).sum())


def _notes(data: UnmergedIntensities, n_absent: int) -> tuple[str, ...]:
    notes = []
    if n_bad := data.n_rows - len(data.hkl):
        notes.append(
            f"{n_bad} of {data.n_rows} rows without a finite intensity and a positive sigma left out"
        )
    if n_absent:
        notes.append(f"{n_absent} observations of systematically absent reflections left out")
    if data.n_partial:
        notes.append(f"{data.n_partial} rows are flagged as partial; each counts as an observation")
    return tuple(notes)
