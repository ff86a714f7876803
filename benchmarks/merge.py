"""CPU time of scaling and merging: per observation as ratios to gemmi's merge in the same run, and in all.

python benchmarks/merge.py [n_lattices]
"""

import sys
import time
from collections.abc import Callable

import gemmi
import numpy as np

from ssx_processing.kernels.alternation import Alternation
from ssx_processing.kernels.error_model import repeat_scatter
from ssx_processing.kernels.lattice_step import refine
from ssx_processing.kernels.merging import merge_sums
from ssx_processing.kernels.model_choice import choose_model
from ssx_processing.kernels.observation_model import empty_moments
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import Scaling, ScalingModel
from ssx_processing.kernels.still_sweep import N_PARAMETERS, N_SCALE, State, add_up
from ssx_processing.simulation.still_observations import (
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)

OBSERVATIONS = 412_000
"""Of the comparison in the issue: 1280 lattices, CrystFEL needs 5 s (unity) to 18 s (xsphere)."""


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of process CPU time; the first call, which may compile, does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def sweeps(stills: StillObservations) -> dict[str, float]:
    """One sweep of each kind."""
    run = Alternation(stills.observations(), stills.unit.s_squared)
    run.stage(ScalingModel.SCALE, 3, -np.inf)
    (block, state), *_ = run.blocks
    means, law = run.means(), run.as_law()
    precision = np.array([0.0, 1e-2, 1e7, 1e7, 1e2])

    def one_step(n_parameters: int) -> None:
        copy = State(state.parameters.copy(), state.verdict.copy(), state.cc.copy(), state.n_shared.copy())
        refine(block, copy, means, law, precision, n_parameters, -np.inf, 2, empty_moments(), np.zeros(3))

    share = len(stills.uid) / len(block.uid)
    return {
        "add up": share
        * fastest(lambda: add_up(block, state, means, law, np.zeros_like(run.table), np.zeros_like(run.n))),
        "refine scale and B": share * fastest(lambda: one_step(N_SCALE)),
        "refine scale, B, turns and width": share * fastest(lambda: one_step(N_PARAMETERS)),
    }


def main(n_lattices: int) -> None:
    experiment = StillExperiment(n_lattices=n_lattices, model="sphere", mosaicity_deg=0.12)
    stills = simulate_still_observations(experiment)
    o, s2, n = stills.observations(), stills.unit.s_squared, len(stills.uid)
    rng = np.random.default_rng(0)
    half = rng.integers(0, 2, n_lattices).astype(np.uint8)
    rank = rng.permutation(n_lattices).astype(np.uint64)
    cell, group = gemmi.UnitCell(*experiment.unit_cell), gemmi.SpaceGroup(experiment.space_group)

    def gemmi_merge() -> None:
        theirs = gemmi.Intensities()
        theirs.set_data(cell, group, stills.hkl, stills.intensity, stills.sigma)
        theirs.merge_in_place(gemmi.DataType.Mean)

    def scaled(model: ScalingModel) -> Scaling:
        return scale_lattices(o, s_squared=s2, model=model)

    def merged(scaling: Scaling) -> None:
        merge_sums(
            o, scaling.reference, log_g=scaling.scales.log_g, friedel_minus=stills.friedel_minus, half=half
        )
        repeat_scatter(o, scaling.reference)

    def automatic() -> None:
        choice = choose_model(o, half, rank, s_squared=s2, min_full=0.15)
        merged(scale_lattices(o, s_squared=s2, model=choice.model, start=choice.start))

    finished = scaled(ScalingModel.SCALE)
    seconds = {
        "hkl to unique reflection": fastest(
            lambda: stills.unit.find(*np.ascontiguousarray(stills.hkl.T.astype(np.int16)))
        ),
        **sweeps(stills),
        "sums, chi-square of repeats": fastest(lambda: merged(finished)),
        "all of `scale`": fastest(lambda: merged(scaled(ScalingModel.SCALE))),
        "all of `partiality`": fastest(lambda: merged(scaled(ScalingModel.PARTIALITY))),
        "all of `postrefinement`": fastest(lambda: merged(scaled(ScalingModel.POSTREFINEMENT))),
        "all of `auto`": fastest(automatic),
        "gemmi set_data + merge": fastest(gemmi_merge),
    }
    print(f"{n} observations, {n_lattices} lattices, {len(stills.unit)} unique")
    print(f"{'':34s}{'ns/observation':>15s}{'ratio to gemmi':>16s}{f's for {OBSERVATIONS}':>15s}")
    for name, value in seconds.items():
        ratio = value / seconds["gemmi set_data + merge"]
        print(f"{name:34s}{1e9 * value / n:15.1f}{ratio:16.2f}{value / n * OBSERVATIONS:15.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1280)
