"""Merged intensities against a reference: does it fit, is it isomorphous, in which way of indexing."""

import math
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ReferenceFileError
from ssx_processing.formats.reference_intensities import ReferenceIntensities, read_reference
from ssx_processing.kernels.agreement import cc_half
from ssx_processing.kernels.differences import r_iso
from ssx_processing.kernels.relative_scale import relative_scale
from ssx_processing.kernels.statistics import shell_edges, shell_of
from ssx_processing.kernels.symmetry import AsymmetricUnit, indexing_ambiguity_operators, known_space_group
from ssx_processing.models import ReferenceCheck, UnitCell
from ssx_processing.pipeline.model_intensities import ModelIntensities

AS_MERGED = "h,k,l"
MIN_COMMON = 50
"""Reflections below which nothing is said."""
MAX_ANGLE_DEG = 1.0
"""Cells that differ more in an angle are not called isomorphous."""
LARGE_R_ISO = 0.35
"""Nor are data; unrelated structures have 0.5 to 0.6."""


@dataclass(frozen=True)
class _Fit:
    """A comparison in one way of indexing."""

    n_common: int
    cc: float
    cc_shells: tuple[float, ...]
    r_iso: float
    k: float
    b_factor: float


def check_reference(
    path: Path,
    unit: AsymmetricUnit,
    intensity: NDArray[np.float64],
    sigma: NDArray[np.float64],
    *,
    d_max: float,
    d_min: float,
    n_shells: int,
) -> ReferenceCheck:
    """Compare merged intensities with a reference, in every way in which the lattice can be indexed.

    Parameters
    ----------
    path
        An MTZ, a structure factor mmCIF, or a model.
    unit
        Table of the unique reflections of the merge.
    intensity, sigma : (n_unique,) arrays
        Merged; nan where not measured.

    Raises
    ------
    ReferenceFileError
        The file cannot be used, or has hardly a reflection in common with the merge.
    """
    content = read_reference(path)
    model = ModelIntensities(content, d_min) if isinstance(content, gemmi.Structure) else None
    seen = np.isfinite(intensity) & (sigma > 0)
    edges = shell_edges(d_max, d_min, n_shells)
    references: dict[str, ReferenceIntensities] = {}
    fits: dict[str, _Fit] = {}
    for operator in (AS_MERGED, *indexing_ambiguity_operators(unit.unit_cell, unit.space_group)):
        hkl = _reindexed(unit.hkl, operator)
        if isinstance(content, ReferenceIntensities):
            references[operator] = content
        elif model is not None:
            references[operator] = model.scaled_to(hkl[seen], intensity[seen], sigma[seen])
        fits[operator] = _fit(unit, hkl, intensity, references[operator], edges)
    if (n_common := fits[AS_MERGED].n_common) < MIN_COMMON:
        raise ReferenceFileError(
            f"{path}: {n_common} reflections in common with the merge, at least {MIN_COMMON} are needed; "
            "check its unit cell and resolution"
        )
    return _check(references[AS_MERGED], unit, fits, d_min)


def _check(
    reference: ReferenceIntensities, unit: AsymmetricUnit, fits: dict[str, _Fit], d_min: float
) -> ReferenceCheck:
    fit = fits[AS_MERGED]
    return ReferenceCheck(
        source=reference.source,
        space_group=reference.space_group,
        unit_cell=reference.unit_cell,
        n_common=fit.n_common,
        cc=fit.cc,
        cc_shells=fit.cc_shells,
        r_iso=fit.r_iso,
        k=fit.k,
        b_factor=fit.b_factor,
        cc_settings={operator: one.cc for operator, one in fits.items()},
        verdict=_verdict(reference, unit, fits, d_min),
    )


def _reindexed(hkl: NDArray[np.int32], operator: str) -> NDArray[np.int32]:
    """The reflections' indices in another way of indexing; ``operator`` acts on hkl."""
    rotation = np.array(gemmi.Op(operator).rot, np.int64) // gemmi.Op.DEN
    return np.ascontiguousarray(hkl @ rotation, np.int32)  # gemmi keeps operators on hkl transposed


