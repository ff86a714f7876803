"""Refining lattices against merged intensities and merging them again, in turn.

After Hamilton, Rollett & Sparks (1965), Acta Cryst. 18, 129. Sums are added block by block of the
lattices, in their order, so that nothing depends on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.lattice_step import refine
from ssx_processing.kernels.merging import Observations, Reference, Scales, ratio
from ssx_processing.kernels.observation_model import (
    empty_moments,
    estimate_model,
    flat_model,
    gaussian_partiality,
)
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel, Start
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
    write_partialities,
)

OnCycle = Callable[[str, int, int], None]

_CONVERGED = 0.02  # root mean square change of ln g, which its errors exceed many times
_CONVERGED_WITH_PARTIALITY = 0.05
MIN_CYCLES = 3
"""Of each model."""
_FIRST_VERDICT = 2  # the first references are crude: nothing is left out before this cycle
_FALLOFF_BINS = 20
BLOCK = 1 << 17
"""Observations of a block: sums are added block by block, however many threads there are."""
_ENOUGH = 200_000  # observations that determine a model well
_TURN_RANGE, _WIDTH_RANGE = (2e-5, 2e-3), (0.02, 0.1)


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
        n_unique, n_lattices = len(s_squared), observations.n_lattices
        self.bins = resolution_bin(s_squared)
        self.sigma_reference = observations.typical_sigma()
        self.scaled, self.weight = observations.array(np.float32), observations.array(np.float32)
        self.outlier = observations.array(np.bool_)
        self.every = max(len(observations.uid) // _ENOUGH, 1)
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
        self.add_up()

    @property
    def reference(self) -> Reference:
        """Merged intensities as they are now."""
        partiality, first = self.observations.array(np.float32), 0
        for block, state in self.blocks:
            last = first + len(block.uid)
            write_partialities(block, state.parameters, self.as_law(), partiality[first:last])
            first = last
        return Reference(self.table, self.n, self.scaled, self.weight, partiality)

    @property
    def reached(self) -> Start:
        """A copy of how far it has come."""
        parameters, verdict = self.state.parameters.copy(), self.state.verdict.copy()
        return Start(parameters, verdict, self.law, self.turn_sd, self.width_sd)

    def _blocks(self) -> list[tuple[Block, State]]:
        """Whole lattices, cut where the number of observations passes the next multiple of `BLOCK`."""
        o, state, blocks = self.observations, self.state, []
        cuts = np.arange(0, o.offsets[-1], BLOCK)
        edges = np.unique([*np.searchsorted(o.offsets, cuts), o.n_lattices])
        for first, last in pairwise(edges):
            own = slice(o.offsets[first], o.offsets[last])
            block = Block(
                o.offsets[first : last + 1] - o.offsets[first],
                o.uid[own], o.intensity[own], o.noise_variance[own], o.excitation_error[own],
                o.excitation_sigma[own], o.turn_slopes[own],
                self.scaled[own], self.weight[own], self.outlier[own],
            )  # fmt: skip
            blocks.append((block, _part(state, first, last)))
        return blocks

    def stage(self, stage: ScalingModel, n_cycles: int, min_cc: float) -> bool:
        """Cycles of one model; whether the scales no longer move."""
        if stage is ScalingModel.GAUSSIAN:
            self.law = replace(self.law, partiality=gaussian_partiality())
        n_parameters = N_PARAMETERS if stage is ScalingModel.POSTREFINEMENT else N_SCALE
        for cycle in range(1, n_cycles + 1):
            self.n_cycles += 1
            before, accepted = self.state.parameters[:, LOG_G].copy(), self.state.verdict == ACCEPTED
            self.on_cycle(stage.value, cycle, int(accepted.sum()))
            self._cycle(stage, n_parameters, min_cc if self.n_cycles >= _FIRST_VERDICT else -np.inf)
            enough = _CONVERGED if stage is ScalingModel.SCALE else _CONVERGED_WITH_PARTIALITY
            settled = np.array_equal(accepted, self.state.verdict == ACCEPTED)
            if settled and self._rms_shift(before) < enough and cycle >= MIN_CYCLES:
                return True
        return False

    def _cycle(self, stage: ScalingModel, n_parameters: int, min_cc: float) -> None:
        """Refine every lattice against the means, then merge at the new scales."""
        precision = np.array([np.inf, self.b_restraint, self.turn_sd, self.turn_sd, self.width_sd]) ** -2.0
        means, law = self.means(), self.as_law()

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
        self.add_up()

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

    def add_up(self) -> None:
        """Merge at the present scales."""
        means, law = self.means(), self.as_law()

        def work(part: tuple[Block, State]) -> tuple[NDArray, ...]:
            table, n = np.zeros_like(self.table), np.zeros_like(self.n)
            add_up(*part, means, law, table, n)
            return table, n

        self.table, self.n = self._sum(work)
        self.expected = ratio(self.table[:, 1], self.table[:, 0])

    def means(self) -> Means:
        """What lattices are compared with."""
        return Means(self.s_squared, self.table, self.n, self.expected, falloff(self.expected, self.bins))

    def as_law(self) -> Law:
        """The observation model as it is now."""
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
        self.add_up()
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
        return Scaling(
            model, scales, self.reference, self.outlier, self.law, self.n_cycles, converged,
            self.turn_sd, self.width_sd,
        )  # fmt: skip


def _part(state: State, first: int, last: int) -> State:
    """Views of the lattices from first to last."""
    own = slice(first, last)
    return State(state.parameters[own], state.verdict[own], state.cc[own], state.n_shared[own])


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


def resolution_bin(s_squared: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n_unique,) shell of each unique reflection, equally wide in 1/d²."""
    fraction = s_squared / max(float(s_squared.max()), 1e-30)
    return np.minimum((fraction * _FALLOFF_BINS).astype(np.int64), _FALLOFF_BINS - 1)


def falloff(mean: NDArray[np.float64], bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean merged intensity at the resolution of each unique reflection, kept positive."""
    seen = np.isfinite(mean)
    n = np.bincount(bins[seen], minlength=_FALLOFF_BINS)
    of_bin = np.bincount(bins[seen], mean[seen], _FALLOFF_BINS) / np.maximum(n, 1)
    return np.maximum(of_bin, 1e-3 * of_bin.max() + 1e-300)[bins]
