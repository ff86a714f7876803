"""Learn from some frames what all are processed with: hot pixels, beam centre, rocking width, spot size."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ssx_processing.errors import GeometryError, ImageReadError, SsxError
from ssx_processing.formats.chunk_folder import SUMMARY, atomic_folder, read_summary, write_json
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.models import Geometry, Panel, SpotList
from ssx_processing.pipeline.cell_check import check_cell
from ssx_processing.pipeline.frame_processing import FrameProcessor, Rocking, robust_sigma
from ssx_processing.pipeline.plan import Plan
from ssx_processing.settings import ProcessingSettings, content_key

Progress = Callable[[int, int], None]
MIN_SPOTS_FOR_ROCKING = 100
Q_BINS = 8
MAX_MOVES = 10
"""Corrections of the beam centre at most; the frames are indexed again after each."""
SMALL_MOVE_PX = 0.02
"""A median residual below this is none."""


@dataclass(frozen=True)
class Calibration:
    """What all frames are processed with; `key` names its folder."""

    key: str
    folder: Path
    geometry: Geometry
    """Beam centre corrected."""
    bad_pixels: NDArray[np.bool_]
    """The file's mask and the hot pixels."""
    saturation: float
    underload: float
    rocking: Rocking
    peak_radius_px: float
    beam_shift_px: tuple[float, float]
    """By how much the file's beam centre was moved, fast and slow."""
    n_frames: int
    n_hits: int
    n_lattices: int
    n_hot_pixels: int
    cell_notices: tuple[str, ...] = ()
    """What must be known about the cell that was given."""
    reused: bool = False


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
        with FrameSet(plan.paths, plan.geometry_file) as frames:
            calibration = _learn(frames, key, folder, settings, progress)
        _write(calibration)
        return calibration
    return read_calibration(folder, reused=True)


def calibration_key(plan: Plan, settings: ProcessingSettings) -> str:
    """Key of the calibration that these files and settings lead to."""
    relevant = settings.model_dump(include={"sample", "spots", "indexing", "calibration"})
    return content_key({"input": plan.identity, **relevant})


def _learn(
    frames: FrameSet, key: str, folder: Path, settings: ProcessingSettings, progress: Progress | None
) -> Calibration:
    chosen = np.unique(np.linspace(0, frames.n_frames - 1, settings.calibration.n_frames).astype(int))
    processor = FrameProcessor(
        frames.geometry, frames.bad_pixels, frames.saturation, settings, underload=frames.underload
    )
    spot_lists, isolated = _find_spots(frames, chosen, processor, progress)
    hot = np.zeros(frames.geometry.image_shape, bool)
    hot.flat[hot_pixels(isolated, len(spot_lists), settings.calibration.hot_pixel_fraction)] = True
    spot_lists = [_without_hot(spots, hot) for spots in spot_lists]
    hits = [s for s in spot_lists if processor.hits.is_hit(s)]
    indexed = _centre_beam(processor, hits, settings)
    return Calibration(
        key=key,
        folder=folder,
        geometry=processor.geometry,
        bad_pixels=frames.bad_pixels | hot,
        saturation=frames.saturation,
        underload=frames.underload,
        rocking=fit_rocking(np.concatenate([r[:, 3:] for r in indexed]) if indexed else np.empty((0, 2))),
        peak_radius_px=spot_radius(hits),
        beam_shift_px=beam_shift_px(frames.geometry, processor.geometry),
        n_frames=len(spot_lists),
        n_hits=len(hits),
        n_lattices=len(indexed),
        n_hot_pixels=int(hot.sum()),
        cell_notices=check_cell(hits, frames.geometry, processor.index, settings),
    )


def _find_spots(
    frames: FrameSet, chosen: NDArray[np.int64], processor: FrameProcessor, progress: Progress | None
) -> tuple[list[SpotList], NDArray[np.int32]]:
    """Spots of the chosen frames that can be read, and the pixels that stood out alone on them."""
    isolated: list[NDArray[np.int32]] = []
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
        if progress is not None:
            progress(n + 1, len(chosen))
    if not spot_lists and error is not None:
        raise ImageReadError(f"none of {len(chosen)} frames looked at can be read; the last: {error}")
    return spot_lists, np.concatenate(isolated)


