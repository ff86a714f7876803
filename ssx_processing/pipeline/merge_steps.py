"""Scaling and merging of what was read, to one resolution."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.kernels.agreement import Repeats, repeats_of
from ssx_processing.kernels.anomalous import AnomalousHalves, anomalous_halves
from ssx_processing.kernels.delta_cc import delta_cc_half, reject_by_delta_cc_half
from ssx_processing.kernels.growth import Growth, growth
from ssx_processing.kernels.merging import (
    Estimate,
    N,
    Observations,
    estimate,
    merge_sums,
    random_halves,
)
from ssx_processing.kernels.scaling import Scaling, scale_lattices
from ssx_processing.kernels.statistics import MergedReflections
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit, symmetrised_cell
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.chunk_tables import CELL_COLUMNS
from ssx_processing.pipeline.lattice_filter import (
    LOWERS_CC_HALF,
    REASON_OF_VERDICT,
    TOO_FEW,
    cell_verdicts,
)
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.settings import MergingSettings

Progress = Callable[[str], None]

_LEAST_VARIANCE = 1.0  # photons²: not even an empty background is known better
_FARTHEST = 3.0  # an observation far off the Ewald sphere keeps the weight exp(-3)


@dataclass(frozen=True)
class Candidates:
    """Observations that may be merged, whatever the resolution; arrays of n_observations elements."""

    unit_cell: UnitCell
    """Median over the lattices whose cell fits, with the symmetry's constraints."""
    reasons: NDArray[np.object_]
    """(n_lattices,) why a lattice is left out; empty where it is not."""
    clusters: NDArray[np.int64]
    """(n_lattices,) crystal form of each, 1 the largest; 0 for none."""
    cluster: int
    """The form that is merged."""
    hkl: NDArray[np.int32]
    """(n_observations, 3)."""
    d_star: NDArray[np.float64]
    """1/d in 1/Å."""
    row: NDArray[np.int64]
    """Row of the lattice; ascending."""
    intensity: NDArray[np.float64]
    noise_variance: NDArray[np.float64]
    factor: NDArray[np.float64]
    """Weight by distance from the Ewald sphere."""


@dataclass(frozen=True)
class Merged:
    """Result of one scaling and merging."""

    unit: AsymmetricUnit
    sums: NDArray[np.float64]
    """As from `merge_sums`."""
    scaling: Scaling
    rows: NDArray[np.int64]
    """Rows of the lattices that were scaled."""
    reasons: NDArray[np.object_]
    """(n_lattices,) as in `Candidates`, verdicts of the scaling included."""
    clusters: NDArray[np.int64]
    """(n_lattices,) as in `Candidates`."""
    cluster: int
    """As in `Candidates`."""
    half: NDArray[np.uint8]
    """(n_lattices,)."""
    n_merged: NDArray[np.int64]
    """(n_lattices,) observations merged."""
    repeats: Repeats
    """Scatter of the observations of each reflection."""
    growth: Growth
    """Over the lattices that were scaled, in their order."""
    delta_cc_half: NDArray[np.float64]
    """(n_lattices,) as from the kernel; nan where not merged."""

    @property
    def estimate(self) -> Estimate:
        """All observations merged."""
        return estimate(self.sums.sum(axis=(1, 2)))

    def reflections(self) -> MergedReflections:
        """What the statistics need."""
        merged = self.estimate
        half_1, half_2 = (estimate(self.sums[:, :, i].sum(axis=1)).intensity for i in (0, 1))
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
        halves = np.stack([estimate(self.sums[:, i, j]).intensity for i in (0, 1) for j in (0, 1)], axis=1)
        measured = self.sums[:, :, :, N].sum(axis=2) > 0
        return anomalous_halves(halves.reshape(-1, 2, 2), measured, self.unit.centric)


def select_candidates(
    data: MergeInput, space_group: str, settings: MergingSettings, expected: UnitCell
) -> Candidates:
    """Cell filter and each lattice's own resolution limit."""
    lattices = data.lattices
    reasons, clusters, cluster = cell_verdicts(
        lattices, settings.cell_cluster, settings.max_cell_deviation, expected
    )
    outlier = reasons != ""
    median = lattices.loc[~outlier, CELL_COLUMNS].median()
    a, b, c, alpha, beta, gamma = (float(median[name]) for name in CELL_COLUMNS)
    cell = symmetrised_cell((a, b, c, alpha, beta, gamma), space_group)
    table = data.observations
    hkl = table[["h", "k", "l"]].to_numpy(np.int32)
    d_star = np.sqrt(gemmi.UnitCell(*cell).calculate_1_d2_array(hkl)) if len(hkl) else np.empty(0)
    row = table["row"].to_numpy(np.int64)
    limit = 1 / lattices["resolution_limit"].to_numpy(np.float64) + settings.max_push_res
    keep = ~(d_star > limit[row]) & ~outlier[row]  # a limit of nan is none
    intensity = table["intensity"].to_numpy(np.float64)[keep]
    variance, error, width = (
        table[name].to_numpy(np.float64)[keep]
        for name in ("noise_variance", "excitation_error", "excitation_sigma")
    )
    return Candidates(
        unit_cell=cell,
        reasons=reasons,
        clusters=clusters,
        cluster=cluster,
        hkl=hkl[keep],
        d_star=d_star[keep],
        row=row[keep],
        intensity=intensity,
        noise_variance=np.maximum(variance, _LEAST_VARIANCE),
        factor=excitation_factor(error, width),
    )


