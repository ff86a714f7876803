"""Scaling and merging of what was read, to one resolution."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.kernels.agreement import Repeats, repeats_of
from ssx_processing.kernels.anomalous import AnomalousHalves, anomalous_halves
from ssx_processing.kernels.delta_cc import delta_cc_half, reject_by_delta_cc_half
from ssx_processing.kernels.error_model import RepeatScatter, repeat_scatter
from ssx_processing.kernels.growth import Growth, growth
from ssx_processing.kernels.merging import (
    FULL,
    Estimate,
    N,
    Observations,
    estimate,
    full_observations,
    merge_sums,
    merged_per_lattice,
    usable_per_lattice,
)
from ssx_processing.kernels.model_choice import ModelChoice, choose_model
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel
from ssx_processing.kernels.statistics import MergedReflections
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit, symmetrised_cell
from ssx_processing.kernels.turn_slopes import write_turn_slopes
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS
from ssx_processing.pipeline.lattice_filter import (
    LOWERS_CC_HALF,
    REASON_OF_VERDICT,
    TOO_FEW,
    cell_verdicts,
)
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.stored_observations import lattice_range, lattices_of, parts_of
from ssx_processing.settings import MergingSettings

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """Lattices that may be merged, whatever the resolution."""

    unit_cell: UnitCell
    """Median over the lattices whose cell fits, with the symmetry's constraints."""
    reasons: NDArray[np.object_]
    """(n_lattices,) why a lattice is left out; empty where it is not."""
    clusters: NDArray[np.int64]
    """(n_lattices,) crystal form of each, 1 the largest; 0 for none."""
    cluster: int
    """The form that is merged."""
    d_star_limit: NDArray[np.float64]
    """(n_lattices,) up to which its observations are merged, 1/Å."""


@dataclass(frozen=True)
class Merged:
    """Result of one scaling and merging."""

    d_min: float
    """Å, asked for."""
    unit: AsymmetricUnit
    observations: Observations
    """All of them; those that were not to be merged have uid -1."""
    friedel_minus: NDArray[np.uint8]
    """(n_observations,)."""
    sums: NDArray[np.float64]
    """As from `merge_sums`."""
    min_full: float
    """Reflections whose observations tell less than so many full ones are not determined."""
    scaling: Scaling
    choice: ModelChoice | None
    """Why the model was taken; None where it was asked for."""
    scatter: RepeatScatter
    """Of repeats, by which variances are corrected."""
    variance_factor: NDArray[np.float64]
    """(n_unique,)."""
    reasons: NDArray[np.object_]
    """(n_lattices,) as in `Selection`, verdicts of the scaling included."""
    selection: Selection
    half: NDArray[np.uint8]
    """(n_lattices,)."""
    n_merged: NDArray[np.int64]
    """(n_lattices,) observations merged."""

    def estimate_of(self, sums: NDArray[np.float64]) -> Estimate:
        """Intensities and their errors from (n_unique, 6) sums."""
        return estimate(sums, self.variance_factor, self.min_full)

    @cached_property
    def estimate(self) -> Estimate:
        """All observations merged."""
        return self.estimate_of(self.sums.sum(axis=(1, 2)))

    @property
    def n_undetermined(self) -> int:
        """Unique reflections that were observed, but never near enough to the sphere."""
        total = self.sums.sum(axis=(1, 2))
        return int(((total[:, N] > 0) & (total[:, FULL] < self.min_full)).sum())

    def reflections(self) -> MergedReflections:
        """What the statistics need."""
        merged = self.estimate
        half_1, half_2 = (self.estimate_of(self.sums[:, :, i].sum(axis=1)).intensity for i in (0, 1))
        return MergedReflections(
            self.unit.d,
            merged.n,
            merged.intensity,
            merged.sigma,
            half_1,
            half_2,
            self.repeats,
            self._anomalous(),
        )

    def _anomalous(self) -> AnomalousHalves:
        """Friedel mates apart, in each half."""
        halves = [self.estimate_of(self.sums[:, i, j]).intensity for i in (0, 1) for j in (0, 1)]
        measured = self.sums[:, :, :, N].sum(axis=2) > 0
        return anomalous_halves(np.stack(halves, axis=1).reshape(-1, 2, 2), measured, self.unit.centric)

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """(n_observations,) weight of each, 0 where it or its reflection is not in the result."""
        determined = self.sums[..., FULL].sum(axis=(1, 2)) >= self.min_full
        o, weight = self.observations, self.observations.array(np.float32)
        for part in parts_of(o.offsets):
            weight[part] = np.where(determined[o.uid[part]], self.scaling.reference.weight[part], 0.0)
        return weight

    @cached_property
    def repeats(self) -> Repeats:
        """Scatter of the observations of each reflection."""
        scaled, o = self.scaling.reference.scaled, self.observations
        return repeats_of(o.uid, scaled, self.estimate.intensity, self.weight)

    @cached_property
    def growth(self) -> Growth:
        """Over the lattices in their order."""
        reference, o = self.scaling.reference, self.observations
        return growth(
            o.offsets, o.uid, reference.scaled, reference.weight, self.half, len(self.unit),
            full=full_observations(o, reference, self.scaling.scales.log_g), min_full=self.min_full,
        )  # fmt: skip

    @cached_property
    def delta_cc_half(self) -> NDArray[np.float64]:
        """(n_lattices,) by how much CC1/2 is better with each lattice."""
        scaled, o = self.scaling.reference.scaled, self.observations
        return delta_cc_half(o.offsets, o.uid, scaled, self.weight, len(self.unit))


