"""What an export reads: one merge, the runs behind it, and what they were processed with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssx_processing.errors import ChunkError
from ssx_processing.formats.merge_record import read_merge
from ssx_processing.models import MergeSummary
from ssx_processing.pipeline.calibration import Calibration
from ssx_processing.pipeline.processed_run import ProcessedRun, read_processed_run
from ssx_processing.pipeline.scaled_observations import ScaledObservations, read_scaled_observations
from ssx_processing.settings import SampleSettings


@dataclass(frozen=True)
class ExportSource:
    """A merge and where it comes from; what is large is read when it is asked for."""

    name: str
    """Start of the names of the files written, and of the data set in them."""
    merged_folder: Path
    run_folders: tuple[Path, ...]
    """In the order of ``data_set``, one per data set merged."""
    summary: MergeSummary
    sample: SampleSettings
    """Space group and expected cell that the images were indexed with."""
    wavelength: float
    """Å, of the first run."""

    def scaled(self) -> ScaledObservations:
        """Every observation of the merged lattices, as integrated and on the merged scale."""
        return read_scaled_observations(self.run_folders, self.merged_folder)

    def calibrations(self) -> tuple[Calibration, ...]:
        """Geometry and masks of each run."""
        return tuple(run.calibration for run in self.runs())

    def runs(self) -> tuple[ProcessedRun, ...]:
        """What each run was processed with."""
        return tuple(read_processed_run(folder) for folder in self.run_folders)


def read_export_source(name: str, merged_folder: Path, run_folders: Sequence[Path]) -> ExportSource:
    """Open a merge for export.

    Parameters
    ----------
    run_folders
        Of the data sets that were merged.

    Raises
    ------
    ChunkError
        The merge or a run is incomplete.
    """
    if not run_folders:
        raise ChunkError(f"{merged_folder}: the runs behind this merge are not known; name their folders")
    first = read_processed_run(run_folders[0])
    return ExportSource(
        name=name,
        merged_folder=merged_folder,
        run_folders=tuple(run_folders),
        summary=read_merge(merged_folder),
        sample=first.settings.sample,
        wavelength=first.calibration.geometry.wavelength,
    )
