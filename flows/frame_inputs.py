"""What a frame is looked at with: files, geometry, settings; of its own or those of a finished result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from flows.cli_input import parse_result
from flows.job import ProcessRequest, merged_mappings, processing_settings
from flows.permissions import check_files
from flows.result_folders import folder_of_group
from flows.settings import SiteSettings
from ssx_processing.errors import SettingsError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.calibration import Calibration, calibrated_processor
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.processed_run import ProcessedRun, read_processed_run
from ssx_processing.pipeline.recut import run_folders
from ssx_processing.pipeline.sample import sample_of_cell
from ssx_processing.settings import ProcessingSettings, SpotSettings

OF_LATTICES = ("spots", "indexing", "integration")
"""Sections of the settings that have a say in what is found and predicted on one frame."""


@dataclass(frozen=True)
class FrameRequest:
    """What was asked for on the command line."""

    files: tuple[Path, ...] = ()
    result: str | None = None
    """Id of a group, or a folder."""
    unit_cell: UnitCell | None = None
    space_group: str | None = None
    geometry_file: Path | None = None
    settings: dict[str, Any] | None = None
    lattice: bool = False


@dataclass(frozen=True)
class FrameInputs:
    """Files, and what their frames are looked at with."""

    files: tuple[Path, ...]
    geometry_file: Path | None
    spots: SpotSettings
    settings: ProcessingSettings | None = None
    """None where no cell is known: then nothing can be indexed."""
    calibration: Calibration | None = None
    """Of a result; None: with the files' own geometry and masks."""

    def processor(self, frames: FrameSet) -> FrameProcessor | None:
        """What looks at frames as a chunk would; None where no cell is known.

        Raises
        ------
        SettingsError
            The frames have another size than those of the result.
        """
        if self.settings is None:
            return None
        known = self.calibration
        if known is None:
            return FrameProcessor(
                frames.geometry,
                frames.bad_pixels,
                frames.saturation,
                self.settings,
                underload=frames.underload,
            )
        if known.bad_pixels.shape != frames.bad_pixels.shape:
            raise SettingsError(
                f"{frames.paths[0]}: frames of {frames.bad_pixels.shape} pixels (slow, fast), those of the "
                f"result have {known.bad_pixels.shape}; leave --result out or name files of its detector"
            )
        return calibrated_processor(known, self.settings, frames.bad_pixels)


def frame_inputs(request: FrameRequest) -> FrameInputs:
    """Inputs that a request leads to; no image is read.

    Raises
    ------
    SettingsError
        Options contradict each other, or something is missing.
    """
    if request.result is not None:
        return _of_result(request, request.result)
    if not request.files:
        raise SettingsError("no image file was given; name one, or a result with --result GROUP|FOLDER")
    check_files(SiteSettings(), None, request.files, geometry_file=request.geometry_file)
    if not request.lattice:
        if request.unit_cell is not None or request.space_group is not None:
            raise SettingsError("--cell and --space-group have no say without --lattice")
        spots = spot_settings(request.settings or {}, request.files, request.geometry_file)
        return FrameInputs(request.files, request.geometry_file, spots)
    if request.unit_cell is None:
        raise SettingsError(
            "--lattice needs a cell: give --result GROUP|FOLDER, or --cell (and --space-group if known)"
        )
    settings = _own_settings(request)
    return FrameInputs(request.files, request.geometry_file, settings.spots, settings)


def _own_settings(request: FrameRequest) -> ProcessingSettings:
    """Settings for files that need not have been processed."""
    if request.unit_cell is None:  # frame_inputs has seen it
        raise SettingsError("--lattice needs --cell")
    given = _only(request.settings or {}, OF_LATTICES)
    asked = ProcessRequest(files=request.files, folder=Path(), settings=given)
    of_geometry = _gain_of(request.geometry_file, request.files)
    cell, group = request.unit_cell, request.space_group
    requested = processing_settings(SiteSettings(), asked, cell, group, of_geometry)
    return requested.with_sample(requested.sample.known or sample_of_cell(requested.sample, cell))


def _of_result(request: FrameRequest, result: str) -> FrameInputs:
    """Inputs as a result had them, but for what the command line says."""
    if request.geometry_file is not None:
        raise SettingsError("--geometry and --result both say where the detector is; leave one out")
    group_id, folder = parse_result(result)
    runs = [read_processed_run(run) for run in run_folders(folder or folder_of_group(group_id))]
    run = _run_with(runs, request.files, result)
    check_files(SiteSettings(), None, request.files)
    sample = {"unit_cell": request.unit_cell, "space_group": request.space_group}
    given = _only(request.settings or {}, OF_LATTICES)
    merged = merged_mappings(run.settings.model_dump(), given)
    merged = merged_mappings(merged, {"sample": {name: value for name, value in sample.items() if value}})
    settings = ProcessingSettings.model_validate(merged)
    return FrameInputs(
        request.files or run.paths, run.geometry_file, settings.spots, settings, run.calibration
    )


def _run_with(runs: list[ProcessedRun], files: tuple[Path, ...], result: str) -> ProcessedRun:
    """The run that these files belong to; the only one where there is but one."""
    if len(runs) == 1:
        return runs[0]
    wanted = {path.resolve() for path in files}
    holding = [run for run in runs if wanted & set(run.paths)]
    if len(holding) != 1:
        names = ", ".join(str(run.paths[0]) for run in runs)
        raise SettingsError(
            f"--result {result}: has {len(runs)} data collections; name the file to look at, of: {names}"
        )
    return holding[0]


def spot_settings(
    given: dict[str, Any], files: tuple[Path, ...] | list[Path], geometry_file: Path | None
) -> SpotSettings:
    """Settings of the spots: defaults, those of the geometry file, the site's, those given.

    Raises
    ------
    SettingsError
        A setting is named that has nothing to do with spots.
    """
    check_files(SiteSettings(), None, files, geometry_file=geometry_file)
    _only(given, ("spots",))
    of_geometry = _gain_of(geometry_file, files).get("spots", {})
    of_site = merged_mappings(of_geometry, SiteSettings().processing.get("spots", {}))
    merged = merged_mappings({"spots": of_site}, given)
    return TypeAdapter(dict[str, SpotSettings]).validate_python(merged)["spots"]


def _gain_of(geometry_file: Path | None, files: tuple[Path, ...] | list[Path]) -> dict[str, Any]:
    """Counts per photon, if the geometry file says."""
    gain = read_geometry(geometry_file, files[0]).gain if geometry_file else None
    return {} if gain is None else {"spots": {"gain": gain}}


def _only(given: dict[str, Any], sections: tuple[str, ...]) -> dict[str, Any]:
    """Raise if a setting belongs to another section than these."""
    others = [name for name in given if name not in sections]
    if others:
        raise SettingsError(
            f"--set {others[0]}: has no say here, only settings of {' and '.join(sections)}: "
            f"--set {sections[0]}.NAME=VALUE"
        )
    return given
