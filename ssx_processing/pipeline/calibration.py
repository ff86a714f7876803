"""What all frames are processed with, and its folder."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.chunk_folder import SUMMARY, atomic_folder, read_summary, write_json
from ssx_processing.models import Geometry, Panel
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.geometry_export import write_geometry
from ssx_processing.pipeline.geometry_record import GeometryRefinement
from ssx_processing.pipeline.population import Population, Rocking
from ssx_processing.pipeline.trial import Trial
from ssx_processing.settings import ProcessingSettings

REFINED = "refined"
"""Stem of the geometry files in the folder."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What all frames are processed with; `key` names its folder."""

    key: str
    folder: Path
    geometry: Geometry
    """Refined."""
    bad_pixels: NDArray[np.bool_]
    """The file's mask and the hot pixels."""
    saturation: float
    underload: float
    rocking: Rocking
    population: Population
    """What the crystals are expected to be like."""
    refinement: GeometryRefinement
    """What was done to the geometry, and what must be known about it."""
    peak_radius_px: float
    beam_shift_px: tuple[float, float]
    """By how much the file's beam centre was moved, fast and slow."""
    n_frames: int
    n_hits: int
    n_lattices: int
    n_hot_pixels: int
    cell_notices: tuple[str, ...] = ()
    """What must be known about the cell that was given."""
    trial: Trial | None = None
    """What a frame takes; None where that was not tried."""
    spot_geometry: Geometry | None = None
    """With which spots are sought; None: the refined one.

    The files' own, moved by whole pixels: another cell refines to another geometry, but finds the same spots.
    """
    reused: bool = False


def write_calibration(
    calibration: Calibration, images: Path, geometry_file: Path | None, gain: float
) -> None:
    """Write the folder, with the geometry as files for ``--geometry``, DIALS and CrystFEL.

    Parameters
    ----------
    images, geometry_file, gain
        As in `geometry_export.write_geometry`. What a format cannot say is logged, its file left out.
    """
    with atomic_folder(calibration.folder) as temporary:
        np.savez_compressed(temporary / "bad_pixels.npz", bad_pixels=calibration.bad_pixels)
        content = asdict(calibration)
        for name in ("bad_pixels", "folder", "reused"):
            del content[name]
        for suffix in (".expt", ".geom"):
            try:
                write_geometry(
                    temporary / f"{REFINED}{suffix}",
                    calibration.geometry,
                    bad_pixels=calibration.bad_pixels,
                    saturation=calibration.saturation,
                    underload=calibration.underload,
                    images=images,
                    geometry_file=geometry_file,
                    gain=gain,
                )
            except GeometryError as error:
                logger.warning("the refined geometry is not written as %s: %s", suffix, error)
        write_json(temporary / SUMMARY, content)


def read_calibration(folder: Path, *, reused: bool = False) -> Calibration:
    """Calibration from its folder.

    Raises
    ------
    ChunkError
        The folder is incomplete.
    """
    content = read_summary(folder)
    trial = content.pop("trial", None)  # calibrations of earlier versions have none
    spot_geometry = content.pop("spot_geometry", None)
    with np.load(folder / "bad_pixels.npz") as file:
        bad_pixels = file["bad_pixels"]
    return Calibration(
        folder=folder,
        geometry=_geometry(content.pop("geometry")),
        bad_pixels=bad_pixels,
        rocking=Rocking(**content.pop("rocking")),
        population=Population(**_tuples(content.pop("population"))),
        refinement=GeometryRefinement(**_tuples(content.pop("refinement"))),
        trial=None if trial is None else Trial(**trial),
        spot_geometry=None if spot_geometry is None else _geometry(spot_geometry),
        reused=reused,
        **_tuples(content),
    )


def calibrated_processor(
    calibration: Calibration, settings: ProcessingSettings, more_bad_pixels: NDArray[np.bool_] | None = None
) -> FrameProcessor:
    """What processes the frames that a calibration is for.

    Parameters
    ----------
    more_bad_pixels : (slow, fast) array
        True where a pixel is not to be used, beside the calibration's.
    """
    bad_pixels = calibration.bad_pixels
    return FrameProcessor(
        calibration.geometry,
        bad_pixels if more_bad_pixels is None else bad_pixels | more_bad_pixels,
        calibration.saturation,
        settings,
        calibration.rocking,
        calibration.peak_radius_px,
        underload=calibration.underload,
        population=calibration.population,
        spot_geometry=calibration.spot_geometry,
    )


def _geometry(content: dict) -> Geometry:
    panels = tuple(Panel(**_tuples(panel)) for panel in content.pop("panels"))
    return Geometry(panels=panels, **_tuples(content))


def _tuples(content: dict) -> dict:
    """JSON knows lists only; the models hold tuples."""
    return {name: _tuple(value) for name, value in content.items()}


def _tuple(value: object) -> object:
    return tuple(_tuple(part) for part in value) if isinstance(value, list) else value
