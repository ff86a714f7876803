"""Learn from some frames what all are processed with: hot pixels, beam centre, rocking width, spot size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.chunk_folder import SUMMARY
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.formats.geometry_model import GeometryFile
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.geometry import with_beam_centre_moved
from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.models import Geometry, Plan, SpotList
from ssx_processing.pipeline.calibration import Calibration, read_calibration, write_calibration
from ssx_processing.pipeline.cell_check import check_cell
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.geometry_refinement import refine_geometry
from ssx_processing.pipeline.population import Rocking
from ssx_processing.pipeline.spot_size import SpotShapes, spot_radius, spot_shapes
from ssx_processing.pipeline.stream_calibration import stream_calibration
from ssx_processing.pipeline.stream_plan import are_streams
from ssx_processing.pipeline.trial import try_frames
from ssx_processing.settings import ProcessingSettings, content_key

Progress = Callable[[int, int], None]


def calibrate(
    plan: Plan, settings: ProcessingSettings, run_folder: Path, progress: Progress | None = None
) -> Calibration:
    """Calibrate on frames spread evenly over the data set, or find that it was done.

    Parameters
    ----------
    progress
        Called with frames done and frames to do.

    Raises
    ------
    ImageReadError
        None of the frames looked at can be read.
    SettingsError
        The cell given indexes nothing, and another does.
    """
    key = calibration_key(plan, settings)
    folder = RunFolder(run_folder).calibrations / key
    if not (folder / SUMMARY).is_file():
        if are_streams(plan.paths):
            calibration = stream_calibration(
                key, folder, plan.paths, plan.geometry_file, settings.calibration
            )
            write_calibration(calibration, plan.paths[0], plan.geometry_file, settings.spots.gain)
            return calibration
        with FrameSet(plan.paths, plan.geometry_file) as frames:
            calibration = _learn(frames, plan, key, folder, settings, progress)
        write_calibration(calibration, plan.paths[0], plan.geometry_file, settings.spots.gain)
        return calibration
    return read_calibration(folder, reused=True)


def calibration_key(plan: Plan, settings: ProcessingSettings) -> str:
    """Key of the calibration that these files and settings lead to."""
    relevant = settings.model_dump(include={"sample", "spots", "indexing", "calibration"})
    return content_key({"input": plan.identity, **relevant})


def _learn(
    frames: FrameSet,
    plan: Plan,
    key: str,
    folder: Path,
    settings: ProcessingSettings,
    progress: Progress | None,
) -> Calibration:
    chosen = np.unique(
        np.linspace(0, plan.frames_to_learn_from - 1, settings.calibration.n_frames).astype(int)
    )
    processor = FrameProcessor(
        frames.geometry, frames.bad_pixels, frames.saturation, settings, underload=frames.underload
    )
    spot_lists, isolated, shapes = _find_spots(frames, chosen, processor, progress)
    hot = np.zeros(frames.geometry.image_shape, bool)
    hot.flat[hot_pixels(isolated, len(spot_lists), settings.calibration.hot_pixel_fraction)] = True
    spot_lists = [_without_hot(spots, hot) for spots in spot_lists]
    hits = [s for s in spot_lists if processor.hits.is_hit(s)]
    given = read_geometry(plan.geometry_file, plan.paths[0]) if plan.geometry_file is not None else None
    processor.set_population(processor.population, _expected_rocking(frames.geometry, given, settings))
    groups = panel_groups(frames.geometry, given) if settings.calibration.refine_geometry == "panels" else {}
    refinement = refine_geometry(processor, hits, settings.calibration, groups)
    return Calibration(
        key=key,
        folder=folder,
        geometry=processor.geometry,
        bad_pixels=frames.bad_pixels | hot,
        saturation=frames.saturation,
        underload=frames.underload,
        rocking=processor.rocking,
        population=processor.population,
        refinement=refinement,
        peak_radius_px=spot_radius(
            shapes, hits, processor.geometry, processor.rocking, processor.population.position_error_px
        ),
        beam_shift_px=refinement.beam_shift_px,
        n_frames=len(spot_lists),
        n_hits=len(hits),
        n_lattices=refinement.n_lattices,
        n_hot_pixels=int(hot.sum()),
        cell_notices=check_cell(
            hits, frames.geometry, lambda spots: processor.index(spots).lattices, settings
        ),
        trial=try_frames(frames, chosen, processor),
        spot_geometry=with_beam_centre_moved(frames.geometry, _whole(refinement.beam_shift_px)),
    )


def _whole(shift_px: tuple[float, float]) -> tuple[float, float]:
    fast, slow = shift_px
    return float(round(fast)), float(round(slow))


def _expected_rocking(
    geometry: Geometry, given: GeometryFile | None, settings: ProcessingSettings
) -> Rocking:
    """Start of the rocking width: bandwidth and divergence are not fitted but known."""
    bandwidth = settings.calibration.bandwidth
    if bandwidth is None and given is not None:
        bandwidth = given.bandwidth
    return Rocking(
        per_q_squared=0.5 * (bandwidth or 0.0) * geometry.wavelength,
        divergence=1e-3 * settings.calibration.divergence_mrad,
    )


def panel_groups(geometry: Geometry, given: GeometryFile | None) -> dict[str, tuple[int, ...]]:
    """Panels that move as one, by name: the file's smallest groups, else every panel; none with one panel."""
    if len(geometry.panels) < 2:
        return {}
    number = {panel.name: i for i, panel in enumerate(geometry.panels)}
    named = {} if given is None else {name: set(panels) for name, panels in given.groups.items()}
    smallest = {
        name: tuple(sorted(number[panel] for panel in panels))
        for name, panels in named.items()
        if panels <= set(number) and not any(other < panels for other in named.values())
    }
    all_panels = [panel for panels in smallest.values() for panel in panels]
    if len(smallest) > 1 and len(all_panels) == len(set(all_panels)):
        return smallest
    return {panel.name: (i,) for i, panel in enumerate(geometry.panels)}


def _find_spots(
    frames: FrameSet, chosen: NDArray[np.int64], processor: FrameProcessor, progress: Progress | None
) -> tuple[list[SpotList], NDArray[np.int32], SpotShapes]:
    """Spots of the chosen frames that can be read, pixels that stood out alone on them, shapes on hits."""
    isolated: list[NDArray[np.int32]] = []
    shapes: list[SpotShapes] = []
    spot_lists: list[SpotList] = []
    error: SsxError | None = None
    for n, frame in enumerate(chosen):
        try:
            image = frames.read(int(frame))
        except (ImageReadError, GeometryError) as caught:
            error = caught
        else:
            spot_lists.append(processor.hits.find(image))
            isolated.append(processor.hits.finder.isolated.copy())
            if processor.hits.is_hit(spot_lists[-1]):
                shapes.append(spot_shapes(image, spot_lists[-1], frames.bad_pixels, frames.saturation))
        if progress is not None:
            progress(n + 1, len(chosen))
    if not spot_lists and error is not None:
        raise ImageReadError(f"none of {len(chosen)} frames looked at can be read; the last: {error}")
    return spot_lists, np.concatenate(isolated), SpotShapes.joined(shapes)


def _without_hot(spots: SpotList, hot: NDArray[np.bool_]) -> SpotList:
    """The spots whose middle lies on no hot pixel."""
    keep = ~hot[spots.y_px.astype(int), spots.x_px.astype(int)]
    return SpotList(**{name: values[keep] for name, values in vars(spots).items()})
