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
from ssx_processing.formats.mtz import MergedIntensities
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.formats.setting_reference import SettingReferenceTable
from ssx_processing.kernels.merging import estimate
from ssx_processing.kernels.statistics import shell_statistics, wilson_b
from ssx_processing.models import MergeSummary, ShellStatistics
from ssx_processing.pipeline.cell_setting import after_nearest_cells, with_nearest_cells
from ssx_processing.pipeline.chunk_tables import CELL_COLUMNS
from ssx_processing.pipeline.lattice_filter import cluster_words
from ssx_processing.pipeline.merge_input import MergeInput, read_merge_input
from ssx_processing.pipeline.merge_setting import SampleReference, in_one_setting, reference_to_follow
from ssx_processing.pipeline.merge_steps import Merged, excluded_counts, merge_to, select_candidates
from ssx_processing.pipeline.resolution import resolution_from_cc_half, resolution_from_completeness
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.settings import MergingSettings, ProcessingSettings, content_key

logger = logging.getLogger(__name__)

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
    sample_folder: Path | None = None,
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
        Å, for the MTZ.
    sample_folder
        Where the reference of the sample for its indexing setting lies, or will; by default ``run_folder``.
    progress
        Told in a few words what is being done.

    Raises
    ------
    MergeError
        There is nothing that can be merged.
    ChunkError
        A chunk folder is incomplete.
    """
    folders = sorted(chunk_folders, key=lambda folder: folder.name)
    first_key = _merge_key(folders, settings, chunks_expected, missing, wavelength)
    sample = SampleReference(sample_folder or run_folder, settings.sample.space_group)
    reference = reference_to_follow(settings, sample, first_key)
    key = content_key({"merge": first_key, "reference": reference.sha256}) if reference else first_key
    folder = RunFolder(run_folder).merged / key
    if (folder / SUMMARY).is_file():
        return read_merge(folder)
    data = read_merge_input(folders, progress)
    merged, resolution, d_min, warnings = _merge_to_best_resolution(data, settings, reference, key, progress)
    summary = _summarise(
        data, merged, resolution, d_min, settings, key, folder, warnings, chunks_expected, folders, missing
    )
    if reference is None and resolution.reference is not None and not sample.keep(resolution.reference):
        return merge_chunks(  # another merge of the sample was first: do it again in its setting
            folders,
            settings,
            run_folder,
            chunks_expected=chunks_expected,
            missing=missing,
            wavelength=wavelength,
            sample_folder=sample_folder,
            progress=progress,
        )
    write_merge(
        summary,
        _tables(data, merged, resolution),
        wavelength=wavelength,
        details=_details(merged, resolution, settings.merging),
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
    reference: SettingReferenceTable | None,
    key: str,
    progress: Callable[[str], None] | None,
) -> tuple[Merged, SettingResolution, float, list[str]]:
    """Merge to the resolution asked for, or first to the last observation and then to where they end."""
    merging, space_group = settings.merging, settings.sample.space_group
    data, nearest, chosen = with_nearest_cells(data, settings)
    candidates = select_candidates(data, space_group, merging, settings.sample.unit_cell)
    chunks = sorted(set(data.lattices["chunk"]))
    candidates, resolution = in_one_setting(candidates, settings, reference, key, chunks)
    resolution = after_nearest_cells(resolution, nearest, chosen, space_group)

    def merge_all_to(d_min: float) -> Merged:
        return merge_to(
            data, candidates, d_min=d_min, space_group=space_group, settings=merging, progress=progress
        )

    if merging.d_min is not None:
        return merge_all_to(merging.d_min), resolution, merging.d_min, []
    highest = float(1 / candidates.d_star.max()) if len(candidates.d_star) else 1.0
    merged = merge_all_to(highest)
    shells, _ = _statistics(merged, highest, merging)
    end = resolution_from_cc_half(shells, merging.cc_half_limit)
    if end is None:
        text = f"CC1/2 is not above {merging.cc_half_limit} anywhere or undetermined: resolution not cut"
        return merged, resolution, highest, [text]
    complete_to = resolution_from_completeness(shells, merging.min_completeness)
    end = float(np.ceil(max(end, complete_to or end) * 100) / 100)
    if end <= highest:
        return merged, resolution, highest, []
    return merge_all_to(end), resolution, end, []


def _statistics(
    merged: Merged, d_min: float, merging: MergingSettings
) -> tuple[tuple[ShellStatistics, ...], ShellStatistics]:
    reflections = merged.reflections()
    d_max = float(reflections.d[reflections.n > 0].max(initial=d_min * 1.0001))
    return shell_statistics(reflections, d_max=d_max, d_min=d_min, n_shells=merging.n_shells)


def _summarise(
    data: MergeInput,
    merged: Merged,
    resolution: SettingResolution,
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
        warnings=(
            *chunk_warnings,
            *settings.sample.assumed,
            *_forms(data, merged, settings.merging),
            *warnings,
            *resolution.words(merged.reasons == ""),
            *_warnings(merged, overall),
        ),
    )


def _forms(data: MergeInput, merged: Merged, merging: MergingSettings) -> list[str]:
    """Say which crystal forms there are besides the one that is merged."""
    words = cluster_words(data.lattices, merged.clusters, merged.cluster)
    return [words] if words else []


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


def _details(merged: Merged, resolution: SettingResolution, merging: MergingSettings) -> dict[str, Any]:
    model = merged.scaling.error_model
    return {
        "merging": merging.model_dump(mode="json"),
        "scaling_cycles": merged.scaling.n_cycles,
        "scaling_converged": merged.scaling.converged,
        "error_model": {"noise_factor": model.noise_factor, "spread": model.spread},
        "outliers": int(merged.scaling.outlier.sum()),
        "indexing_setting": resolution.details(),
    }


def _history(summary: MergeSummary) -> tuple[str, ...]:
    return (
        f"ssx-orchestrator {version('ssx-orchestrator')} merge {summary.key}",
        f"{summary.lattices_merged} lattices, {summary.chunks_merged} of {summary.chunks_expected} chunks",
    )


def _tables(data: MergeInput, merged: Merged, resolution: SettingResolution) -> MergeTables:
    total = merged.estimate
    plus, minus = (estimate(merged.sums[:, sign].sum(axis=1)) for sign in (0, 1))
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
        }
    )
    intensities = MergedIntensities(
        hkl=hkl,
        intensity=total.intensity[seen],
        sigma=total.sigma[seen],
        intensity_plus=plus.intensity[seen],
        sigma_plus=plus.sigma[seen],
        intensity_minus=minus.intensity[seen],
        sigma_minus=minus.sigma[seen],
        n=total.n[seen],
    )
    return MergeTables(intensities, table, _lattice_table(data, merged, resolution), resolution.reference)


def _lattice_table(data: MergeInput, merged: Merged, resolution: SettingResolution) -> pd.DataFrame:
    """Every lattice that was read, with its scale and why it is not in the result, if so."""
    table = data.lattices[["frame", "lattice", "chunk", *CELL_COLUMNS]].copy()
    scales = merged.scaling.scales
    for name, values in (("scale", np.exp(scales.log_g)), ("b_factor", scales.b_factor), ("cc", scales.cc)):
        column = np.full(len(table), np.nan)
        column[merged.rows] = values
        table[name] = column
    table["n_merged"] = merged.n_merged
    table["cell_cluster"] = merged.clusters
    table["half"] = merged.half + 1
    table["reindexing"] = resolution.reindexing
    table["ambiguity_margin"] = resolution.margin
    table["ambiguity_z"] = resolution.margin_z
    table["filter_reason"] = merged.reasons.astype(str)
    return table
