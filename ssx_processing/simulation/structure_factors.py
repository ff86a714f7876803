"""True intensities, from a crystal of random atoms.

The atoms are repeated by the space group's operators and summed without further thought, so Laue
symmetry and systematic absences come out of the physics, and intensities follow Wilson's statistics.
"""

from dataclasses import dataclass

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.simulation.chip_settings import SimulatedCrystals

ELEMENTS = ("C", "N", "O", "S")
ABUNDANCE = (0.62, 0.17, 0.20, 0.01)
"""Of non-hydrogen atoms in a protein, about."""


@dataclass(frozen=True)
class AtomModel:
    """Random atoms of one asymmetric unit."""

    positions: NDArray[np.float64]
    """(n, 3), fractional."""
    element: NDArray[np.int64]
    """(n,), index into ELEMENTS."""
    b_factor: NDArray[np.float64]
    """(n,), Å²."""


@dataclass(frozen=True)
class TrueReflections:
    """Reflections with their true intensities."""

    hkl: NDArray[np.int32]
    """(n, 3)."""
    intensity: NDArray[np.float64]
    """(n,), |F|² in electrons², Friedel mates equal."""


def random_atoms(crystals: SimulatedCrystals, rng: np.random.Generator) -> AtomModel:
    """Atoms anywhere in the cell; their B spread about ``wilson_b`` as in a refined protein."""
    n = crystals.n_atoms
    return AtomModel(
        positions=rng.random((n, 3)),
        element=rng.choice(len(ELEMENTS), size=n, p=ABUNDANCE),
        b_factor=crystals.wilson_b * rng.gamma(9.0, 1 / 9.0, size=n),
    )


def intensities(hkl: NDArray[np.int32], atoms: AtomModel, crystals: SimulatedCrystals) -> NDArray[np.float64]:
    """|F|² of each of the (n, 3) reflections, electrons²."""
    operators = [op.float_seitz() for op in _operators(crystals.sample.gemmi_space_group)]
    seitz = np.array(operators, dtype=np.float64)
    everywhere = np.einsum("oij,aj->oai", seitz[:, :3, :3], atoms.positions) + seitz[:, None, :3, 3]
    cell = gemmi.UnitCell(*crystals.unit_cell)
    stol2 = np.asarray(cell.calculate_1_d2_array(hkl)) / 4
    form = np.stack([_form_factor(element, stol2) for element in ELEMENTS], axis=1)
    return _direct_sum(hkl.astype(np.float64), everywhere, atoms.element, atoms.b_factor, form, stol2)


def _operators(group: gemmi.SpaceGroup) -> list[gemmi.Op]:
    return list(group.operations())


def _form_factor(element: str, stol2: NDArray[np.float64]) -> NDArray[np.float64]:
    table = gemmi.Element(element).it92
    if table is None:
        raise ValueError(f"gemmi has no form factor of {element}")
    return np.array([table.calculate_sf(value) for value in stol2])


@njit(cache=True, nogil=True)
def _direct_sum(hkl, positions, element, b_factor, form, stol2):  # pragma: no cover (compiled)
    """Sum f exp(-B s²) exp(2 pi i h x) over operators and atoms; returns |F|²."""
    intensity = np.empty(len(hkl))
    for r in range(len(hkl)):
        h, k, l = hkl[r]  # noqa: E741
        real = imaginary = 0.0
        for a in range(positions.shape[1]):
            cosine = sine = 0.0
            for o in range(positions.shape[0]):
                x = positions[o, a]
                phase = 2 * np.pi * (h * x[0] + k * x[1] + l * x[2])
                cosine += np.cos(phase)
                sine += np.sin(phase)
            weight = form[r, element[a]] * np.exp(-b_factor[a] * stol2[r])
            real += weight * cosine
            imaginary += weight * sine
        intensity[r] = real * real + imaginary * imaginary
    return intensity


def unique_reflections(
    crystals: SimulatedCrystals, d_min: float, rng: np.random.Generator
) -> TrueReflections:
    """Reflections of gemmi's asymmetric unit to ``d_min`` (Å), absences left out, with intensities."""
    cell, group = gemmi.UnitCell(*crystals.unit_cell), crystals.sample.gemmi_space_group
    hkl = np.asarray(gemmi.make_miller_array(cell, group, d_min), dtype=np.int32)
    absent = np.asarray(group.operations().systematic_absences(hkl), dtype=bool)
    hkl = hkl[~absent]
    return TrueReflections(hkl, intensities(hkl, random_atoms(crystals, rng), crystals))


def whole_sphere(unique: TrueReflections, group: gemmi.SpaceGroup) -> TrueReflections:
    """All reflections equivalent to ``unique`` by the Laue group, each once."""
    rotations = [np.array(op.rot) // op.DEN for op in group.operations().sym_ops]
    mates = [sign * (unique.hkl @ rotation) for rotation in rotations for sign in (1, -1)]
    hkl = np.concatenate(mates).astype(np.int32)
    hkl, first = np.unique(hkl, axis=0, return_index=True)
    return TrueReflections(hkl, np.tile(unique.intensity, len(mates))[first])


def mean_intensity_near(
    reflections: TrueReflections, cell: gemmi.UnitCell, d: float, relative_width: float = 0.15
) -> float:
    """Mean intensity of the reflections with spacings near ``d`` (Å)."""
    spacing = np.asarray(cell.calculate_d_array(reflections.hkl))
    near = np.abs(spacing / d - 1) < relative_width
    return float(reflections.intensity[near].mean() if near.any() else reflections.intensity.mean())