def _without_hot(spots: SpotList, hot: NDArray[np.bool_]) -> SpotList:
    """The spots whose middle lies on no hot pixel."""
    keep = ~hot[spots.y_px.astype(int), spots.x_px.astype(int)]
    return SpotList(**{name: values[keep] for name, values in vars(spots).items()})


def _centre_beam(
    processor: FrameProcessor, hits: list[SpotList], settings: ProcessingSettings
) -> list[NDArray[np.float64]]:
    """Move the processor's detector by the median residual until it is small; return the last residuals.

    One vector in the laboratory for all panels, whichever way their axes point.
    """
    residuals: list[NDArray[np.float64]] = []
    for move in range(MAX_MOVES + 1):
        residuals = [
            processor.residuals(lattice, spots) for spots in hits for lattice in processor.index(spots)
        ]
        enough = len(residuals) >= settings.calibration.min_lattices
        if not settings.calibration.refine_beam_centre or not enough or move == MAX_MOVES:
            break
        off_mm = np.median([np.median(r[:, :3], axis=0) for r in residuals], axis=0)
        if np.linalg.norm(off_mm) < SMALL_MOVE_PX * processor.geometry.panels[0].pixel_size_mm[0]:
            break
        processor.move_detector(-off_mm)
    return residuals


def beam_shift_px(before: Geometry, after: Geometry) -> tuple[float, float]:
    """By how much the beam centre moved on the first panel, fast and slow."""
    moved = np.array(before.panels[0].origin_mm) - after.panels[0].origin_mm
    panel = before.panels[0]
    fast, slow = float(moved @ panel.fast_axis), float(moved @ panel.slow_axis)
    return fast / panel.pixel_size_mm[0], slow / panel.pixel_size_mm[1]


def fit_rocking(q_and_error: NDArray[np.float64]) -> Rocking:
    """Rocking width from excitation errors of indexed spots; the default with too few.

    Parameters
    ----------
    q_and_error : (n, 2) array
        |q| and excitation error, 1/Å.
    """
    if len(q_and_error) < MIN_SPOTS_FOR_ROCKING:
        return Rocking()
    parts = np.array_split(q_and_error[np.argsort(q_and_error[:, 0])], Q_BINS)
    q = np.array([np.median(part[:, 0]) for part in parts])
    variance = np.array([robust_sigma(part[:, 1]) ** 2 for part in parts])
    (constant, per_q), _ = nnls(np.column_stack([np.ones_like(q), q * q]), variance)
    if constant + per_q <= 0.0:
        return Rocking()
    return Rocking(float(np.sqrt(constant)), float(np.sqrt(per_q)))


def spot_radius(hits: list[SpotList]) -> float:
    """Radius in pixels that holds the larger spots, with a margin for their weak edges; 3 without spots."""
    n_pixels = np.concatenate([s.n_pixels for s in hits]) if hits else np.empty(0)
    if len(n_pixels) == 0:
        return 3.0
    return float(np.clip(np.sqrt(np.percentile(n_pixels, 90) / np.pi) + 1.0, 2.0, 8.0))


def _write(calibration: Calibration) -> None:
    with atomic_folder(calibration.folder) as temporary:
        np.savez_compressed(temporary / "bad_pixels.npz", bad_pixels=calibration.bad_pixels)
        content = asdict(calibration)
        for name in ("bad_pixels", "folder", "reused"):
            del content[name]
        write_json(temporary / SUMMARY, content)


def read_calibration(folder: Path, *, reused: bool = False) -> Calibration:
    """Calibration from its folder.

    Raises
    ------
    ChunkError
        The folder is incomplete.
    """
    content = read_summary(folder)
    geometry = content.pop("geometry")
    panels = tuple(Panel(**_tuples(panel)) for panel in geometry.pop("panels"))
    with np.load(folder / "bad_pixels.npz") as file:
        bad_pixels = file["bad_pixels"]
    return Calibration(
        folder=folder,
        geometry=Geometry(panels=panels, **_tuples(geometry)),
        bad_pixels=bad_pixels,
        rocking=Rocking(**content.pop("rocking")),
        reused=reused,
        **_tuples(content),
    )


def _tuples(content: dict) -> dict:
    """JSON knows lists only; the models hold tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
