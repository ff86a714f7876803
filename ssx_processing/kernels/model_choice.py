"""Which model the observations support: correlation of two halves that know nothing of each other.

Each half of the lattices is scaled and post-refined against its own means only. Were both refined
against common ones, fitting the noise of these would raise CC1/2, too.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.alternation import Alternation, OnCycle, resolution_bin, start_of
from ssx_processing.kernels.merging import Observations
from ssx_processing.kernels.scaling import stages_to
from ssx_processing.kernels.scaling_result import ScalingModel, Start
from ssx_processing.kernels.statistics import cc_half
from ssx_processing.kernels.still_sweep import ACCEPTED, N_SCALE

MOST_LATTICES = 1500
"""So many are enough to choose by."""
CYCLES = 3
N_SHELLS = 10
WORTH = {ScalingModel.PARTIALITY: 0.002, ScalingModel.POSTREFINEMENT: -0.015}
"""How much better than the best before it a model has to be. Post-refinement may seem a little worse: in a
half it follows means of half the data, and gains more than the others when there are all
(benchmarks/partiality.py)."""


@dataclass(frozen=True)
class ModelChoice:
    """Models tried, the simplest first."""

    model: ScalingModel
    cc_half: dict[ScalingModel, float]
    """As of `shell_mean_cc`, of the same lattices and reflections for each model."""
    n_lattices: int
    """Lattices it was found with."""
    start: Start
    """For `scale_lattices` with the model chosen; where not all lattices were used, their observation model
    and guesses of the scales: the model is what takes most cycles to find."""


def choose_model(
    observations: Observations,
    half: NDArray[np.uint8],
    rank: NDArray[np.uint64],
    *,
    s_squared: NDArray[np.float64],
    excluded: NDArray[np.bool_] | None = None,
    min_full: float = 0.0,
    b_restraint: float = 15.0,
    n_threads: int = 1,
    on_cycle: OnCycle | None = None,
) -> ModelChoice:
    """Try scaling, partiality and post-refinement.

    Parameters
    ----------
    half : (n_lattices,) array
        0 or 1.
    rank : (n_lattices,) array
        Those with the smallest are used where there are more than `MOST_LATTICES`.
    s_squared : (n_unique,) array
        (sin(theta)/lambda)² in 1/Å².
    excluded : (n_lattices,) array
        Lattices that are not used.
    min_full
        Reflections that either half tells less of than so many full observations are not compared.
    """
    n_unique = len(s_squared)
    usable = np.arange(len(rank)) if excluded is None else np.flatnonzero(~excluded)
    everyone = len(usable) <= MOST_LATTICES
    used = np.arange(len(rank)) if everyone else sample_lattices(rank, usable)
    some = observations if everyone else observations.of_lattices(used)
    second = n_unique * half[used].astype(np.int32)[some.lattice_of_observation()]
    apart = some.with_uid(np.where(some.uid >= 0, some.uid + second, -1).astype(np.int32))
    run = Alternation(
        apart, np.tile(s_squared, 2), b_restraint=b_restraint,
        excluded=excluded if everyone else None, n_threads=n_threads, on_cycle=on_cycle,
    )  # fmt: skip
    seen = determined(apart, 2 * n_unique, min_full)
    both = np.flatnonzero(seen[:n_unique] & seen[n_unique:])
    found: dict[ScalingModel, float] = {}
    best, start = ScalingModel.SCALE, run.reached
    for model in stages_to(ScalingModel.POSTREFINEMENT):
        run.stage(model, CYCLES, -np.inf)
        found[model] = shell_mean_cc(run.expected[both], run.expected[n_unique + both], s_squared[both])
        if model is best or found[model] > found[best] + WORTH[model]:
            best, start = model, run.reached
    together = _aligned(start, half) if everyone else _guessed(start, observations, s_squared, excluded)
    return ModelChoice(best, found, min(len(usable), MOST_LATTICES), together)


def _aligned(start: Start, half: NDArray[np.uint8]) -> Start:
    """Halves that were scaled apart, on one scale: mean ln g and mean B are 0 in each."""
    parameters = start.parameters.copy()
    for own in (half == 0, half == 1):
        accepted = own & (start.verdict == ACCEPTED)
        if accepted.any():
            parameters[own, :N_SCALE] -= parameters[accepted, :N_SCALE].mean(axis=0)
    return replace(start, parameters=parameters)


def _guessed(
    of_sample: Start,
    observations: Observations,
    s_squared: NDArray[np.float64],
    excluded: NDArray[np.bool_] | None,
) -> Start:
    """What a sample has shown, and scales of all lattices from their total intensities."""
    guess = start_of(observations, resolution_bin(s_squared), excluded)
    return replace(of_sample, parameters=guess.parameters, verdict=guess.verdict, is_guess=True)


def determined(observations: Observations, n_unique: int, min_full: float) -> NDArray[np.bool_]:
    """(n_unique,) whether a reflection is seen near enough to the sphere, by Gaussian partialities.

    It must not depend on the model, which all are to be compared by the same reflections.
    """
    known = observations.uid >= 0
    u = observations.excitation_error[known] / observations.excitation_sigma[known]
    return np.bincount(observations.uid[known], np.exp(-(u**2)), n_unique) >= min_full


def sample_lattices(rank: NDArray[np.uint64], usable: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MOST_LATTICES` of the usable ones, those of the smallest rank, ascending."""
    return np.sort(usable[np.argsort(rank[usable], kind="stable")[:MOST_LATTICES]])


def shell_mean_cc(
    half_1: NDArray[np.float64], half_2: NDArray[np.float64], s_squared: NDArray[np.float64]
) -> float:
    """Root mean square of CC1/2 over shells with equal numbers of reflections, negative ones counted as 0.

    So shells of noise neither add to it nor decide. nan where there are too few reflections.
    """
    both = np.flatnonzero(np.isfinite(half_1) & np.isfinite(half_2))
    shells = np.array_split(both[np.argsort(s_squared[both], kind="stable")], N_SHELLS)
    values = [cc_half(half_1[shell], half_2[shell]) for shell in shells]
    known = [max(value, 0.0) ** 2 for value in values if np.isfinite(value)]
    return float(np.sqrt(np.mean(known))) if known else float("nan")
