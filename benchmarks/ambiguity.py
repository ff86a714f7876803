"""Fraction of lattices whose setting is found, up to one renaming of all, and the time that takes.

python benchmarks/ambiguity.py [--all]
"""

import sys
import time

import numpy as np

from ssx_processing.kernels.ambiguity import ResolvedSettings, resolve_ambiguity
from ssx_processing.kernels.normalised_amplitudes import normalised_amplitudes
from ssx_processing.kernels.reindexing import composition_table, uid_by_operator
from ssx_processing.kernels.setting_scores import SettingObservations
from ssx_processing.simulation.ambiguous_stills import AmbiguousStills, ambiguous_stills

CRYSTALS = {
    "P 3": (61.0, 61.0, 95.0, 90.0, 90.0, 120.0),
    "P 31 2 1": (61.0, 61.0, 95.0, 90.0, 90.0, 120.0),
    "P 4": (78.0, 78.0, 66.0, 90.0, 90.0, 90.0),
    "I 4": (90.0, 90.0, 101.0, 90.0, 90.0, 90.0),
    "P 63": (61.0, 61.0, 95.0, 90.0, 90.0, 120.0),
    "P 21 3": (78.0, 78.0, 78.0, 90.0, 90.0, 90.0),
    "I 2 3": (78.0, 78.0, 78.0, 90.0, 90.0, 90.0),
    "R 3:H": (90.0, 90.0, 120.0, 90.0, 90.0, 120.0),
    "R 3:R": (66.0, 66.0, 66.0, 80.0, 80.0, 80.0),
    "P 1 21 1": (60.0, 80.0, 70.0, 90.0, 90.15, 90.0),
    "P 21 21 21": (70.0, 70.1, 90.0, 90.0, 90.0, 90.0),
    "C 1 2 1": (120.0, 60.0, 75.0, 90.0, 90.1, 90.0),
    "P 1": (60.0, 70.0, 80.0, 90.0, 90.1, 90.0),
    "P 4 (cubic metric)": (78.0, 78.0, 78.1, 90.0, 90.0, 90.0),
    "P 1 2 1 (a = b = c)": (60.0, 60.0, 60.0, 90.0, 90.0, 90.0),
}
QUICK = ("P 3", "P 63", "I 2 3", "P 1 21 1", "P 4 (cubic metric)")


def resolve(stills: AmbiguousStills) -> ResolvedSettings:
    """Settings of simulated lattices."""
    uid = uid_by_operator(stills.hkl, stills.unit, stills.operators)
    s_squared = stills.unit.s_squared[uid[:, 0]]
    value, weight = normalised_amplitudes(
        stills.offsets, s_squared, stills.intensity, stills.noise_variance, stills.factor
    )
    observations = SettingObservations(stills.offsets, uid, value, weight)
    composition = composition_table(stills.operators, stills.unit.space_group)
    return resolve_ambiguity(observations, len(stills.unit), composition)


def is_right(stills: AmbiguousStills, setting: np.ndarray) -> np.ndarray:
    """Which lattices are in the setting of most, whatever that is called."""
    composition = composition_table(stills.operators, stills.unit.space_group)
    names = [composition[stills.setting, r] == setting for r in range(len(composition))]
    return max(names, key=np.sum)


def main(everything: bool) -> None:
    sizes = (50, 100, 300, 1000, 2000) if everything else (100, 1000)
    strengths = (2000.0, 300.0, 100.0, 30.0, 10.0) if everything else (1000.0, 50.0)
    print(f"{'crystal':22s}{'ways':>5s}{'lattices':>9s}{'photons':>8s}{'resolved':>9s}{'sigmas':>7s}", end="")
    print(f"{'right':>8s}{'z > 2':>8s}{'of them':>8s}{'seconds':>9s}")
    for name in CRYSTALS if everything else QUICK:
        for n in sizes:
            for strength in strengths:
                stills = ambiguous_stills(
                    np.random.default_rng(n),
                    unit_cell=CRYSTALS[name],
                    space_group=name.split(" (")[0],
                    n_lattices=n,
                    strength=strength,
                    d_min=2.2,
                )
                start = time.perf_counter()
                found = resolve(stills)
                seconds = time.perf_counter() - start
                right, certain = is_right(stills, found.setting), found.margin_z > 2
                of_certain = f"{right[certain].mean():8.3f}" if certain.any() else f"{'-':>8s}"
                print(
                    f"{name:22s}{len(stills.operators):5d}{n:9d}{strength:8.0f}"
                    f"{'yes' if found.resolved else 'no':>9s}{found.significance:7.1f}"
                    f"{right.mean():8.3f}{certain.mean():8.3f}{of_certain}{seconds:9.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main("--all" in sys.argv)
