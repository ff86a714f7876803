"""Merged intensities against the truth, for every model of partiality and the one that is chosen.

python benchmarks/partiality.py [sets]

Ten simulated sets of still observations, from three physical models of partiality that no model of
merging assumes. `unity` is plain scale and B; `xsphere` the cut of a ball at the stated excitation
error as CrystFEL's model of that name has it, observations below 0.3 dropped. Both know nothing of
the factor L (docs/explanations/algorithms.md), which all others apply.
"""

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.merging import Observations
from ssx_processing.kernels.model_choice import choose_model
from ssx_processing.kernels.scaling import scale_lattices
from ssx_processing.kernels.scaling_result import ScalingModel
from ssx_processing.simulation.still_observations import (
    StillExperiment,
    simulate_still_observations,
)

SETS = [
    StillExperiment(n_lattices=50, strength=1000, seed=1),
    StillExperiment(n_lattices=100, strength=300, model="sphere", mosaicity_deg=0.1, seed=2),
    StillExperiment(n_lattices=200, strength=300, model="lorentzian", seed=3),
    StillExperiment(n_lattices=200, strength=1000, model="blocks", mosaicity_deg=0.1, seed=4),
    StillExperiment(n_lattices=500, strength=100, model="sphere", bandwidth=5e-3, mosaicity_deg=0.02, seed=5),
    StillExperiment(n_lattices=500, strength=300, model="blocks", bandwidth=5e-3, minority=0.1, seed=6),
    StillExperiment(n_lattices=1000, strength=100, model="lorentzian", mosaicity_deg=0.2, seed=7),
    StillExperiment(n_lattices=1000, strength=300, model="blocks", mosaicity_deg=0.02, minority=0.1, seed=8),
    StillExperiment(n_lattices=2000, strength=30, model="blocks", mosaicity_deg=0.05, seed=9),
    StillExperiment(n_lattices=5000, strength=100, model="sphere", mosaicity_deg=0.02, seed=10),
]
SPHERE = 0.44
"""Excitation sigma in radii of a uniform ball."""


def unity(o: Observations, s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Plain scale and B."""
    blind = replace(
        o, excitation_error=np.zeros_like(o.intensity), excitation_sigma=np.ones_like(o.intensity)
    )
    return scale_lattices(blind, s_squared=s2).reference.mean


def xsphere(o: Observations, s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut of a ball, dropped below 0.3."""
    partiality = 1 - (SPHERE * o.excitation_error / o.excitation_sigma) ** 2
    keep = np.where(partiality > 0.3, 1.0, 0.0)
    lattice = o.lattice_of_observation()
    flat = replace(
        o,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(lattice, keep, o.n_lattices).astype(np.int64))]),
        uid=o.uid[keep > 0],
        intensity=(o.intensity / partiality)[keep > 0].astype(np.float32),
        noise_variance=(o.noise_variance / partiality**2)[keep > 0].astype(np.float32),
        excitation_error=np.zeros(int(keep.sum()), np.float32),
        excitation_sigma=np.ones(int(keep.sum()), np.float32),
        turn_slopes=np.zeros((0, 2), np.float32),
    )
    return scale_lattices(flat, s_squared=s2).reference.mean


def one_set(experiment: StillExperiment) -> bool:
    stills = simulate_still_observations(experiment)
    o, s2 = stills.observations(), stills.unit.s_squared
    rng = np.random.default_rng(0)
    half = rng.integers(0, 2, experiment.n_lattices).astype(np.uint8)
    choice = choose_model(
        o, half, rng.permutation(experiment.n_lattices).astype(np.uint64), s_squared=s2, min_full=0.15
    )
    results = {"unity": unity(o, s2), "xsphere": xsphere(o, s2)}
    results |= {m.value: scale_lattices(o, s_squared=s2, model=m).reference.mean for m in ScalingModel}
    chosen = scale_lattices(o, s_squared=s2, model=choice.model, start=choice.start).reference.mean
    differing = ", ".join(
        f"{name} {value}" for name, value in vars(experiment).items()
        if value != getattr(StillExperiment, name) and name != "seed"
    )  # fmt: skip
    halves = " ".join(f"{model} {cc:.3f}" for model, cc in choice.cc_half.items())
    print(f"{differing}\n  {len(o.uid) / o.n_lattices:.0f} a lattice; CC1/2 of independent halves: {halves}")
    n = np.isfinite(results["unity"]).sum()
    for name, merged in (*results.items(), (f"chosen: {choice.model}", chosen)):
        print(
            f"  {name:24s} CC {stills.cc_to_truth(merged):.4f}  "
            f"by shells {stills.shell_cc_to_truth(merged):.4f}  R {stills.r_to_truth(merged):.3f}  "
            f"reflections {np.isfinite(merged).sum() / n:.3f}"
        )
    others = [results[name] for name in ("unity", "xsphere", "mean", "scale", "gaussian")]
    better_cc = stills.shell_cc_to_truth(chosen) >= max(map(stills.shell_cc_to_truth, others))
    better_r = stills.r_to_truth(chosen) <= min(map(stills.r_to_truth, others))
    print(f"  better than every single model by CC: {better_cc}, by R: {better_r}", flush=True)
    return better_cc and better_r


def main(n: int) -> None:
    wins = [one_set(experiment) for experiment in SETS[:n]]
    print(f"better by both in {sum(wins)} of {len(wins)} sets")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else len(SETS))