def excitation_factor(error: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight exp(-error² / (2 width²)), at least exp(-3); 1 where the width is unknown.

    Not a partiality: it only says which observations are nearer to full ones.

    Examples
    --------
    >>> excitation_factor(np.array([0.0, 1e-3, 1.0]), np.array([1e-3, 1e-3, np.nan])).round(4).tolist()
    [1.0, 0.6065, 1.0]
    """
    known = np.isfinite(error) & (width > 0)
    ratio = np.divide(error, width, out=np.zeros(len(error)), where=known)
    return np.exp(-np.minimum(0.5 * ratio**2, _FARTHEST))


def merge_to(
    data: MergeInput,
    candidates: Candidates,
    *,
    d_min: float,
    space_group: str,
    settings: MergingSettings,
    progress: Progress | None = None,
) -> Merged:
    """Scale and merge all observations to ``d_min``.

    Raises
    ------
    MergeError
        No lattice is left.
    """
    unit = asymmetric_unit(candidates.unit_cell, space_group, d_min * (1 - 1e-6))
    observations, minus, rows, reasons = _observations(data, candidates, unit, settings)

    def on_cycle(cycle: int, n_lattices: int) -> None:
        if progress is not None:
            progress(f"scaling cycle {cycle} of {settings.n_cycles}, {n_lattices} lattices, to {d_min:.2f} Å")

    scaling = scale_lattices(
        observations,
        s_squared=unit.s_squared,
        n_cycles=settings.n_cycles,
        b_restraint=settings.b_restraint,
        min_cc=settings.min_cc,
        on_cycle=on_cycle,
    )
    for verdict, reason in REASON_OF_VERDICT.items():
        reasons[rows[scaling.scales.verdict == verdict]] = reason
    _check_some_left(reasons)
    y, weight = scaling.reference.scaled, scaling.reference.weight
    offsets, uid, used = observations.offsets, observations.uid, weight > 0
    if settings.max_cc_half_loss is not None:
        loss = settings.max_cc_half_loss
        bad = rows[~reject_by_delta_cc_half(offsets, uid, y, weight, len(unit), max_loss=loss).kept]
        if len(bad):  # and once more without them
            reasons = candidates.reasons.copy()
            reasons[bad] = LOWERS_CC_HALF
            return merge_to(
                data,
                replace(candidates, reasons=reasons),
                d_min=d_min,
                space_group=space_group,
                settings=settings.model_copy(update={"max_cc_half_loss": None}),
                progress=progress,
            )
    lattices = data.lattices
    half = random_halves(
        lattices["file_hash"].to_numpy(np.uint64),
        lattices["frame"].to_numpy(np.int64),
        lattices["lattice"].to_numpy(np.int64),
    )
    sums = merge_sums(observations, scaling.reference, friedel_minus=minus, half=half[rows])
    of_observation = rows[observations.lattice_of_observation()]
    n_merged = np.bincount(of_observation[scaling.reference.weight > 0], minlength=len(reasons))
    delta = np.full(len(reasons), np.nan)
    delta[rows] = delta_cc_half(offsets, uid, y, weight, len(unit))
    return Merged(
        unit=unit,
        sums=sums,
        scaling=scaling,
        rows=rows,
        reasons=reasons,
        clusters=candidates.clusters,
        cluster=candidates.cluster,
        half=half,
        n_merged=n_merged,
        repeats=repeats_of(uid[used], y[used], estimate(sums.sum(axis=(1, 2))).intensity),
        growth=growth(offsets, uid, y, weight, half[rows], len(unit)),
        delta_cc_half=np.where(reasons == "", delta, np.nan),
    )


def _observations(
    data: MergeInput, candidates: Candidates, unit: AsymmetricUnit, settings: MergingSettings
) -> tuple[Observations, NDArray[np.uint8], NDArray[np.int64], NDArray[np.object_]]:
    """Observations within the table of lattices with enough of them, Friedel signs, rows, reasons."""
    uid, minus = unit.find(*candidates.hkl.T)
    reasons = candidates.reasons.copy()
    n = np.bincount(candidates.row[uid >= 0], minlength=len(reasons))
    reasons[(reasons == "") & (n < settings.min_observations)] = TOO_FEW
    _check_some_left(reasons)
    keep = (uid >= 0) & (reasons == "")[candidates.row]
    rows = np.flatnonzero(reasons == "")
    offsets = np.concatenate([[0], np.cumsum(n[rows])])
    observations = Observations(
        offsets=offsets.astype(np.int64),
        uid=uid[keep],
        intensity=candidates.intensity[keep],
        noise_variance=candidates.noise_variance[keep],
        factor=candidates.factor[keep],
    )
    return observations, minus[keep], rows, reasons


def excluded_counts(reasons: NDArray[np.object_]) -> dict[str, int]:
    """Reason to number of lattices left out for it."""
    names, counts = np.unique(reasons[reasons != ""].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _check_some_left(reasons: NDArray[np.object_]) -> None:
    if not np.any(reasons == ""):
        found = ", ".join(f"{n} {reason}" for reason, n in excluded_counts(reasons).items())
        raise MergeError(
            f"none of {len(reasons)} lattices can be merged: {found}; check cell and space group, or relax "
            "merging.min_observations, merging.max_cell_deviation, merging.min_cc"
        )
