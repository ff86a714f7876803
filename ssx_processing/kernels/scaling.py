"""Scale, B factor and partiality of every lattice against the merged intensities of all others.

Alternation of merging and Gauss-Newton steps per lattice, after Hamilton, Rollett & Sparks (1965),
Acta Cryst. 18, 129; see `still_sweep` for the model of an observation. B is the conventional one:
E[I] goes with exp(-2 B s²), s = sin(theta) / lambda.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.merging import Observations, Reference, Scales
from ssx_processing.kernels.observation_model import (
    ObservationModel,
    empty_moments,
    estimate_model,
    flat_model,
    gaussian_partiality,
)
from ssx_processing.kernels.still_sweep import (
    ACCEPTED,
    B_FACTOR,
    BAD_SCALE,
    EXCLUDED,
    LOG_G,
    LOG_WIDTH,
    N_PARAMETERS,
    N_SCALE,
    TURN_X,
    TURN_Y,
    Block,
    Law,
    Means,
    State,
    add_up,
    refine,
)

OnCycle = Callable[[str, int, int], None]

_CONVERGED = 0.02  # root mean square change of ln g, which its errors exceed many times
_CONVERGED_WITH_PARTIALITY = 0.05
_MIN_CYCLES = 3
_FIRST_VERDICT = 2  # the first references are crude: nothing is left out before this cycle
_FALLOFF_BINS = 20
_BLOCK = 1 << 20  # observations of a block: sums are added block by block, however many threads there are
_ENOUGH = 200_000  # observations that determine a model well
_TURN_RANGE, _WIDTH_RANGE = (2e-5, 2e-3), (0.02, 0.1)


class ScalingModel(StrEnum):
    """What is made of an observation's distance from the Ewald sphere; each goes on from those before."""

    MEAN = "mean"
    """Monte Carlo: neither scaled nor corrected."""
    SCALE = "scale"
    """Scale and B of each lattice; partialities are left to average out."""
    GAUSSIAN = "gaussian"
    """Also the partiality of Gaussian rocking curves with the stated widths."""
    PARTIALITY = "partiality"
    """Also partiality and its spread as the observations themselves show them."""
    POSTREFINEMENT = "postrefinement"
    """Also two turns and a rocking width of each lattice from its intensities."""


@dataclass(frozen=True)
class Scaling:
    """What `scale_lattices` found."""

    model: ScalingModel
    scales: Scales
    reference: Reference
    """Merged intensities at these scales, without outliers."""
    outlier: NDArray[np.bool_]
    """(n_observations,) further than OUTLIER_SIGMA from all others."""
    observation_model: ObservationModel
    n_cycles: int
    """Cycles that were run."""
    converged: bool
    """The last cycle moved ln g by less than 0.02 (with partialities 0.05), root mean square."""
    turn_sd: float
    """Standard deviation of the turns about each axis, radians, which they are restrained by."""
    width_sd: float
    """That of ln rocking width."""


@dataclass(frozen=True)
class Start:
    """Where an alternation may begin, or how far it has come; arrays as in `still_sweep.State`."""

    parameters: NDArray[np.float64]
    verdict: NDArray[np.uint8]
    observation_model: ObservationModel
    turn_sd: float = 2e-4
    width_sd: float = 0.1


def scale_lattices(
    observations: Observations,
    *,
    s_squared: NDArray[np.float64],
    model: ScalingModel = ScalingModel.SCALE,
    n_cycles: int = 8,
    b_restraint: float = 15.0,
    min_cc: float = 0.1,
    start: Start | None = None,
    excluded: NDArray[np.bool_] | None = None,
    n_threads: int = 1,
    on_cycle: OnCycle | None = None,
) -> Scaling:
    """Scales of all lattices, and the merged intensities they lead to.

    Parameters
    ----------
    observations
        Sorted by lattice.
    s_squared : (n_unique,) array
        (sin(theta)/lambda)² of the unique reflections in 1/Å².
    n_cycles
        At most so many alternations at the model asked for.
    b_restraint
        Standard deviation in Å² to which B is held at 0.
    min_cc
        Lattices that correlate less with the reference are left out, from the second cycle on.
    start
        Of the same lattices; then only the model asked for is refined.
    excluded : (n_lattices,) array
        Lattices that are left out from the beginning, where there is no start.
    n_threads
        The result does not depend on it.
    on_cycle
        Called with the name of the model, the number of the cycle (from 1) and of the lattices in it.
    """
    run = Alternation(
        observations, s_squared, b_restraint=b_restraint,
        start=start, excluded=excluded, n_threads=n_threads, on_cycle=on_cycle,
    )  # fmt: skip
    converged = True
    for stage in [model] if start is not None and model is not ScalingModel.MEAN else stages_to(model):
        cycles = n_cycles if stage is model else _MIN_CYCLES
        converged = run.stage(stage, cycles, min_cc)
    if model is ScalingModel.MEAN:
        run.forget_scales()
    return run.finish(model, converged)


