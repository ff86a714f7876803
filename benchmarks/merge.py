"""Time of scaling and merging per observation, as ratios to gemmi's merge in the same run.

python benchmarks/merge.py [n_observations]
"""

import sys
import time
from collections.abc import Callable

import gemmi
import numpy as np

from ssx_processing.kernels.error_model import estimate_error_model
from ssx_processing.kernels.merging import ErrorModel, Observations, accumulate, merge_sums
from ssx_processing.kernels.scaling import refine_scales, scale_lattices, start_scales
from ssx_processing.kernels.symmetry import asymmetric_unit

CELL = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
GROUP = "P 43 21 2"
D_MIN = 1.8
PER_LATTICE = 400


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of process CPU time; the first call, which may compile, does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main(n: int) -> None:
    rng = np.random.default_rng(0)
    cell, group = gemmi.UnitCell(*CELL), gemmi.SpaceGroup(GROUP)
    build = fastest(lambda: asymmetric_unit(CELL, GROUP, D_MIN))
    unit = asymmetric_unit(CELL, GROUP, D_MIN)
    everywhere = gemmi.make_miller_array(cell, group, D_MIN, unique=False)
    hkl = everywhere[rng.integers(0, len(everywhere), n)].astype(np.int32)
    h, k, l = np.ascontiguousarray(hkl.T.astype(np.int16))  # noqa: E741
    uid, minus = unit.find(h, k, l)
    n_lattices = max(n // PER_LATTICE, 1)
    offsets = np.linspace(0, n, n_lattices + 1).astype(np.int64)
    truth = 500 * rng.exponential(1.0, len(unit)) * np.exp(-40 * unit.s_squared)
    scale = np.repeat(np.exp(rng.normal(0, 0.5, n_lattices)), np.diff(offsets))
    expected = scale * truth[uid] * rng.beta(2, 1, n)
    intensity = (rng.poisson(expected + 30) - 30).astype(np.float64)
    observations = Observations(offsets, uid, intensity, np.full(n, 45.0), np.ones(n))
    s2, model = unit.s_squared, ErrorModel()
    scales = start_scales(observations, s_squared=s2)
    reference = accumulate(observations, scales, s_squared=s2, error_model=model)
    half = rng.integers(0, 2, n_lattices).astype(np.uint8)
    sigma = np.sqrt(np.maximum(intensity, 0) + 45.0)

    def gemmi_merge() -> None:
        theirs = gemmi.Intensities()
        theirs.set_data(cell, group, hkl, intensity, sigma)
        theirs.merge_in_place(gemmi.DataType.Mean)

    cycles = scale_lattices(observations, s_squared=s2).n_cycles
    seconds = {
        "hkl to unique reflection": fastest(lambda: unit.find(h, k, l)),
        "accumulate (scaled means)": fastest(
            lambda: accumulate(
                observations, scales, s_squared=s2, error_model=model, expected=reference.mean
            )
        ),
        "refine scale and B": fastest(
            lambda: refine_scales(
                observations, scales, reference,
                s_squared=s2, error_model=model, b_restraint=15.0, min_cc=0.1,
            )
        ),
        "error model, 3 iterations": fastest(
            lambda: estimate_error_model(observations, scales, reference, s_squared=s2, start=model)
        ),
        "final sums (mates, halves)": fastest(
            lambda: merge_sums(observations, reference, friedel_minus=minus, half=half)
        ),
        f"whole scaling, {cycles} cycles": fastest(lambda: scale_lattices(observations, s_squared=s2), 1),
        "gemmi set_data + merge": fastest(gemmi_merge),
    }  # fmt: skip
    print(f"{n} observations, {n_lattices} lattices, {len(unit)} unique; table built in {1e3 * build:.0f} ms")
    print(f"{'':28s}{'ns/observation':>16s}{'us/lattice':>12s}{'ratio to gemmi':>16s}")
    for name, value in seconds.items():
        ratio = value / seconds["gemmi set_data + merge"]
        print(f"{name:28s}{1e9 * value / n:16.1f}{1e6 * value / n_lattices:12.1f}{ratio:16.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
