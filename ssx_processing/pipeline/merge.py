"""From chunk folders to merged intensities: reads tables only, never images."""

import logging
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssx_processing.formats.chunk_folder import SUMMARY
from ssx_processing.formats.merge_folder import MergeTables, read_merge, write_merge
from ssx_processing.formats.reference_intensities import read_reference
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.observation_model import KNOT_STEP, N_KNOTS
from ssx_processing.kernels.scaling_result import ScalingModel
from ssx_processing.kernels.statistics import shell_statistics, wilson_b
from ssx_processing.kernels.symmetry import indexing_ambiguity_operators
from ssx_processing.models import MergeSummary, ReferenceCheck, ShellStatistics
from ssx_processing.pipeline.chunk_tables import A_COLUMNS, CELL_COLUMNS
from ssx_processing.pipeline.growth_curve import growth_table
from ssx_processing.pipeline.lattice_filter import cluster_words
from ssx_processing.pipeline.merge_input import MergeInput, read_merge_input
from ssx_processing.pipeline.merge_steps import (
    Merged,
    excluded_counts,
    highest_resolution,
    merge_to,
    select_lattices,
    wavelengths,
)
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.reference_check import check_reference
from ssx_processing.pipeline.resolution import resolution_from_cc_half, resolution_from_completeness
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings, content_key

logger = logging.getLogger(__name__)

MANY_OBSERVATIONS = 3_000_000
"""With more, the resolution is found with the partialities only, before crystals are post-refined."""
LOW_MULTIPLICITY = 10.0
"""Below this a warning: intensities of stills are means over partialities, which takes many."""


