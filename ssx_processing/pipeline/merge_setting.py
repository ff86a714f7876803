"""The common setting as a step of the merge: which reference counts, and the candidates reindexed."""

from dataclasses import dataclass, replace
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.setting_reference import (
    FILE_NAME,
    SettingReferenceTable,
    keep_setting_reference,
    read_setting_reference,
)
from ssx_processing.kernels.reindexing import IDENTITY
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit, indexing_ambiguity_operators
from ssx_processing.pipeline.cell_setting import reindexed_observations
from ssx_processing.pipeline.indexing_setting import follow_resolution, resolve_setting
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.merge_steps import Selection, highest_resolution
from ssx_processing.pipeline.setting_resolution import NOT_CERTAIN, SettingResolution, unresolved_setting
from ssx_processing.settings import ProcessingSettings

MOST_LATTICES = 20_000
"""So many lattices say how they are indexed; more follow them."""
_FARTHEST = 3.0  # an observation far off the Ewald sphere keeps the weight exp(-3)


@dataclass(frozen=True)
class SampleReference:
    """Where the reference of a sample lies: the first merge that tells the settings apart leaves it there.

    It is never replaced, so that later chips and later merges come out in the same setting.
    """

    folder: Path
    """Of the sample; whoever merges the same sample names the same one."""
    space_group: str
    """One file each: with another space group the ways of indexing are others."""

    @property
    def path(self) -> Path:
        """The file; often there is none."""
        group = "".join(c for c in gemmi.SpaceGroup(self.space_group).xhm() if c.isalnum())
        stem, suffix = FILE_NAME.split(".")
        return self.folder / f"{stem}-{group}.{suffix}"

    def read(self) -> SettingReferenceTable | None:
        """The reference, if a merge has left one."""
        return read_setting_reference(self.path) if self.path.is_file() else None

    def keep(self, reference: SettingReferenceTable) -> bool:
        """Leave a reference; False if another merge has left one in the meantime."""
        return keep_setting_reference(self.path, reference)


def reference_to_follow(
    settings: ProcessingSettings, sample: SampleReference, key: str
) -> SettingReferenceTable | None:
    """The reference that the settings name, else that of the sample.

    Parameters
    ----------
    key
        Of the merge without a reference: the one that left it is done again without it.
    """
    if settings.merging.setting_reference is not None:
        return read_setting_reference(settings.merging.setting_reference)
    stored = sample.read()
    return None if stored is None or stored.key == key else stored


def in_one_setting(
    data: MergeInput,
    selection: Selection,
    settings: ProcessingSettings,
    reference: SettingReferenceTable | None,
    key: str,
) -> tuple[MergeInput, Selection, SettingResolution]:
    """Reindex the lattices; those whose setting is less certain than asked for are left out.

    The settings are found with at most `MOST_LATTICES`, drawn by their hash; all others follow these.
    """
    merging, space_group = settings.merging, settings.sample.space_group
    if not indexing_ambiguity_operators(selection.unit_cell, space_group, merging.max_obliquity_deg):
        return data, selection, unresolved_setting((IDENTITY,), len(selection.reasons))
    highest = max(highest_resolution(data, selection), merging.d_min or 0.0)
    unit = asymmetric_unit(selection.unit_cell, space_group, highest * (1 - 1e-6))
    usable = np.flatnonzero(selection.reasons == "")
    sample = np.sort(usable[np.argsort(data.rank[usable], kind="stable")[:MOST_LATTICES]])
    resolution = resolve_setting(
        *_observations(data, selection, sample),
        n_lattices=len(selection.reasons),
        unit=unit,
        max_obliquity_deg=merging.max_obliquity_deg,
        min_observations=merging.min_observations,
        reference=reference,
        key=key,
        chunks=sorted(set(data.lattices["chunk"])),
    )
    resolution = _with_others(resolution, data, selection, np.setdiff1d(usable, sample), unit)
    reasons = selection.reasons.copy()
    if resolution.resolved and merging.min_ambiguity_z is not None:
        known = np.isfinite(resolution.margin_z)
        reasons[known & (reasons == "") & (resolution.margin_z < merging.min_ambiguity_z)] = NOT_CERTAIN
    hkl = reindexed_observations(data, resolution.setting, resolution.operators)
    return replace(data, hkl=hkl), replace(selection, reasons=reasons), resolution


def _with_others(
    resolution: SettingResolution,
    data: MergeInput,
    selection: Selection,
    others: NDArray[np.int64],
    unit: AsymmetricUnit,
) -> SettingResolution:
    """Lattices that had no say follow those that had."""
    if not resolution.resolved:
        return resolution
    setting, margin, z = resolution.setting.copy(), resolution.margin.copy(), resolution.margin_z.copy()
    for part in np.split(others, range(MOST_LATTICES, len(others), MOST_LATTICES)):
        found = follow_resolution(
            resolution, *_observations(data, selection, part), n_lattices=len(setting), unit=unit
        )
        setting[part], margin[part], z[part] = found.setting[part], found.margin[part], found.margin_z[part]
    return replace(resolution, setting=setting, margin=margin, margin_z=z)


def _observations(
    data: MergeInput, selection: Selection, lattices: NDArray[np.int64]
) -> tuple[
    NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]:
    """hkl, lattice, intensity, noise and nearness to the sphere of what may be merged of some lattices."""
    stored, limit = data.observations, selection.d_star_limit
    n = np.diff(stored.offsets)[lattices]
    row = np.repeat(lattices, n)
    first = np.repeat(stored.offsets[lattices] - np.concatenate([[0], np.cumsum(n)[:-1]]), n)
    which = first + np.arange(len(row))
    hkl = data.hkl[which].astype(np.int32)
    inside = np.sqrt(gemmi.UnitCell(*selection.unit_cell).calculate_1_d2_array(hkl)) <= limit[row]
    which, row, hkl = which[inside], row[inside], hkl[inside]
    u = stored.excitation_error[which] / stored.excitation_sigma[which]
    near = np.exp(-np.minimum(0.5 * u.astype(np.float64) ** 2, _FARTHEST))
    intensity, noise = (a[which].astype(np.float64) for a in (stored.intensity, stored.noise_variance))
    return hkl, row, intensity, noise, near