def select_lattices(
    data: MergeInput, space_group: str, settings: MergingSettings, expected: UnitCell
) -> Selection:
    """Cell filter and each lattice's own resolution limit."""
    lattices = data.lattices
    reasons, clusters, cluster = cell_verdicts(
        lattices, settings.cell_cluster, settings.max_cell_deviation, expected
    )
    median = lattices.loc[reasons == "", CELL_COLUMNS].median()
    a, b, c, alpha, beta, gamma = (float(median[name]) for name in CELL_COLUMNS)
    cell = symmetrised_cell((a, b, c, alpha, beta, gamma), space_group)
    limit = 1 / lattices["resolution_limit"].to_numpy(np.float64) + settings.max_push_res
    return Selection(cell, reasons, clusters, cluster, np.where(np.isfinite(limit), limit, np.inf))


def highest_resolution(data: MergeInput, selection: Selection) -> float:
    """Å, of the observation farthest out that may be merged; 1 if there is none."""
    cell, stored, highest = gemmi.UnitCell(*selection.unit_cell), data.observations, 0.0
    allowed = np.where(selection.reasons == "", selection.d_star_limit, 0.0)
    for part in parts_of(stored.offsets):
        d_star = np.sqrt(cell.calculate_1_d2_array(data.hkl[part].astype(np.int32)))
        inside = d_star[d_star <= allowed[lattices_of(stored.offsets, part)]]
        highest = max(highest, float(inside.max(initial=0.0)))
    return 1 / highest if highest > 0 else 1.0


def merge_to(
    data: MergeInput,
    selection: Selection,
    *,
    d_min: float,
    space_group: str,
    settings: MergingSettings,
    wavelength: float,
    model: ScalingModel | None = None,
    n_threads: int = 1,
    progress: Progress | None = None,
) -> Merged:
    """Scale and merge all observations to ``d_min``.

    Parameters
    ----------
    wavelength
        Å, of lattices that do not have their own.
    model
        None: as the settings say, or chosen.

    Raises
    ------
    MergeError
        No lattice is left.
    """
    unit = asymmetric_unit(selection.unit_cell, space_group, d_min * (1 - 1e-6))
    reasons = selection.reasons.copy()
    turned = (model or settings.model) in ("auto", ScalingModel.POSTREFINEMENT)
    observations, minus = _observations(data, selection, unit, wavelength if turned else None, n_threads)
    few = usable_per_lattice(observations) < settings.min_observations
    reasons[(reasons == "") & few] = TOO_FEW
    check_some_left(reasons)
    excluded = reasons != ""

    def on_cycle(name: str, cycle: int, n_lattices: int) -> None:
        if progress is not None:
            progress(f"scaling to {d_min:.2f} Å: {name}, cycle {cycle}, {n_lattices} lattices")

    choice = None
    if model is None and settings.model == "auto":
        choice = choose_model(
            observations, data.half, data.rank, s_squared=unit.s_squared, excluded=excluded,
            min_full=settings.min_full, b_restraint=settings.b_restraint,
            n_threads=n_threads, on_cycle=on_cycle,
        )  # fmt: skip
    scaling = scale_lattices(
        observations,
        s_squared=unit.s_squared,
        model=choice.model if choice else model or ScalingModel(settings.model),
        n_cycles=settings.n_cycles,
        b_restraint=settings.b_restraint,
        min_cc=settings.min_cc,
        start=choice.start if choice else None,
        excluded=excluded,
        n_threads=n_threads,
        on_cycle=on_cycle,
    )
    for verdict, reason in REASON_OF_VERDICT.items():
        reasons[scaling.scales.verdict == verdict] = reason
    check_some_left(reasons)
    bad = _lowering_cc_half(observations, scaling, unit, settings)
    if len(bad):  # and once more without them
        fewer = selection.reasons.copy()
        fewer[bad] = LOWERS_CC_HALF
        return merge_to(
            data, replace(selection, reasons=fewer), d_min=d_min, space_group=space_group,
            settings=settings.model_copy(update={"max_cc_half_loss": None}),
            wavelength=wavelength, model=model, n_threads=n_threads, progress=progress,
        )  # fmt: skip
    scatter = repeat_scatter(observations, scaling.reference)
    return Merged(
        d_min=d_min,
        unit=unit,
        observations=observations,
        friedel_minus=minus,
        sums=merge_sums(
            observations, scaling.reference, log_g=scaling.scales.log_g, friedel_minus=minus, half=data.half
        ),
        min_full=settings.min_full,
        scaling=scaling,
        choice=choice,
        scatter=scatter,
        variance_factor=scatter.variance_factor(scaling.reference.mean),
        reasons=reasons,
        selection=selection,
        half=data.half,
        n_merged=merged_per_lattice(observations, scaling.reference),
    )


