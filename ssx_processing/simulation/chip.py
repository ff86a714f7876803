"""A whole fixed-target chip: which wells hold crystals, all frames, the files and the truth."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import SsxError
from ssx_processing.settings import SampleSettings
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.detector import true_beam_centre_px
from ssx_processing.simulation.nxmx_writer import DataFile, compressed_frames, write_master
from ssx_processing.simulation.scene import LAYOUT_STREAM, RenderedFrame, Scene
from ssx_processing.simulation.still import BraggSpots
from ssx_processing.simulation.truth import (
    TrueCrystals,
    TrueFrames,
    TrueIntensities,
    TrueSpots,
    Truth,
    read_truth,
    write_truth,
)

BATCH = 16
"""Frames that a worker renders at a time."""
WELLS_PER_BLOCK = 10
"""Wells along each side of a block of the chip."""


@dataclass(frozen=True)
class SimulatedChip:
    """Where the files of a chip are."""

    master: Path
    """NXmx master."""
    data_files: tuple[Path, ...]
    truth: Path
    """For :func:`ssx_processing.simulation.truth.read_truth`."""
    sample: SampleSettings
    reused: bool
    """The same chip was there already, nothing was simulated."""


@dataclass(frozen=True)
class _Batch:
    """Some frames in a row: compressed pixels and what is known of them."""

    chunks: list[bytes]
    frames: TrueFrames
    crystals: TrueCrystals
    spots: TrueSpots
    """Their ``crystal`` counts from 0 within the batch."""


def simulate_chip(
    folder: Path, settings: ChipSettings, progress: Callable[[int, int], None] | None = None
) -> SimulatedChip:
    """Write the chip's NXmx files and its truth into ``folder``, unless this very chip is there.

    Parameters
    ----------
    progress
        Called with the number of frames done and their total.
    """
    sizes = _file_sizes(settings)
    data_files = tuple(folder / f"{settings.name}_data_{i:06d}.h5" for i in range(1, len(sizes) + 1))
    master, truth_path = folder / f"{settings.name}_master.h5", folder / f"{settings.name}_truth.h5"
    if all(path.is_file() for path in (master, *data_files)) and _is_truth_of(truth_path, settings):
        return SimulatedChip(master, data_files, truth_path, settings.crystals.sample, reused=True)
    folder.mkdir(parents=True, exist_ok=True)
    truth_path.unlink(missing_ok=True)  # written last: without it the chip is not whole
    scene = Scene(settings)
    n_crystals, wells = chip_layout(settings, scene.random_stream(LAYOUT_STREAM))
    batches = []
    chunks = _write_chunks(_rendered(scene, n_crystals, wells), batches, settings.n_frames, progress)
    for path, size in zip(data_files, sizes, strict=True):
        file = DataFile(path, size, settings.detector)
        try:
            for _ in range(size):
                file.append(next(chunks))
        finally:
            file.close()
    write_master(master, settings, list(zip(data_files, sizes, strict=True)))
    write_truth(truth_path, _joined_truth(scene, batches))
    return SimulatedChip(master, data_files, truth_path, settings.crystals.sample, reused=False)


def _file_sizes(settings: ChipSettings) -> list[int]:
    """Frames of each data file, as equal as can be."""
    return [len(part) for part in np.array_split(np.arange(settings.n_frames), settings.n_files)]


def _is_truth_of(path: Path, settings: ChipSettings) -> bool:
    """Whether the truth is there and of these settings; how many workers does not matter."""
    try:
        there = read_truth(path).settings
    except (SsxError, ValueError):
        return False
    return there.model_copy(update={"n_workers": settings.n_workers}) == settings


def chip_layout(
    settings: ChipSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many crystals are on each frame, and (n, 2) column and row of each frame's well.

    The stage goes block by block and to and fro within a block. Loading differs from block to
    block and falls off towards the rim of the chip.
    """
    wells = _wells_in_scan_order(settings.n_frames)
    blocks = wells // WELLS_PER_BLOCK
    loading = rng.gamma(4.0, size=blocks.max(axis=0) + 1)[tuple(blocks.T)]
    from_middle = 2 * wells / np.maximum(wells.max(axis=0), 1) - 1
    loading *= 1 - 0.3 * (from_middle**2).sum(axis=1)
    n_hits = round(settings.n_frames * settings.hit_fraction)
    hits = rng.choice(settings.n_frames, size=n_hits, replace=False, p=loading / loading.sum())
    n_crystals = np.zeros(settings.n_frames, np.int32)
    n_crystals[hits] = 1
    n_crystals[hits[: round(n_hits * settings.two_crystal_fraction)]] = 2
    return n_crystals, wells