def merge_chunks(
    chunk_folders: Sequence[Path],
    settings: ProcessingSettings,
    run_folder: Path,
    *,
    chunks_expected: int,
    missing: Sequence[str] = (),
    wavelength: float,
    n_threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> MergeSummary:
    """Merge the chunks into ``run_folder/merged/<key>``, or find that this was done already.

    The numbers depend on the observations only, not on how the frames were cut into chunks.

    Parameters
    ----------
    chunk_folders
        Folders of the chunks that were processed.
    chunks_expected
        How many there should be.
    missing
        One sentence for each chunk that is not in ``chunk_folders``.
    wavelength
        Å, of frames that do not say their own, and for the MTZ.
    n_threads
        The result does not depend on it.
    progress
        Told in a few words what is being done.

    Raises
    ------
    MergeError
        There is nothing that can be merged.
    ChunkError
        A chunk folder is incomplete.
    ReferenceFileError
        The reference cannot be used.
    """
    folders = sorted(chunk_folders, key=lambda folder: folder.name)
    key = _merge_key(folders, settings, chunks_expected, missing, wavelength)
    folder = RunFolder(run_folder).merged / key
    if (folder / SUMMARY).is_file():
        return read_merge(folder)
    if settings.merging.reference is not None:
        read_reference(settings.merging.reference)  # before all the work
    data = read_merge_input(folders, progress)
    merged, d_min, warnings = _merge_to_best_resolution(data, settings, wavelength, n_threads, progress)
    summary = _summarise(
        data, merged, d_min, settings, key, folder, warnings, chunks_expected, folders, missing
    )
    write_merge(
        summary,
        _tables(data, merged, settings.sample, wavelength),
        wavelength=wavelength,
        details=_details(merged, settings.merging),
        history=_history(summary),
    )
    logger.info("merged %d lattices from %d chunks into %s", summary.lattices_merged, len(folders), folder)
    return summary


def _merge_key(
    folders: Sequence[Path],
    settings: ProcessingSettings,
    chunks_expected: int,
    missing: Sequence[str],
    wavelength: float,
) -> str:
    return content_key(
        {
            "stage": "merge",
            "chunks": [folder.name for folder in folders],
            "sample": settings.sample.model_dump(),
            "merging": settings.merging.model_dump(),
            "chunks_expected": chunks_expected,
            "missing": list(missing),
            "wavelength": wavelength,
        }
    )


def _merge_to_best_resolution(
    data: MergeInput,
    settings: ProcessingSettings,
    wavelength: float,
    n_threads: int,
    progress: Callable[[str], None] | None,
) -> tuple[Merged, float, list[str]]:
    """Merge to the resolution asked for, or first to the last observation and then to where they end."""
    merging, space_group = settings.merging, settings.sample.space_group
    selection = select_lattices(data, space_group, merging, settings.sample.unit_cell)

    def merge_all_to(d_min: float, model: ScalingModel | None = None) -> Merged:
        return merge_to(
            data, selection, d_min=d_min, space_group=space_group, settings=merging,
            wavelength=wavelength, model=model, n_threads=n_threads, progress=progress,
        )  # fmt: skip

    if merging.d_min is not None:
        return merge_all_to(merging.d_min), merging.d_min, []
    highest = highest_resolution(data, selection)
    many = len(data.observations.intensity) > MANY_OBSERVATIONS
    quick = ScalingModel.PARTIALITY if many and merging.model == "auto" else None
    shells, _ = _statistics(merge_all_to(highest, quick), highest, merging)
    end = resolution_from_cc_half(shells, merging.cc_half_limit)
    if end is None:
        text = f"CC1/2 is not above {merging.cc_half_limit} anywhere or undetermined: resolution not cut"
        return merge_all_to(highest), highest, [text]
    complete_to = resolution_from_completeness(shells, merging.min_completeness)
    end = max(float(np.ceil(max(end, complete_to or end) * 100) / 100), highest)
    return merge_all_to(end), end, []


def _statistics(
    merged: Merged, d_min: float, merging: MergingSettings
) -> tuple[tuple[ShellStatistics, ...], ShellStatistics]:
    reflections = merged.reflections()
    d_max = float(reflections.d[reflections.n > 0].max(initial=d_min * 1.0001))
    return shell_statistics(reflections, d_max=d_max, d_min=d_min, n_shells=merging.n_shells)


def _summarise(
    data: MergeInput,
    merged: Merged,
    d_min: float,
    settings: ProcessingSettings,
    key: str,
    folder: Path,
    warnings: Sequence[str],
    chunks_expected: int,
    folders: Sequence[Path],
    missing: Sequence[str],
) -> MergeSummary:
    shells, overall = _statistics(merged, d_min, settings.merging)
    chunk_warnings = [f"{len(folders)} of {chunks_expected} chunks merged"] * (
        len(folders) != chunks_expected
    )
    return MergeSummary(
        key=key,
        folder=folder,
        reused=False,
        counts=data.counts,
        lattices_merged=int((merged.reasons == "").sum()),
        lattices_excluded=excluded_counts(merged.reasons),
        chunks_expected=chunks_expected,
        chunks_merged=len(folders),
        missing=tuple(missing),
        unit_cell=merged.unit.unit_cell,
        space_group=settings.sample.space_group,
        overall=overall,
        shells=shells,
        wilson_b=wilson_b(merged.unit.d, merged.estimate.intensity, merged.unit.epsilon),
        reference=_reference(merged, overall, settings.merging),
        warnings=(
            *chunk_warnings,
            *settings.sample.assumed,
            *_forms(data, merged, settings.merging),
            *warnings,
            *_warnings(merged, overall),
        ),
    )


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


def _forms(data: MergeInput, merged: Merged, merging: MergingSettings) -> list[str]:
    """Say which crystal forms there are besides the one that is merged."""
    words = cluster_words(data.lattices, merged.selection.clusters, merged.selection.cluster)
    return [words] if words else []


def _warnings(merged: Merged, overall: ShellStatistics) -> list[str]:
    """What a person should know before using the intensities."""
    found = []
    operators = indexing_ambiguity_operators(merged.unit.unit_cell, merged.unit.space_group)
    if operators:
        found.append(
            f"the lattice can be indexed in {len(operators) + 1} ways that the symmetry tells apart "
            f"({'; '.join(operators)}); they are not resolved, so intensities may be averaged over them"
        )
    if overall.multiplicity < LOW_MULTIPLICITY:
        found.append(
            f"multiplicity is only {overall.multiplicity:.1f}; means over partial observations need about "
            f"{LOW_MULTIPLICITY:.0f} or more"
        )
    if not merged.scaling.converged:
        found.append(f"scaling had not converged after {merged.scaling.n_cycles} cycles")
    return found


def _details(merged: Merged, merging: MergingSettings) -> dict[str, Any]:
    scaling, model = merged.scaling, merged.scaling.observation_model
    return {
        "merging": merging.model_dump(mode="json"),
        "model": scaling.model.value,
        "model_choice": {
            "cc_half_of_independent_halves": {m.value: cc for m, cc in merged.choice.cc_half.items()},
            "n_lattices": merged.choice.n_lattices,
        }
        if merged.choice
        else None,
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
    }


def _history(summary: MergeSummary) -> tuple[str, ...]:
    return (
        f"ssx-orchestrator {version('ssx-orchestrator')} merge {summary.key}",
        f"{summary.lattices_merged} lattices, {summary.chunks_merged} of {summary.chunks_expected} chunks",
    )


def _tables(data: MergeInput, merged: Merged, sample: SampleSettings, wavelength: float) -> MergeTables:
    total = merged.estimate
    plus, minus = (merged.estimate_of(merged.sums[:, sign].sum(axis=1)) for sign in (0, 1))
    seen = total.n > 0
    hkl, reflections = merged.unit.hkl[seen], merged.reflections()
    table = pd.DataFrame(
        {
            "h": hkl[:, 0],
            "k": hkl[:, 1],
            "l": hkl[:, 2],
            "d": merged.unit.d[seen],
            "intensity": total.intensity[seen],
            "sigma": total.sigma[seen],
            "n": total.n[seen],
            "half1": reflections.half_1[seen],
            "half2": reflections.half_2[seen],
            "sigma_internal": total.sigma_internal[seen],
            "sigma_external": total.sigma_external[seen],
            "intensity_plus": plus.intensity[seen],
            "sigma_plus": plus.sigma[seen],
            "n_plus": plus.n[seen],
            "intensity_minus": minus.intensity[seen],
            "sigma_minus": minus.sigma[seen],
            "n_minus": minus.n[seen],
            "centric": merged.unit.centric[seen],
        }
    )
    intensities = merged_intensities(table, sample, unit_cell=merged.unit.unit_cell)
    return MergeTables(
        intensities,
        table,
        _lattice_table(data, merged, wavelength),
        _rejected(data, merged),
        growth_table(merged.growth),
    )


def _rejected(data: MergeInput, merged: Merged) -> pd.DataFrame:
    """Observations left out one by one, indices in the setting of the merge."""
    which = np.flatnonzero(merged.scaling.outlier & (merged.observations.uid >= 0))
    rows = np.searchsorted(data.observations.offsets, which, side="right") - 1
    accepted = (merged.reasons == "")[rows]
    which, rows = which[accepted], rows[accepted]
    table = data.lattices.iloc[rows][["data_set", "frame", "lattice"]].reset_index(drop=True)
    table[["h", "k", "l"]] = data.observations.hkl[which]
    return table.assign(reason="outlier")


def _lattice_table(data: MergeInput, merged: Merged, wavelength: float) -> pd.DataFrame:
    """Every lattice that was read, with its scale and why it is not in the result, if so."""
    scales, known = merged.scaling.scales, merged.scaling.scales.n_shared > 0
    columns = [c for c in (*A_COLUMNS, "n_indexed") if c in data.lattices]
    names = ["data_set", "frame", "lattice", "chunk", "file", "file_index", *CELL_COLUMNS, "resolution_limit"]
    table = data.lattices[[*names, *columns]].copy()
    table["wavelength"] = wavelengths(data.lattices, wavelength)
    found = {
        "scale": np.exp(scales.log_g),
        "b_factor": scales.b_factor,
        "turn_x": scales.turns[:, 0],
        "turn_y": scales.turns[:, 1],
        "width": np.exp(scales.log_width),
        "cc": scales.cc,
    }
    for name, values in found.items():
        table[name] = np.where(known, values, np.nan)
    table["n_merged"] = merged.n_merged
    table["delta_cc_half"] = np.where(merged.reasons == "", merged.delta_cc_half, np.nan)
    table["cell_cluster"] = merged.selection.clusters
    table["half"] = merged.half + 1
    table["filter_reason"] = merged.reasons.astype(str)
    return table
