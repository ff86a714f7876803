"""Refine the detector's place on the calibration's lattices, and say how well it is known.

Distance and size of the cell change radii alike but for the curvature of the Ewald sphere. Where
the data cannot tell them apart, the mean cell is held at the given one, and that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.detector_refinement import (
    OF_GROUP,
    DetectorParts,
    moved_detector,
)
from ssx_processing.kernels.unit_cell import cell_of
from ssx_processing.models import Geometry, Lattice, SpotList
from ssx_processing.pipeline.cell_and_distance import trust_in_cell
from ssx_processing.pipeline.detector_normals import NormalsCollector, counting_snr, solve_shared
from ssx_processing.pipeline.fitted_hits import FittedHits, is_worse, judged
from ssx_processing.pipeline.frame_processing import FrameProcessor
from ssx_processing.pipeline.geometry_record import GeometryRefinement, shared_in_words
from ssx_processing.pipeline.population import learn_population
from ssx_processing.settings import CalibrationSettings

MAX_ROUNDS = 12
"""Rounds of refinement at most."""
FAR_PX = 0.3
"""Frames are indexed again after a move by more than this, anywhere on the detector."""
LONGEST_STEP_PX = 4.0
"""A round moves no corner of a panel by more."""
SMALL = 0.1
"""A round that moves all parameters by less than this part of their standard deviations is the last."""


@dataclass
class _State:
    """Geometry and what is known of it, from round to round."""

    geometry: Geometry
    shift: NDArray[np.float64]
    """(5,) sum of the moves, as in `DETECTOR`."""
    of_groups: NDArray[np.float64]
    """(g, 6) sum of the moves of groups."""
    strain: NDArray[np.float64]
    """(m,) mean strain."""
    min_snr: float
    """Of spots that count for the detector."""
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    distance_note: str = ""
    n_lattices: int = 0
    n_spots: int = 0


def refine_geometry(
    processor: FrameProcessor,
    hits: list[SpotList],
    settings: CalibrationSettings,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> GeometryRefinement:
    """Refine the processor's geometry and population in place, and say what was done.

    Parameters
    ----------
    groups
        Panels of each group that may move on its own, by name.
    """
    given = processor.geometry
    start = FittedHits(hits, [processor.index(spots).lattices for spots in hits])
    level, notes = _level(settings, len(start.every))
    if level == "none":
        _learn(processor, start.every)
        return _untouched(start, notes)
    fitted = _centred(processor, start)
    chosen: dict[str, Sequence[int]] = {}
    if level == "panels":
        chosen, note = _seen_groups(processor, fitted, settings, groups or {})
        notes = (*notes, *note)
    state = _State(
        processor.geometry,
        np.zeros(5),
        np.zeros((len(chosen), OF_GROUP)),
        np.zeros(len(processor.indexer.lattice.strains)),
        counting_snr(hits),
    )
    state.shift[:3] = np.array(processor.geometry.panels[0].origin_mm) - given.panels[0].origin_mm
    _iterate(processor, fitted, state, settings, level, list(chosen.values()))
    free = judged(processor, fitted)
    if is_worse(start, free):
        processor.set_geometry(given)
        _learn(processor, start.every)
        refused = (
            f"the refined geometry was refused: it fits {free.n_used} spots of {free.n_frames} frames "
            f"with {free.rmsd_px:.2f} px, the given one {start.n_used} of {start.n_frames} "
            f"with {start.rmsd_px:.2f} px"
        )
        return _untouched(start, (*notes, refused))
    if state.distance_note:
        notes = (*notes, state.distance_note)
    return _described(processor, state, level, given, tuple(chosen), start, fitted, notes)


def _untouched(start: FittedHits, notes: tuple[str, ...]) -> GeometryRefinement:
    """The given geometry was kept."""
    return GeometryRefinement(
        rmsd_before_px=start.rmsd_px, rmsd_after_px=start.rmsd_px, n_lattices=len(start.every), notes=notes
    )


def _iterate(
    processor: FrameProcessor,
    fitted: FittedHits,
    state: _State,
    settings: CalibrationSettings,
    level: str,
    groups: Sequence[Sequence[int]],
) -> None:
    """Refine the shared parameters and the lattices in turn until nothing moves."""

    def strain() -> NDArray[np.float64] | None:
        return None if level == "centre" else state.strain

    _learn(processor, fitted.every, centred=True)
    state.strain = processor.refiner.mean[: len(state.strain)].copy()
    fitted.lattices = [
        processor.refine_again(lattices, spots).lattices
        for spots, lattices in zip(fitted.hits, fitted.lattices, strict=True)
    ]
    for number in range(MAX_ROUNDS):
        move_px, move_sd = _round(processor, fitted, state, settings, level, groups)
        processor.set_geometry(state.geometry)
        _learn(processor, fitted.every, strain(), centred=True)
        search = move_px > FAR_PX or number == 0
        fitted.lattices = [
            (processor.index(spots) if search else processor.refine_again(lattices, spots)).lattices
            for spots, lattices in zip(fitted.hits, fitted.lattices, strict=True)
        ]
        if move_sd < SMALL:
            break
    _learn(processor, fitted.every, strain(), centred=True)


def _level(settings: CalibrationSettings, n_lattices: int) -> tuple[str, tuple[str, ...]]:
    """What can be refined with so many lattices, and what must be said about it."""
    wanted = settings.refine_geometry
    if wanted == "off":
        return "none", ("the geometry was not refined: calibration.refine_geometry is off",)
    if n_lattices < settings.min_lattices:
        return "none", (
            f"the geometry was not refined: {n_lattices} lattices on the calibration frames, "
            f"{settings.min_lattices} are needed",
        )
    if wanted != "centre" and n_lattices < settings.min_lattices_detector:
        return "centre", (
            f"only the beam centre can be refined: {n_lattices} lattices on the calibration frames, "
            f"distance and tilts need {settings.min_lattices_detector}",
        )
    return wanted, ()


def _centred(processor: FrameProcessor, start: FittedHits) -> FittedHits:
    """Move the detector by the median displacement until it is small; few stray lattices do not matter."""
    fitted = start
    for _ in range(MAX_ROUNDS):
        moves = np.array([x.fit.displacement_mm for x in fitted.every])
        if not len(moves):
            break
        by = -np.median(moves, axis=0)
        if np.hypot(*by) < FAR_PX * processor.geometry.panels[0].pixel_size_mm[0]:
            break
        none = np.full(len(processor.geometry.panels), -1, np.int64)
        parts = DetectorParts(np.zeros(3), none, np.empty((0, 3)))
        processor.set_geometry(
            moved_detector(processor.geometry, parts, np.array([by[0], by[1], 0.0, 0.0, 0.0]))
        )
        fitted = FittedHits(fitted.hits, [processor.index(spots).lattices for spots in fitted.hits])
    return FittedHits(fitted.hits, list(fitted.lattices))


def _seen_groups(
    processor: FrameProcessor,
    fitted: FittedHits,
    settings: CalibrationSettings,
    groups: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Sequence[int]], tuple[str, ...]]:
    """Groups with spots enough to be moved, and what is to be said of the others."""
    seen = np.zeros(len(processor.geometry.panels), np.int64)
    for spots, lattices in zip(fitted.hits, fitted.lattices, strict=True):
        for lattice in lattices:
            seen += np.bincount(spots.panel[lattice.spot_index], minlength=len(seen))
    enough = {
        name: panels
        for name, panels in groups.items()
        if seen[list(panels)].sum() >= settings.min_spots_group
    }
    if len(enough) < 2:
        return {}, (f"no group of panels moved on its own: {len(enough)} of {len(groups)} have spots enough",)
    few = [name for name in groups if name not in enough]
    return enough, (f"left at their place in the detector, too few spots: {', '.join(few)}",) if few else ()


def _round(
    processor: FrameProcessor,
    fitted: FittedHits,
    state: _State,
    settings: CalibrationSettings,
    level: str,
    groups: Sequence[Sequence[int]],
) -> tuple[float, float]:
    """One step of all shared parameters; largest move in pixels, and largest in standard deviations."""
    collector = NormalsCollector(processor.geometry, processor.refiner, groups, state.min_snr)
    for spots, lattices in zip(fitted.hits, fitted.lattices, strict=True):
        collector.add(lattices, spots)
    normal, n_strains = collector.total, len(state.strain)
    held = [] if level != "centre" else [2, 3, 4, *range(5, 5 + n_strains)]
    precision = np.eye(n_strains) / settings.cell_trust**2
    if level != "centre":
        precision, state.distance_note = trust_in_cell(
            normal,
            collector.parts,
            state.strain,
            state.of_groups,
            processor.indexer.lattice.strains,
            settings,
        )
    step, covariance = solve_shared(
        normal, collector.parts, state.strain, state.of_groups, precision, settings, held
    )
    before = state.geometry
    of_groups = step[5 + n_strains :].reshape(-1, OF_GROUP)
    far_px = _corner_move_px(before, moved_detector(before, collector.parts, step[:5], of_groups))
    if far_px > LONGEST_STEP_PX:  # a longer one would give spots to the wrong lattice points
        step, of_groups = (x * (LONGEST_STEP_PX / far_px) for x in (step, of_groups))
    state.geometry = moved_detector(before, collector.parts, step[:5], of_groups)
    state.shift += step[:5]
    state.strain = state.strain + step[5 : 5 + n_strains]
    state.of_groups = state.of_groups + of_groups
    state.covariance, state.n_lattices, state.n_spots = covariance, normal.n_lattices, normal.n_spots
    sd = np.sqrt(np.diag(covariance))
    in_sd = np.abs(step[sd > 0]) / sd[sd > 0]
    return _corner_move_px(before, state.geometry), float(in_sd.max())


def _corner_move_px(before: Geometry, after: Geometry) -> float:
    """Largest move of a panel's corner, in pixels."""
    far = 0.0
    for a, b in zip(before.panels, after.panels, strict=True):
        for i in (0, a.n_fast):
            for j in (0, a.n_slow):
                at = [
                    np.array(p.origin_mm)
                    + i * p.pixel_size_mm[0] * np.array(p.fast_axis)
                    + j * p.pixel_size_mm[1] * np.array(p.slow_axis)
                    for p in (a, b)
                ]
                far = max(far, float(np.linalg.norm(at[1] - at[0])) / a.pixel_size_mm[0])
    return far


