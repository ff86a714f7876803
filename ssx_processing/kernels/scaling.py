"""Scale, B factor and partiality of every lattice against the merged intensities of all others.

See `still_sweep` for the model of an observation. B is the conventional one: E[I] goes with
exp(-2 B s²), s = sin(theta) / lambda.
"""

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.alternation import MIN_CYCLES, Alternation, OnCycle
from ssx_processing.kernels.merging import Observations
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel, Start


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
        Of the same lattices; then only the model asked for is refined, scales before it if they are guesses.
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
    stages = stages_to(model)
    if start is not None and model is not ScalingModel.MEAN:
        stages = [model]
        if start.is_guess:
            run.stage(ScalingModel.SCALE, 1, min_cc)
    for stage in stages:
        cycles = n_cycles if stage is model else MIN_CYCLES
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