def _fit(
    unit: AsymmetricUnit,
    hkl: NDArray[np.int32],
    intensity: NDArray[np.float64],
    reference: ReferenceIntensities,
    edges: NDArray[np.float64],
) -> _Fit:
    """Compare intensities, whose indices are ``hkl`` here, with the reference."""
    uid, _ = unit.find(*reference.hkl.T)
    count = np.bincount(uid[uid >= 0], minlength=len(unit))
    total = np.bincount(uid[uid >= 0], reference.intensity[uid >= 0], len(unit))
    table = np.divide(total, count, out=np.full(len(unit), np.nan), where=count > 0)
    mine, _ = unit.find(*hkl.T)
    theirs = np.where(mine >= 0, table[mine], np.nan)
    scale = relative_scale(unit.d, theirs, intensity)
    scaled = intensity * scale.factor(unit.d)
    both = np.isfinite(scaled) & np.isfinite(theirs)
    shell = shell_of(unit.d, edges)
    cc = np.array([cc_half(scaled[shell == i], theirs[shell == i]) for i in range(len(edges) - 1)])
    n = np.array([int((both & (shell == i)).sum()) for i in range(len(edges) - 1)])
    known = np.isfinite(cc)
    return _Fit(
        n_common=int(both.sum()),
        cc=float(np.average(cc[known], weights=n[known])) if known.any() else math.nan,
        cc_shells=tuple(float(value) for value in cc),
        r_iso=r_iso(scaled[both], theirs[both]),
        k=scale.k,
        b_factor=scale.b_factor,
    )


def reference_words(check: ReferenceCheck) -> str:
    """The comparison in a sentence."""
    return (
        f"Compared with {check.source} ({check.n_common} reflections in common): {check.verdict}; "
        f"CC {check.cc:.3f}, Riso {check.r_iso:.3f} after scaling, "
        f"B relative to it {0.0 - round(check.b_factor, 1):.1f} Å²."
    )


def cell_difference(ours: UnitCell, theirs: UnitCell) -> tuple[float, float, float]:
    """Largest differences of an edge, relative and in Å, and of an angle in degrees.

    Examples
    --------
    >>> cell_difference((80.0, 80.0, 40.0, 90.0, 90.0, 90.0), (80.0, 79.2, 40.0, 90.0, 90.5, 90.0))
    (0.01, 0.8, 0.5)
    """
    a, b = np.array(ours), np.array(theirs)
    edges, angles = np.abs(a - b)[:3], np.abs(a - b)[3:]
    relative, edge, angle = (float(round(x, 6)) for x in ((edges / a[:3]).max(), edges.max(), angles.max()))
    return relative, edge, angle


def _verdict(
    reference: ReferenceIntensities, unit: AsymmetricUnit, fits: dict[str, _Fit], d_min: float
) -> str:
    """Isomorphous if no edge differs by more than d_min / 4 (Crick & Magdoff 1956, Acta Cryst. 9, 901)."""
    relative, edge, angle = cell_difference(unit.unit_cell, reference.unit_cell)
    best = max(fits, key=lambda operator: fits[operator].cc)
    fit, problems = fits[best], []
    ours, theirs = (known_space_group(name) for name in (unit.space_group, reference.space_group))
    if ours.laue_str() != theirs.laue_str():
        problems.append(f"its Laue class is {theirs.laue_str()}, that of the merge {ours.laue_str()}")
    if edge > d_min / 4 or angle > MAX_ANGLE_DEG:
        problems.append(f"the cell differs by {100 * relative:.1f} % and {angle:.1f}°")
    if not fit.r_iso < LARGE_R_ISO:
        problems.append(f"Riso is {fit.r_iso:.2f}")
    words = f"not isomorphous: {'; '.join(problems)}" if problems else "isomorphous"
    if best != AS_MERGED:
        words += (
            f"; indexed as {best} the merge would fit it better "
            f"(CC {fit.cc:.3f} against {fits[AS_MERGED].cc:.3f})"
        )
    return words
