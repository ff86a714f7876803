"""From chunk folders to merged intensities: reads tables only, never images."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssx_processing.formats.chunk_folder import SUMMARY
from ssx_processing.formats.merge_folder import write_merge
from ssx_processing.formats.merge_record import read_merge
from ssx_processing.formats.reference_intensities import read_reference
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.formats.setting_reference import SettingReferenceTable
from ssx_processing.kernels.scaling_result import ScalingModel
from ssx_processing.kernels.symmetry import asymmetric_unit
from ssx_processing.models import MergeSummary
from ssx_processing.pipeline.cell_setting import after_nearest_cells, with_nearest_cells
from ssx_processing.pipeline.event_columns import events_digest
from ssx_processing.pipeline.merge_input import MergeInput, read_merge_input
from ssx_processing.pipeline.merge_setting import SampleReference, in_one_setting, reference_to_follow
from ssx_processing.pipeline.merge_steps import Merged, highest_resolution, merge_to, select_lattices
from ssx_processing.pipeline.merge_summary import details, history, statistics_by_shell, summarise
from ssx_processing.pipeline.merge_tables import tables_of
from ssx_processing.pipeline.resolution import resolution_from_cc_half, resolution_from_completeness
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.pipeline.subset_labels import table_digest
from ssx_processing.pipeline.subset_merges import merge_subsets
from ssx_processing.settings import ProcessingSettings, content_key

logger = logging.getLogger(__name__)

MANY_OBSERVATIONS = 3_000_000
"""With more, the resolution is found with the partialities only, before crystals are post-refined."""


@dataclass(frozen=True)
class MergeJob:
    """What is merged, and how; arguments of `merge_chunks`."""

    folders: tuple[Path, ...]
    settings: ProcessingSettings
    run_folder: Path
    chunks_expected: int
    missing: tuple[str, ...]
    wavelength: float
    n_threads: int
    sample: SampleReference
    progress: Callable[[str], None] | None

    @property
    def key_without_reference(self) -> str:
        """Content key where no reference tells how crystals are indexed."""
        digest = table_digest(self.settings.merging)
        events = events_digest(self.folders, self.settings.merging)
        return content_key(
            {
                "stage": "merge",
                "chunks": [folder.name for folder in self.folders],
                "sample": self.settings.sample.model_dump(),
                "merging": self.settings.merging.model_dump(),
                "chunks_expected": self.chunks_expected,
                "missing": list(self.missing),
                "wavelength": self.wavelength,
                **({"subset_table": digest} if digest else {}),
                **({"events": events} if events else {}),
            }
        )


def merge_chunks(
    chunk_folders: Sequence[Path],
    settings: ProcessingSettings,
    run_folder: Path,
    *,
    chunks_expected: int,
    missing: Sequence[str] = (),
    wavelength: float,
    n_threads: int = 1,
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
        Å, of frames that do not say their own, and for the MTZ.
    n_threads
        The result does not depend on it.
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
    ReferenceFileError
        The reference cannot be used.
    """
    job = MergeJob(
        folders=tuple(sorted(chunk_folders, key=lambda folder: folder.name)),
        settings=settings,
        run_folder=run_folder,
        chunks_expected=chunks_expected,
        missing=tuple(missing),
        wavelength=wavelength,
        n_threads=n_threads,
        sample=SampleReference(sample_folder or run_folder, settings.sample.space_group),
        progress=progress,
    )
    return _merge(job)


def _merge(job: MergeJob) -> MergeSummary:
    settings, key = job.settings, job.key_without_reference
    reference = reference_to_follow(settings, job.sample, key)
    if reference is not None:
        key = content_key({"merge": key, "reference": reference.sha256})
    folder = RunFolder(job.run_folder).merged / key
    if (folder / SUMMARY).is_file():
        return read_merge(folder)
    if settings.merging.reference is not None:
        read_reference(settings.merging.reference)  # before all the work
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(wake_kernels)
        data = read_merge_input(
            job.folders,
            folder.parent,
            RunFolder(job.run_folder).prepared,
            job.progress,
            settings.merging,
        )
        ready.result()
    as_indexed = data.lattices
    data, merged, resolution, warnings = _merge_in_one_setting(job, data, reference, key)
    if reference is None and resolution.reference is not None and not job.sample.keep(resolution.reference):
        return _merge(job)  # another merge of the sample was first: do it again in its setting
    subsets = merge_subsets(data, merged, settings.sample, settings.merging.n_shells)
    summary = summarise(
        data,
        merged,
        resolution,
        settings,
        key=key,
        folder=folder,
        chunks=(len(job.folders), job.chunks_expected),
        missing=job.missing,
        warnings=warnings,
        subsets=subsets.summaries,
    )
    write_merge(
        summary,
        tables_of(
            replace(data, lattices=as_indexed), merged, resolution, settings.sample, job.wavelength, subsets
        ),
        wavelength=job.wavelength,
        details=details(merged, resolution, settings.merging),
        history=history(summary),
    )
    logger.info(
        "merged %d lattices from %d chunks into %s", summary.lattices_merged, len(job.folders), folder
    )
    return summary


def wake_kernels() -> None:
    """Call a kernel: at its first one numba sets itself up, which takes as long as reading the chunks."""
    nothing = np.empty(0, np.int16)
    asymmetric_unit((10.0, 10.0, 10.0, 90.0, 90.0, 90.0), "P 1", 5.0).find(nothing, nothing, nothing)


def _merge_in_one_setting(
    job: MergeJob, data: MergeInput, reference: SettingReferenceTable | None, key: str
) -> tuple[MergeInput, Merged, SettingResolution, list[str]]:
    """Bring the lattices into one setting, scale and merge them, find where they end."""
    settings = job.settings
    data, nearest, chosen = with_nearest_cells(data, settings)
    selection = select_lattices(
        data, settings.sample.space_group, settings.merging, settings.sample.unit_cell
    )
    data, selection, resolution = in_one_setting(data, selection, settings, reference, key)
    resolution = after_nearest_cells(resolution, nearest, chosen, settings.sample.space_group)

    def merge_all_to(d_min: float, model: ScalingModel | None = None) -> Merged:
        return merge_to(
            data, selection, d_min=d_min, space_group=settings.sample.space_group,
            settings=settings.merging, wavelength=job.wavelength, model=model,
            n_threads=job.n_threads, progress=job.progress,
        )  # fmt: skip

    if settings.merging.d_min is not None:
        return data, merge_all_to(settings.merging.d_min), resolution, []
    highest = highest_resolution(data, selection)
    many = len(data.observations.intensity) > MANY_OBSERVATIONS
    quick = ScalingModel.PARTIALITY if many and settings.merging.model == "auto" else None
    end, warnings = _end_of_data(merge_all_to(highest, quick), highest, settings)
    return data, merge_all_to(end), resolution, warnings


def _end_of_data(merged: Merged, highest: float, settings: ProcessingSettings) -> tuple[float, list[str]]:
    """Å, where the data end, and what is to be said of it."""
    merging = settings.merging
    shells, _ = statistics_by_shell(merged, merging.n_shells)
    end = resolution_from_cc_half(shells, merging.cc_half_limit)
    if end is None:
        text = f"CC1/2 is not above {merging.cc_half_limit} anywhere or undetermined: resolution not cut"
        return highest, [text]
    complete_to = resolution_from_completeness(shells, merging.min_completeness)
    return max(float(np.ceil(max(end, complete_to or end) * 100) / 100), highest), []
