"""What a merge says of itself: statistics, warnings, and how it was scaled."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ssx_processing.kernels.observation_model import KNOT_STEP, N_KNOTS
from ssx_processing.kernels.statistics import shell_statistics, wilson_b
from ssx_processing.models import MergeSummary, ReferenceCheck, ShellStatistics, SubsetSummary
from ssx_processing.pipeline.lattice_filter import cluster_words
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.merge_steps import Merged, excluded_counts
from ssx_processing.pipeline.reference_check import check_reference
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.settings import MergingSettings, ProcessingSettings

LOW_MULTIPLICITY = 10.0
"""Below this a warning: intensities of stills are means over partialities, which takes many."""


def statistics_by_shell(merged: Merged, n_shells: int) -> tuple[tuple[ShellStatistics, ...], ShellStatistics]:
    """Statistics of each shell and of all."""
    reflections, d_min = merged.reflections(), merged.d_min
    d_max = float(reflections.d[reflections.n > 0].max(initial=d_min * 1.0001))
    return shell_statistics(reflections, d_max=d_max, d_min=d_min, n_shells=n_shells)


def summarise(
    data: MergeInput,
    merged: Merged,
    resolution: SettingResolution,
    settings: ProcessingSettings,
    *,
    key: str,
    folder: Path,
    chunks: tuple[int, int],
    missing: Sequence[str],
    warnings: Sequence[str],
    subsets: Sequence[SubsetSummary],
) -> MergeSummary:
    """The summary of a merge.

    Parameters
    ----------
    chunks
        How many are merged, and how many there should be.
    warnings
        On the resolution.
    """
    shells, overall = statistics_by_shell(merged, settings.merging.n_shells)
    chunk_warnings = [f"{chunks[0]} of {chunks[1]} chunks merged"] if chunks[0] != chunks[1] else []
    forms = cluster_words(data.lattices, merged.selection.clusters, merged.selection.cluster)
    return MergeSummary(
        key=key,
        folder=folder,
        reused=False,
        counts=data.counts,
        lattices_merged=int((merged.reasons == "").sum()),
        lattices_excluded=excluded_counts(merged.reasons),
        chunks_expected=chunks[1],
        chunks_merged=chunks[0],
        missing=tuple(missing),
        unit_cell=merged.unit.unit_cell,
        space_group=settings.sample.space_group,
        overall=overall,
        shells=shells,
        wilson_b=wilson_b(merged.unit.d, merged.estimate.intensity, merged.unit.epsilon),
        scaling=scaling_words(merged),
        chunks_read=data.chunks_read,
        subsets=tuple(subsets),
        reference=_reference(merged, overall, settings.merging),
        warnings=(
            *chunk_warnings,
            *settings.sample.assumed,
            *([forms] if forms else []),
            *warnings,
            *resolution.words(merged.reasons == ""),
            *_warnings(merged, overall),
        ),
    )


def scaling_words(merged: Merged) -> str:
    """Which model was taken, and why."""
    choice, name = merged.choice, merged.scaling.model.value
    if choice is None:
        return f"{name} (asked for)"
    compared = ", ".join(f"{model.value} {cc:.3f}" for model, cc in choice.cc_half.items())
    return f"{name} (CC1/2 of independent halves of {choice.n_lattices} lattices: {compared})"


def _reference(merged: Merged, overall: ShellStatistics, merging: MergingSettings) -> ReferenceCheck | None:
    """Compare with the reference, if there is one."""
    if merging.reference is None:
        return None
    estimated, limits = merged.estimate, {"d_max": overall.d_max, "d_min": overall.d_min}
    return check_reference(
        merging.reference,
        merged.unit,
        estimated.intensity,
        estimated.sigma,
        n_shells=merging.n_shells,
        **limits,
    )


def _warnings(merged: Merged, overall: ShellStatistics) -> list[str]:
    """What a person should know before using the intensities."""
    found = []
    if overall.multiplicity < LOW_MULTIPLICITY:
        found.append(
            f"multiplicity is only {overall.multiplicity:.1f}; means over partial observations need about "
            f"{LOW_MULTIPLICITY:.0f} or more"
        )
    if not merged.scaling.converged:
        found.append(f"scaling had not converged after {merged.scaling.n_cycles} cycles")
    return found


def details(merged: Merged, resolution: SettingResolution, merging: MergingSettings) -> dict[str, Any]:
    """For summary.json: from these `scaled_observations` calculates everything again."""
    scaling, model = merged.scaling, merged.scaling.observation_model
    return {
        "merging": merging.model_dump(mode="json"),
        "model": scaling.model.value,
        "scaling_cycles": scaling.n_cycles,
        "scaling_converged": scaling.converged,
        "observation_model": {
            "noise_factor": model.noise_factor,
            "knots": (KNOT_STEP * np.arange(N_KNOTS)).tolist(),
            "partiality": model.partiality.tolist(),
            "spread": model.spread.tolist(),
            "sigma_reference": merged.observations.typical_sigma(),
            "turn_sd_deg": float(np.degrees(scaling.turn_sd)),
            "width_sd": scaling.width_sd,
        },
        "repeats": {
            "intensity": merged.scatter.intensity.tolist(),
            "chi_square": merged.scatter.chi_square.tolist(),
            "n": merged.scatter.n.tolist(),
        },
        "rejected": {
            "outlier": int(scaling.outlier.sum()),
            "reflections_not_determined": merged.n_undetermined,
        },
        "indexing_setting": resolution.details(),
    }


def history(summary: MergeSummary) -> tuple[str, ...]:
    """Lines for the header of a file."""
    return (
        f"ssx-orchestrator {version('ssx-orchestrator')} merge {summary.key}",
        f"{summary.lattices_merged} lattices, {summary.chunks_merged} of {summary.chunks_expected} chunks",
    )
