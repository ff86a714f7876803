"""Bring all lattices into one setting where the crystal can be indexed in several ways."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.setting_reference import SettingReferenceTable
from ssx_processing.kernels.ambiguity import ResolvedSettings, SettingReference, resolve_ambiguity
from ssx_processing.kernels.normalised_amplitudes import FallOff, mean_fall_off, normalised_amplitudes
from ssx_processing.kernels.reindexing import IDENTITY, composition_table, uid_by_operator
from ssx_processing.kernels.setting_scores import SettingObservations, score_settings
from ssx_processing.kernels.symmetry import AsymmetricUnit, indexing_ambiguity_operators
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.setting_resolution import SettingBasis, SettingResolution, unresolved_setting

logger = logging.getLogger(__name__)

_LENGTH_TOLERANCE, _ANGLE_TOLERANCE_DEG = 0.03, 2.0


def resolve_setting(
    hkl: NDArray[np.int32],
    row: NDArray[np.int64],
    intensity: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
    factor: NDArray[np.float64],
    *,
    n_lattices: int,
    unit: AsymmetricUnit,
    max_obliquity_deg: float,
    min_observations: int = 1,
    reference: SettingReferenceTable | None = None,
    key: str = "",
    chunks: Sequence[str] = (),
) -> SettingResolution:
    """Which reindexing brings each lattice into the common setting.

    Parameters
    ----------
    hkl : (n_observations, 3) array
        As indexed.
    row : (n_observations,) array
        The lattice of each, ascending.
    intensity, noise_variance, factor : (n_observations,) array
        As in `ssx_processing.kernels.merging.Observations`.
    unit
        Asymmetric unit to the resolution of the observations.
    max_obliquity_deg
        Up to which a lattice counts as more symmetric than its space group.
    min_observations
        Lattices with fewer stay as they are and have no say.
    reference
        Its setting is taken if the lattices can be compared with it.
    key, chunks
        Of the merge and what it merges, for the reference that comes of it.
    """
    operators = (
        IDENTITY,
        *indexing_ambiguity_operators(unit.unit_cell, unit.space_group, max_obliquity_deg),
    )
    enough = np.bincount(row, minlength=n_lattices) >= max(min_observations, 1)
    if len(operators) == 1 or not enough.any():
        return unresolved_setting(operators, n_lattices)
    keep = enough[row]
    observations, fall_off = _observations(
        hkl[keep], row[keep], intensity[keep], noise_variance[keep], factor[keep], enough, unit, operators
    )
    known, notices = _known_sums(reference, unit, chunks)
    found = resolve_ambiguity(observations, len(unit), composition_table(operators, unit.space_group), known)
    if known is not None and reference is not None and not found.followed:
        notices.append(
            f"the reference {reference.key} does not tell how the lattices are indexed; it is not used"
        )
    result = _resolution(found, operators, enough, unit, reference, notices)
    if result.resolved:
        table = _reference_of(found, unit, int(enough.sum()), key, chunks)
        result = replace(result, reference=table, basis=SettingBasis(found.sums, fall_off))
    logger.info("indexing ambiguity: %s", "; ".join(result.words(enough)))
    return result


def follow_resolution(
    resolution: SettingResolution,
    hkl: NDArray[np.int32],
    row: NDArray[np.int64],
    intensity: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
    factor: NDArray[np.float64],
    *,
    n_lattices: int,
    unit: AsymmetricUnit,
) -> SettingResolution:
    """Settings of more lattices, from those of some that were resolved before.

    What comes out for a lattice depends on these only, so that very many may be taken in any portions.
    Arguments as for `resolve_setting`, with the same unit.
    """
    if resolution.basis is None:
        return unresolved_setting(resolution.operators, n_lattices)
    enough = np.bincount(row, minlength=n_lattices) > 0
    observations, _ = _observations(
        hkl,
        row,
        intensity,
        noise_variance,
        factor,
        enough,
        unit,
        resolution.operators,
        resolution.basis.fall_off,
    )
    scores = score_settings(observations, resolution.basis.sums)
    setting, margin, z = _of_all(enough, scores.best, scores.margin, scores.margin_z)
    return replace(resolution, setting=setting, margin=margin, margin_z=z)


def _of_all(
    enough: NDArray[np.bool_],
    setting: NDArray[np.int64],
    margin: NDArray[np.float64],
    margin_z: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The same for all lattices: those that had no say stay as they are, with a margin of nan."""
    settings = np.zeros(len(enough), np.int64)
    margins, z = np.full(len(enough), np.nan), np.full(len(enough), np.nan)
    settings[enough], margins[enough], z[enough] = setting, margin, margin_z
    return settings, margins, z


