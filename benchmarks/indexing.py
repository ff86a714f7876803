"""Right, wrong and missed lattices over cells and conditions, and CPU time per pattern of one core.

    python benchmarks/indexing.py [PATTERNS_PER_ROW] [ROWS_THAT_CONTAIN]

Patterns are simulated spot lists with a known answer (`ssx_processing/simulation/spot_pattern.py`):
the brightest reflections of mosaic crystals in a beam with bandwidth and divergence, among false
spots. A lattice within one degree of a true one, up to the symmetry of the lattice, is right.
"wrong" is the share of patterns with a lattice that is none; "missed" that of true lattices not found.
"""

import sys

import numpy as np
from indexing_scenarios import CELLS, LYSOZYME, Bench, Scenario, Tally

LARGE = "117 x 223 x 309 Å"
ROWS: dict[str, Scenario] = {
    **{f"{name}": Scenario(cell=name) for name in CELLS if name != LARGE},
    **{f"8-15 spots: {name}": Scenario(cell=name, n_spots=((8, 15),)) for name in CELLS if name != LARGE},
    "no false spots": Scenario(false_fraction=(0, 0)),
    "60 % false": Scenario(false_fraction=(0.6, 0.6)),
    "300 spots, 60 % false": Scenario(n_spots=((300, 300),), false_fraction=(0.6, 0.6)),
    "300 spots, 20 % false": Scenario(n_spots=((300, 300),), false_fraction=(0.2, 0.2)),
    "300 spots and a second lattice": Scenario(n_spots=((200, 220), (80, 100)), false_fraction=(0.0, 0.2)),
    "2 lattices": Scenario(n_spots=((25, 60), (20, 50)), false_fraction=(0.1, 0.3)),
    "2 lattices, orthorhombic": Scenario("orthorhombic", ((25, 60), (20, 50)), (0.1, 0.3)),
    "3 lattices": Scenario(n_spots=((35, 60), (30, 50), (25, 40)), false_fraction=(0.1, 0.3)),
    "bandwidth 0.01 %": Scenario(bandwidth=1e-4),
    "bandwidth 0.5 %": Scenario(bandwidth=5e-3),
    "bandwidth 1 %": Scenario(bandwidth=1e-2),
    "mosaicity 0.15 degrees": Scenario(mosaic_spread_deg=0.15),
    "mosaicity 0.3 degrees": Scenario(mosaic_spread_deg=0.3),
    "ice instead of random": Scenario(false_fraction=(0.5, 0.6), on_ice_rings=True),
    "large cell, 40-100 spots": Scenario(cell=LARGE, n_spots=((40, 100),)),
    "control: shuffled, 15-60": Scenario(is_shuffled=True),
    "control: shuffled, 200-300": Scenario(n_spots=((200, 300),), is_shuffled=True),
    "control: shuffled, triclinic": Scenario("triclinic", is_shuffled=True),
    "control: shuffled, 300 Å": Scenario("axis of 300 Å", is_shuffled=True),
    "control: shuffled, large cell": Scenario(LARGE, ((40, 100),), is_shuffled=True),
    "control: noise": Scenario(n_spots=(), false_fraction=(0.3, 0.7)),
    "control: ice rings": Scenario(n_spots=(), false_fraction=(0.5, 0.7), on_ice_rings=True),
    "control: noise, large cell": Scenario(LARGE, (), (0.5, 0.7)),
}


def line(name: str, tally: Tally) -> str:
    true = tally.right + tally.missed
    share = f"{tally.right / true:8.3f} {tally.missed / true:8.3f}" if true else f"{'':8s} {'':8s}"
    angle = f"{np.median(tally.misorientation_deg):8.3f}" if tally.misorientation_deg else f"{'':8s}"
    ms = np.array(tally.ms)
    return (
        f"{name:40s} {share} {tally.patterns_wrong / tally.patterns:8.4f} {angle} "
        f"{ms.mean():8.2f} {np.median(ms):8.2f} {np.percentile(ms, 99):8.2f} {ms.max():8.2f}"
    )


def main(n_patterns: int, wanted: str) -> None:
    print(f"{n_patterns} patterns per row; lysozyme ({LYSOZYME}), 15-60 spots unless the row says otherwise")
    heads = ("right", "missed", "wrong", "degrees", "ms mean", "median", "p99", "max")
    print(f"{'':40s} " + " ".join(f"{head:>8s}" for head in heads))
    for name, scenario in ROWS.items():
        if wanted in name:
            print(line(name, Bench(scenario).run(n_patterns)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300, sys.argv[2] if len(sys.argv) > 2 else "")