def stages_to(model: ScalingModel) -> list[ScalingModel]:
    """What is refined one after the other; the mean needs scales, too, to know which lattices are good."""
    if model in (ScalingModel.MEAN, ScalingModel.SCALE):
        return [ScalingModel.SCALE]
    if model is ScalingModel.GAUSSIAN:
        return [ScalingModel.SCALE, ScalingModel.GAUSSIAN]
    return [ScalingModel.SCALE, ScalingModel.PARTIALITY, ScalingModel.POSTREFINEMENT][
        : 2 + (model is ScalingModel.POSTREFINEMENT)
    ]


class Alternation:
    """Refining and merging in turn; parameters as of `scale_lattices`."""

    def __init__(
        self,
        observations: Observations,
        s_squared: NDArray[np.float64],
        *,
        b_restraint: float = 15.0,
        start: Start | None = None,
        excluded: NDArray[np.bool_] | None = None,
        n_threads: int = 1,
        on_cycle: OnCycle | None = None,
    ) -> None:
        self.observations, self.s_squared, self.n_threads = observations, s_squared, n_threads
        self.on_cycle = on_cycle or (lambda *_: None)
        self.b_restraint, self.n_cycles = b_restraint, 0
        n, n_unique, n_lattices = len(observations.uid), len(s_squared), observations.n_lattices
        self.bins = _resolution_bin(s_squared)
        self.sigma_reference = observations.typical_sigma()
        self.scaled, self.weight = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.outlier = np.zeros(n, np.bool_)
        self.every = max(n // _ENOUGH, 1)
        start = start or start_of(observations, self.bins, excluded)
        self.law, self.turn_sd, self.width_sd = start.observation_model, start.turn_sd, start.width_sd
        self.state = State(
            start.parameters.copy(),
            start.verdict.copy(),
            np.full(n_lattices, np.nan),
            np.zeros(n_lattices, np.int64),
        )
        self.table, self.n = np.zeros((n_unique, 2)), np.zeros(n_unique, np.int64)
        self.expected = np.full(n_unique, np.nan)
        self.blocks = self._blocks()
        self._add_up()

    @property
    def reached(self) -> Start:
        """A copy of how far it has come."""
        parameters, verdict = self.state.parameters.copy(), self.state.verdict.copy()
        return Start(parameters, verdict, self.law, self.turn_sd, self.width_sd)

    def _blocks(self) -> list[tuple[Block, State]]:
        """Whole lattices, cut where the number of observations passes the next multiple of `_BLOCK`."""
        o, state, blocks = self.observations, self.state, []
        cuts = np.arange(0, o.offsets[-1], _BLOCK)
        edges = np.unique([*np.searchsorted(o.offsets, cuts), o.n_lattices])
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            own = slice(o.offsets[first], o.offsets[last])
            block = Block(
                o.offsets[first : last + 1] - o.offsets[first],
                o.uid[own], o.intensity[own], o.noise_variance[own], o.excitation_error[own],
                o.excitation_sigma[own], o.turn_slopes[own],
                self.scaled[own], self.weight[own], self.outlier[own],
            )  # fmt: skip
            blocks.append((block, State(*(a[first:last] for a in state))))
        return blocks

    def stage(self, stage: ScalingModel, n_cycles: int, min_cc: float) -> bool:
        """Cycles of one model; whether the scales no longer move."""
        if stage is ScalingModel.GAUSSIAN:
            self.law = replace(self.law, partiality=gaussian_partiality())
        n_parameters = N_PARAMETERS if stage is ScalingModel.POSTREFINEMENT else N_SCALE
        for cycle in range(1, n_cycles + 1):
            self.n_cycles += 1
            self.on_cycle(stage.value, cycle, int((self.state.verdict == ACCEPTED).sum()))
            before = self.state.parameters[:, LOG_G].copy()
            self._cycle(stage, n_parameters, min_cc if self.n_cycles >= _FIRST_VERDICT else -np.inf)
            enough = _CONVERGED if stage is ScalingModel.SCALE else _CONVERGED_WITH_PARTIALITY
            if self._rms_shift(before) < enough and cycle >= _MIN_CYCLES:
                return True
        return False

    def _cycle(self, stage: ScalingModel, n_parameters: int, min_cc: float) -> None:
        """Refine every lattice against the means, then merge at the new scales."""
        precision = np.array([np.inf, self.b_restraint, self.turn_sd, self.turn_sd, self.width_sd]) ** -2.0
        means, law = self._means(), self._law()

        def work(part: tuple[Block, State]) -> tuple[NDArray[np.float64], ...]:
            moments, found = empty_moments(), np.zeros(3)
            refine(*part, means, law, precision, n_parameters, min_cc, self.every, moments, found)
            return moments, found

        moments, found = self._sum(work)
        self.law = estimate_model(moments, self.law, learn=stage is not ScalingModel.SCALE)
        if stage is ScalingModel.GAUSSIAN:
            self.law = replace(self.law, partiality=gaussian_partiality())
        if n_parameters == N_PARAMETERS and found[0] > 0:
            self.turn_sd = float(np.clip(np.sqrt(found[1] / (2 * found[0])), *_TURN_RANGE))
            self.width_sd = float(np.clip(np.sqrt(found[2] / found[0]), *_WIDTH_RANGE))
        self._fix_means()
        self._add_up()

    def _fix_means(self) -> None:
        """Fix mean ln g and mean B of the accepted lattices at 0: they belong to the intensities."""
        accepted = self.state.verdict == ACCEPTED
        if accepted.any():
            shift, b_shift = self.state.parameters[accepted][:, [LOG_G, B_FACTOR]].mean(axis=0)
            self.state.parameters[:, [LOG_G, B_FACTOR]] -= shift, b_shift
            self.expected *= np.exp(shift - 2.0 * b_shift * self.s_squared)

    def _sum(self, work: Callable[[tuple[Block, State]], tuple[NDArray, ...]]) -> list[NDArray]:
        """Sums of what the blocks give, in their order."""
        with ThreadPoolExecutor(self.n_threads) as threads:
            parts = threads.map(work, self.blocks) if self.n_threads > 1 else map(work, self.blocks)
            total = [np.array(part) for part in next(parts)]
            for more in parts:
                for sums, part in zip(total, more, strict=True):
                    sums += part
        return total

    def _add_up(self) -> None:
        """Merge at the present scales."""
        means, law = self._means(), self._law()

        def work(part: tuple[Block, State]) -> tuple[NDArray, ...]:
            table, n = np.zeros_like(self.table), np.zeros_like(self.n)
            add_up(*part, means, law, table, n)
            return table, n

        self.table, self.n = self._sum(work)
        self.expected = _ratio(self.table)

    def _means(self) -> Means:
        return Means(self.s_squared, self.table, self.expected, falloff(self.expected, self.bins))

    def _law(self) -> Law:
        law = self.law
        return Law(law.noise_factor, law.partiality, law.spread**2, self.sigma_reference)

    def _rms_shift(self, before: NDArray[np.float64]) -> float:
        shift = (self.state.parameters[:, LOG_G] - before)[self.state.verdict == ACCEPTED]
        return float(np.std(shift)) if len(shift) else 0.0

    def forget_scales(self) -> None:
        """Merge as if nothing were known of the lattices but that they are accepted."""
        self.state.parameters[:] = 0.0
        self.law = replace(flat_model(spread=1.0), noise_factor=0.0)  # with J = 1 all weights are 1
        self.expected[:] = 1.0
        self.outlier[:] = False

    def finish(self, model: ScalingModel, converged: bool) -> Scaling:
        """Merge for the last time."""
        self._fix_means()
        self._add_up()
        parameters, verdict, cc, n_shared = self.state
        scales = Scales(
            log_g=parameters[:, LOG_G].copy(),
            b_factor=parameters[:, B_FACTOR].copy(),
            turns=parameters[:, [TURN_X, TURN_Y]],
            log_width=parameters[:, LOG_WIDTH].copy(),
            cc=cc,
            n_shared=n_shared,
            verdict=verdict,
        )
        reference = Reference(self.table, self.n, self.scaled, self.weight)
        return Scaling(
            model, scales, reference, self.outlier, self.law, self.n_cycles, converged,
            self.turn_sd, self.width_sd,
        )  # fmt: skip


def start_of(
    observations: Observations, bins: NDArray[np.int64], excluded: NDArray[np.bool_] | None = None
) -> Start:
    """Scales from each lattice's total intensity against the mean fall-off of all lattices.

    Parameters
    ----------
    bins : (n_unique,) array
        Shell of each unique reflection.
    excluded : (n_lattices,) array
        Lattices that are left out from the beginning.
    """
    n_lattices, sums = observations.n_lattices, np.zeros((2, _FALLOFF_BINS))
    left_out = np.zeros(n_lattices, np.bool_) if excluded is None else excluded
    _shell_sums(observations.offsets, observations.uid, observations.intensity, bins, left_out, sums)
    mean = sums[1] / np.maximum(sums[0], 1)
    mean = np.maximum(mean, 1e-6 * np.abs(mean).max() + 1e-300)
    totals = _totals(observations.offsets, observations.uid, observations.intensity, bins, mean)
    positive = (totals > 0).all(axis=1)
    parameters = np.zeros((n_lattices, N_PARAMETERS))
    parameters[positive, LOG_G] = np.log(totals[positive, 0] / totals[positive, 1])
    verdict = np.where(left_out, EXCLUDED, np.where(positive, ACCEPTED, BAD_SCALE)).astype(np.uint8)
    return Start(parameters, verdict, flat_model())


@njit(cache=True, nogil=True)
def _shell_sums(offsets, uid, intensity, bins, left_out, sums):
    """Number and sum of the intensities in each shell."""
    for f in range(len(offsets) - 1):
        if not left_out[f]:
            for i in range(offsets[f], offsets[f + 1]):
                if uid[i] >= 0:
                    sums[0, bins[uid[i]]] += 1.0
                    sums[1, bins[uid[i]]] += intensity[i]


@njit(cache=True, nogil=True)
def _totals(offsets, uid, intensity, bins, mean):
    """(n_lattices, 2): summed intensity, and what the mean of the shells leads one to expect."""
    out = np.zeros((len(offsets) - 1, 2))
    for f in range(len(offsets) - 1):
        for i in range(offsets[f], offsets[f + 1]):
            if uid[i] >= 0:
                out[f, 0] += intensity[i]
                out[f, 1] += mean[bins[uid[i]]]
    return out


def _resolution_bin(s_squared: NDArray[np.float64]) -> NDArray[np.int64]:
    fraction = s_squared / max(float(s_squared.max()), 1e-30)
    return np.minimum((fraction * _FALLOFF_BINS).astype(np.int64), _FALLOFF_BINS - 1)


def falloff(mean: NDArray[np.float64], bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean merged intensity at the resolution of each unique reflection, kept positive."""
    seen = np.isfinite(mean)
    n = np.bincount(bins[seen], minlength=_FALLOFF_BINS)
    of_bin = np.bincount(bins[seen], mean[seen], _FALLOFF_BINS) / np.maximum(n, 1)
    return np.maximum(of_bin, 1e-3 * of_bin.max() + 1e-300)[bins]


def _ratio(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means; nan where nothing was seen."""
    out = np.full(len(table), np.nan)
    return np.divide(table[:, 1], table[:, 0], out=out, where=table[:, 0] > 0)