def _observations(
    hkl: NDArray[np.int32],
    row: NDArray[np.int64],
    intensity: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
    factor: NDArray[np.float64],
    enough: NDArray[np.bool_],
    unit: AsymmetricUnit,
    operators: Sequence[str],
    fall_off: FallOff | None = None,
) -> tuple[SettingObservations, FallOff]:
    """What the kernel compares; lattices without enough observations are no longer counted."""
    uid = uid_by_operator(hkl, unit, operators)
    there = uid.min(axis=1, initial=0) >= 0
    uid, number = uid[there], (np.cumsum(enough) - 1)[row[there]]
    sizes = np.bincount(number, minlength=int(enough.sum()))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    s_squared = unit.s_squared[uid[:, 0]]
    if fall_off is None:
        fall_off = mean_fall_off(offsets, s_squared, intensity[there])
    value, weight = normalised_amplitudes(
        offsets, s_squared, intensity[there], noise_variance[there], factor[there], fall_off
    )
    return SettingObservations(offsets, uid, value, weight), fall_off


def _known_sums(
    reference: SettingReferenceTable | None, unit: AsymmetricUnit, chunks: Sequence[str]
) -> tuple[SettingReference | None, list[str]]:
    """The reference on the reflections of this merge; nothing, and why, if it is of another crystal."""
    if reference is None:
        return None, []
    group = gemmi.find_spacegroup_by_name(reference.space_group)
    same_laue = group is not None and group.laue_str() == gemmi.SpaceGroup(unit.space_group).laue_str()
    if not same_laue or not _alike(reference.unit_cell, unit.unit_cell):
        cell = " ".join(f"{x:.2f}" for x in reference.unit_cell)
        return None, [
            f"the reference {reference.key} for the indexing setting is of another crystal form "
            f"({reference.space_group}, {cell}); it is not used"
        ]
    uid, _ = unit.find(*reference.hkl.T)
    sums = np.zeros((len(unit), 2))
    seen = uid >= 0
    np.add.at(sums, uid[seen], np.stack([reference.weight * reference.amplitude, reference.weight], 1)[seen])
    return SettingReference(sums, independent=set(chunks).isdisjoint(reference.chunks)), []


def _alike(first: UnitCell, second: UnitCell) -> bool:
    difference = np.abs(np.subtract(first, second))
    lengths = difference[:3] <= _LENGTH_TOLERANCE * np.array(second[:3])
    return bool(lengths.all() and (difference[3:] <= _ANGLE_TOLERANCE_DEG).all())


def _resolution(
    found: ResolvedSettings,
    operators: tuple[str, ...],
    enough: NDArray[np.bool_],
    unit: AsymmetricUnit,
    reference: SettingReferenceTable | None,
    notices: Sequence[str],
) -> SettingResolution:
    setting, margin, margin_z = _of_all(enough, found.setting, found.margin, found.margin_z)
    return SettingResolution(
        operators=operators,
        setting=setting,
        margin=margin,
        margin_z=margin_z,
        resolved=found.resolved,
        significance=found.significance,
        agreement=found.agreement,
        followed=reference.key if found.followed and reference is not None else "",
        reference=None,
        notices=tuple(notices),
    )


def _reference_of(
    found: ResolvedSettings, unit: AsymmetricUnit, n_lattices: int, key: str, chunks: Sequence[str]
) -> SettingReferenceTable:
    """What later merges can follow."""
    seen = found.sums[:, 1] > 0
    return SettingReferenceTable(
        unit_cell=unit.unit_cell,
        space_group=unit.space_group,
        key=key,
        n_lattices=n_lattices,
        hkl=unit.hkl[seen],
        amplitude=found.sums[seen, 0] / found.sums[seen, 1],
        weight=found.sums[seen, 1],
        chunks=tuple(chunks),
    )