def _lowering_cc_half(
    observations: Observations, scaling: Scaling, unit: AsymmetricUnit, settings: MergingSettings
) -> NDArray[np.int64]:
    """Lattices without which CC1/2 is better, if these are to be left out."""
    loss, reference = settings.max_cc_half_loss, scaling.reference
    if loss is None:
        return np.empty(0, np.int64)
    found = reject_by_delta_cc_half(
        observations.offsets, observations.uid, reference.scaled, reference.weight, len(unit), max_loss=loss
    )
    return np.flatnonzero(~found.kept)


def _observations(
    data: MergeInput, selection: Selection, unit: AsymmetricUnit, wavelength: float | None, n_threads: int
) -> tuple[Observations, NDArray[np.uint8]]:
    """Observations with their unique reflections, -1 where they are not to be merged, and Friedel signs.

    No wavelength: crystals are not to be turned.
    """
    stored = data.observations
    uid, minus = stored.array(np.int32), stored.array(np.uint8)
    allowed = np.where(selection.reasons == "", selection.d_star_limit, 0.0)
    d_star = np.append(1 / unit.d, np.inf)
    slopes, write_slopes = _turn_slopes(data, wavelength)

    def look_up(part: slice) -> None:
        uid[part], minus[part] = unit.find(*np.ascontiguousarray(data.hkl[part].T))
        own = uid[part]
        own[d_star[own] > allowed[lattices_of(stored.offsets, part)] * (1 + 1e-9)] = -1
        write_slopes(part)

    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(look_up, parts_of(stored.offsets)))
    observations = Observations(
        offsets=stored.offsets,
        uid=uid,
        intensity=stored.intensity,
        noise_variance=stored.noise_variance,
        excitation_error=stored.excitation_error,
        excitation_sigma=stored.excitation_sigma,
        turn_slopes=slopes,
        new_array=stored.new_array,
    )
    return observations, minus


def _turn_slopes(
    data: MergeInput, wavelength: float | None
) -> tuple[NDArray[np.float32], Callable[[slice], None]]:
    """As `Observations` wants them, and what writes a part of them.

    None where the lattices' orientations are not in their tables.
    """
    lattices, stored = data.lattices, data.observations
    if wavelength is None or not set(A_COLUMNS) <= set(lattices.columns):
        return np.zeros((0, 2), np.float32), lambda part: None
    matrices = lattices[list(A_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3)
    of_lattices = wavelengths(lattices, wavelength)
    slopes = stored.array(np.float32, 2)

    def write(part: slice) -> None:
        own = lattice_range(stored.offsets, part)
        offsets = stored.offsets[own.start : own.stop + 1]
        write_turn_slopes(offsets, stored.hkl, matrices[own], of_lattices[own], slopes)

    return slopes, write


def wavelengths(lattices: pd.DataFrame, wavelength: float) -> NDArray[np.float64]:
    """(n_lattices,) Å: their own, where the table has it."""
    if "wavelength" not in lattices:
        return np.full(len(lattices), wavelength)
    own = lattices["wavelength"].to_numpy(np.float64)
    return np.where(np.isfinite(own), own, wavelength)


def excluded_counts(reasons: NDArray[np.object_]) -> dict[str, int]:
    """Reason to number of lattices left out for it."""
    names, counts = np.unique(reasons[reasons != ""].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def check_some_left(reasons: NDArray[np.object_]) -> None:
    """Raise if no lattice is left."""
    if not np.any(reasons == ""):
        found = ", ".join(f"{n} {reason}" for reason, n in excluded_counts(reasons).items())
        raise MergeError(
            f"none of {len(reasons)} lattices can be merged: {found}; check cell and space group, or relax "
            "merging.min_observations, merging.max_cell_deviation, merging.min_cc"
        )
