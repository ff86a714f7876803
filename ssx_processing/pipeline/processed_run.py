"""What a run was processed with, read from its folder: settings, images, calibration."""

import json
from dataclasses import dataclass
from pathlib import Path

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import SUMMARY
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.pipeline.calibration import Calibration, read_calibration
from ssx_processing.settings import ProcessingSettings


@dataclass(frozen=True)
class ProcessedRun:
    """A data set that was processed, with or without an end."""

    folder: Path
    paths: tuple[Path, ...]
    """Images, in order."""
    geometry_file: Path | None
    """That stood in for their own geometry."""
    settings: ProcessingSettings
    calibration: Calibration


def read_processed_run(folder: Path) -> ProcessedRun:
    """Read what a run was processed with.

    Raises
    ------
    ChunkError
        Nothing was processed there, or not as far as a calibration.
    """
    names = RunFolder(folder)
    try:
        content = json.loads(names.plan.read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(f"{names.plan}: not readable ({error}); process the images first") from error
    calibration = names.calibrations / content["calibration"]
    if not (calibration / SUMMARY).is_file():
        raise ChunkError(f"{calibration}: there is no calibration; process the images first")
    given = content["plan"].get("geometry_file")
    return ProcessedRun(
        folder=folder,
        paths=tuple(Path(path) for path in content["plan"]["paths"]),
        geometry_file=None if given is None else Path(given),
        settings=ProcessingSettings.model_validate(content["settings"]),
        calibration=read_calibration(calibration),
    )