def _wells_in_scan_order(n_frames: int) -> NDArray[np.int32]:
    side = WELLS_PER_BLOCK
    n_blocks = -(-n_frames // side**2)
    per_row = int(np.ceil(np.sqrt(n_blocks)))
    block, within = np.divmod(np.arange(n_frames), side**2)
    line, step = np.divmod(within, side)
    column = np.where(line % 2, side - 1 - step, step)
    return np.stack([block % per_row * side + column, block // per_row * side + line], axis=1).astype(
        np.int32
    )


def _rendered(scene: Scene, n_crystals: NDArray[np.int32], wells: NDArray[np.int32]) -> Iterator[_Batch]:
    """Batches in order of frames, from this process or from several."""
    settings = scene.settings
    starts = range(0, settings.n_frames, BATCH)
    parts = [(start, n_crystals[start : start + BATCH], wells[start : start + BATCH]) for start in starts]
    if settings.n_workers == 1:
        yield from (_render_batch(scene, *part) for part in parts)
        return
    # spawn: forking a process that has threads, such as a flow's, may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(settings.n_workers, context, _open_scene, (settings,)) as pool:
        yield from pool.map(_render_in_worker, parts)


_worker_scene: list[Scene] = []
"""The scene of a worker process, made once by its initialiser."""


def _open_scene(settings: ChipSettings) -> None:
    _worker_scene[:] = [Scene(settings)]


def _render_in_worker(part: tuple[int, NDArray[np.int32], NDArray[np.int32]]) -> _Batch:
    return _render_batch(_worker_scene[0], *part)


def _render_batch(
    scene: Scene, start: int, n_crystals: NDArray[np.int32], wells: NDArray[np.int32]
) -> _Batch:
    rendered = [scene.render(start + i, int(n)) for i, n in enumerate(n_crystals)]
    crystals = [(start + i, crystal) for i, frame in enumerate(rendered) for crystal in frame.crystals]
    return _Batch(
        chunks=compressed_frames(np.stack([frame.image for frame in rendered])),
        frames=TrueFrames(
            is_hit=n_crystals > 0,
            n_crystals=n_crystals,
            well=wells,
            background_factor=np.array([frame.background_factor for frame in rendered]),
            ice_photons=np.array([frame.ice_photons for frame in rendered]),
        ),
        crystals=TrueCrystals(
            frame=np.array([frame for frame, _ in crystals], np.int64),
            a_matrix=np.array([c.a_matrix for _, c in crystals]).reshape(-1, 3, 3),
            unit_cell=np.array([c.unit_cell for _, c in crystals]).reshape(-1, 6),
            scale=np.array([c.scale for _, c in crystals]) / scene.median_scale,
            b_factor=np.array([c.b_factor for _, c in crystals]),
            block_size=np.array([c.blocks.size_a for _, c in crystals]),
        ),
        spots=TrueSpots.joined(list(_listed_spots(scene, start, rendered))),
    )


def _listed_spots(scene: Scene, start: int, rendered: list[RenderedFrame]) -> Iterator[TrueSpots]:
    """Spots of each crystal that go into the truth; a first, empty part keeps the types."""
    empty = BraggSpots(np.empty((0, 3), np.int32), *np.empty((5, 0)))
    yield _on_live_sensor(scene, start, 0, empty, 1.0)
    crystal = 0
    for i, frame in enumerate(rendered):
        for spots in frame.spots:
            yield _on_live_sensor(scene, start + i, crystal, spots, frame.background_factor)
            crystal += 1


def _on_live_sensor(scene: Scene, frame: int, crystal: int, spots: BraggSpots, factor: float) -> TrueSpots:
    column, row = np.floor(spots.x_px).astype(int), np.floor(spots.y_px).astype(int)
    n_slow, n_fast = scene.maps.gap.shape
    on = np.flatnonzero((column >= 0) & (column < n_fast) & (row >= 0) & (row < n_slow))
    photons = spots.photons[on] * scene.maps.transmission[row[on], column[on]]
    strong = photons >= max(scene.settings.truth_min_photons, 1e-9)
    on, photons = on[strong], photons[strong]
    return TrueSpots(
        frame=np.full(len(on), frame, np.int64),
        crystal=np.full(len(on), crystal, np.int64),
        hkl=spots.hkl[on],
        x_px=spots.x_px[on],
        y_px=spots.y_px[on],
        photons=photons,
        background=factor * scene.background.image[row[on], column[on]],
        partiality=spots.partiality[on],
        excitation_error=spots.excitation_error[on],
    )


def _write_chunks(
    batches: Iterator[_Batch],
    seen: list[_Batch],
    n_frames: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[bytes]:
    """Compressed frames one by one; the batches, without their pixels, are kept in ``seen``."""
    done = 0
    for batch in batches:
        seen.append(batch)
        done += len(batch.chunks)
        if progress is not None:
            progress(done, n_frames)
        yield from batch.chunks
        batch.chunks.clear()


def _joined_truth(scene: Scene, batches: list[_Batch]) -> Truth:
    first = np.cumsum([0, *(len(batch.crystals.frame) for batch in batches)])
    spots = TrueSpots.joined([batch.spots for batch in batches])
    offset = np.repeat(first[:-1], [len(batch.spots.frame) for batch in batches])
    spots.crystal[:] += offset
    return Truth(
        settings=scene.settings,
        beam_centre_px=true_beam_centre_px(scene.settings.detector),
        frames=TrueFrames.joined([batch.frames for batch in batches]),
        crystals=TrueCrystals.joined([batch.crystals for batch in batches]),
        spots=spots,
        reflections=TrueIntensities(scene.unique.hkl, scene.unique.intensity),
    )