def _learn(
    processor: FrameProcessor,
    lattices: Sequence[Lattice],
    strain: NDArray[np.float64] | None = None,
    *,
    centred: bool = False,
) -> None:
    """Let the processor expect what these lattices are like, with a mean strain if one is known."""
    learnt = learn_population(lattices, processor.population, processor.rocking, strain, centred=centred)
    processor.set_population(*learnt)


def _described(
    processor: FrameProcessor,
    state: _State,
    level: str,
    given: Geometry,
    group_names: tuple[str, ...],
    start: FittedHits,
    fitted: FittedHits,
    notes: tuple[str, ...],
) -> GeometryRefinement:
    """The refinement in the units that people use."""
    lattice = processor.indexer.lattice
    names, units, rows = shared_in_words(given, lattice)
    if level == "centre":
        names, units, rows = names[:2], units[:2], rows[:2]
    n = 5 + len(state.strain)
    vector = np.concatenate([state.shift, state.strain])
    covariance = rows @ state.covariance[:n, :n] @ rows.T
    sds = np.sqrt(np.maximum(np.diag(covariance), 1e-30))
    strained = (
        (np.eye(3) + np.tensordot(state.strain, lattice.strains, 1)) @ lattice.b @ lattice.to_conventional
    )
    return GeometryRefinement(
        level=level,
        names=names,
        units=units,
        shifts=tuple(map(float, rows @ vector)),
        sds=tuple(map(float, sds)),
        correlation=tuple(tuple(map(float, row)) for row in covariance / np.outer(sds, sds)),
        group_names=group_names,
        group_shifts=tuple(tuple(map(float, [*g[:3], *(1e3 * g[3:])])) for g in state.of_groups),
        rmsd_before_px=start.rmsd_px,
        rmsd_after_px=fitted.rmsd_px,
        n_lattices=state.n_lattices,
        n_spots=state.n_spots,
        min_snr=state.min_snr,
        unit_cell=cell_of(strained),
        notes=notes,
    )
