"""The common setting as a step of the merge: which reference counts, and the candidates reindexed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gemmi
import numpy as np

from ssx_processing.formats.setting_reference import (
    FILE_NAME,
    SettingReferenceTable,
    keep_setting_reference,
    read_setting_reference,
)
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.pipeline.indexing_setting import reindex_observations, resolve_setting
from ssx_processing.pipeline.merge_steps import Candidates
from ssx_processing.pipeline.setting_resolution import NOT_CERTAIN, SettingResolution
from ssx_processing.settings import ProcessingSettings


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
    candidates: Candidates,
    settings: ProcessingSettings,
    reference: SettingReferenceTable | None,
    key: str,
    chunks: Sequence[str],
) -> tuple[Candidates, SettingResolution]:
    """Reindex the candidates; those whose setting is less certain than asked for are left out."""
    merging = settings.merging
    highest = 1 / float(candidates.d_star.max(initial=1.0))
    unit = asymmetric_unit(
        candidates.unit_cell,
        settings.sample.space_group,
        max(highest, merging.d_min or 0.0) * (1 - 1e-6),
    )
    resolution = resolve_setting(
        candidates.hkl,
        candidates.row,
        candidates.intensity,
        candidates.noise_variance,
        candidates.factor,
        n_lattices=len(candidates.reasons),
        unit=unit,
        max_obliquity_deg=merging.max_obliquity_deg,
        min_observations=merging.min_observations,
        reference=reference,
        key=key,
        chunks=chunks,
    )
    reasons = candidates.reasons.copy()
    if resolution.resolved and merging.min_ambiguity_z is not None:
        known = np.isfinite(resolution.margin_z)
        reasons[known & (reasons == "") & (resolution.margin_z < merging.min_ambiguity_z)] = NOT_CERTAIN
    keep = (reasons == "")[candidates.row]
    hkl = reindex_observations(candidates.hkl, candidates.row, resolution)
    arrays = ("d_star", "row", "intensity", "noise_variance", "factor")
    kept = {name: getattr(candidates, name)[keep] for name in arrays}
    return replace(candidates, reasons=reasons, hkl=hkl[keep], **kept), resolution
