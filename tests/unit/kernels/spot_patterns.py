"""Spots of simulated stills of any lattice, without a detector: positions on the Ewald sphere."""

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.unit_cell import search_lattice
from ssx_processing.models import UnitCell

S0 = np.array([0.0, 0.0, -1.0])
SIGMA_Q = 0.75 * 0.075 / 150
LATTICES: dict[str, tuple[UnitCell, str]] = {
    "aP": ((42.0, 53.0, 64.0, 85.0, 83.0, 77.0), "P 1"),
    "mP": ((52.0, 61.0, 83.0, 90.0, 90.5, 90.0), "P 1 2 1"),
    "mP oblique": ((45.0, 65.0, 85.76, 90.0, 99.54, 90.0), "P 1 2 1"),
    "mC": ((120.0, 55.0, 70.0, 90.0, 105.0, 90.0), "C 1 2 1"),
    "oP": ((63.0, 80.0, 140.0, 90.0, 90.0, 90.0), "P 2 2 2"),
    "oC": ((61.5, 122.7, 168.8, 90.0, 90.0, 90.0), "C 2 2 2"),
    "oI": ((60.0, 80.0, 110.0, 90.0, 90.0, 90.0), "I 2 2 2"),
    "oF": ((70.0, 110.0, 160.0, 90.0, 90.0, 90.0), "F 2 2 2"),
    "tP": ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 4 2 2"),
    "tI": ((78.0, 78.0, 150.0, 90.0, 90.0, 90.0), "I 4 2 2"),
    "hP": ((61.0, 61.0, 110.0, 90.0, 90.0, 120.0), "P 6 2 2"),
    "hR": ((80.0, 80.0, 200.0, 90.0, 90.0, 120.0), "R 3 2:H"),
    "cP": ((90.0, 90.0, 90.0, 90.0, 90.0, 90.0), "P 4 3 2"),
    "cI": ((78.0, 78.0, 78.0, 90.0, 90.0, 90.0), "I 4 3 2"),
    "cF": ((120.0, 120.0, 120.0, 90.0, 90.0, 90.0), "F 4 3 2"),
}
"""A cell for each Bravais type, in the setting in which it is to be found."""


def primitive_b(cell: UnitCell, group: str) -> np.ndarray:
    """(3, 3) B matrix of the primitive cell."""
    return search_lattice(cell, gemmi.SpaceGroup(group)).b


def stills(b: np.ndarray, n: int, rng: np.random.Generator, false_share: float = 0.2) -> list[np.ndarray]:
    """Scattering vectors of 30-80 spots, and false ones, for n crystals at random."""
    patterns = []
    for u in Rotation.random(n, rng=rng).as_matrix():
        n_spots = int(rng.integers(30, 80))
        true = still(u @ b, n_spots, rng)
        patterns.append(np.concatenate([true, noise(int(false_share * n_spots), rng)]))
    return patterns


def still(a: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3) array: reflections near the Ewald sphere, seen with errors of position, weaker at high angle."""
    limit = np.ceil(np.linalg.norm(np.linalg.inv(a), axis=1) * 0.5).astype(int)
    hkl = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in limit], indexing="ij"), -1).reshape(-1, 3)
    q = hkl @ a.T
    length = np.linalg.norm(q, axis=1)
    excitation = np.linalg.norm(q + S0, axis=1) - 1.0
    near = (np.abs(excitation) < 1.5 * np.hypot(3e-4, 1e-3 * length)) & (length > 0.03) & (length < 0.5)
    weight = np.exp(-10.0 * length[near] ** 2)
    possible = np.flatnonzero(near)
    chosen = rng.choice(possible, min(n, len(possible)), replace=False, p=weight / weight.sum())
    s1 = q[chosen] + S0
    s1 /= np.linalg.norm(s1, axis=1)[:, None]
    s1 += rng.normal(scale=SIGMA_Q * 0.7, size=s1.shape)
    return s1 / np.linalg.norm(s1, axis=1)[:, None] - S0


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3) array: directions at random, as far out as spots are."""
    two_theta, phi = np.arccos(1 - rng.uniform(0.0005, 0.12, n)), rng.uniform(0, 2 * np.pi, n)
    s1 = np.stack([np.sin(two_theta) * np.cos(phi), np.sin(two_theta) * np.sin(phi), -np.cos(two_theta)], 1)
    return s1 - S0
