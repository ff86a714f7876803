import gemmi
import numpy as np
import pytest

from ssx_processing.simulation.chip_settings import SimulatedCrystals
from ssx_processing.simulation.structure_factors import (
    ELEMENTS,
    TrueReflections,
    intensities,
    random_atoms,
    unique_reflections,
    whole_sphere,
)

CRYSTALS = [
    SimulatedCrystals(unit_cell=(39.5, 39.5, 19, 90, 90, 90), space_group="P43212", n_atoms=40),
    SimulatedCrystals(unit_cell=(40, 30, 35, 90, 104, 90), space_group="C2", n_atoms=40),
    SimulatedCrystals(unit_cell=(40, 40, 55, 90, 90, 120), space_group="P6122", n_atoms=40),
    SimulatedCrystals(unit_cell=(40, 40, 55, 90, 90, 120), space_group="R32:H", n_atoms=40),
    SimulatedCrystals(unit_cell=(50, 50, 50, 90, 90, 90), space_group="I213", n_atoms=40),
    SimulatedCrystals(unit_cell=(20, 25, 30, 80, 95, 101), space_group="P1", n_atoms=40),
]
each_crystal = pytest.mark.parametrize("crystals", CRYSTALS, ids=lambda c: c.space_group)


def every_reflection(crystals: SimulatedCrystals) -> np.ndarray:
    """Whatever the lattice has to 3 Å, absent ones included."""
    n = 14
    hkl = (
        np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
    )
    inverse_d2 = np.asarray(gemmi.UnitCell(*crystals.unit_cell).calculate_1_d2_array(hkl))
    return hkl[(inverse_d2 > 0) & (inverse_d2 < 1 / 9)]


@each_crystal
def test_equivalent_reflections_have_equal_intensities(crystals: SimulatedCrystals, rng: np.random.Generator):
    atoms = random_atoms(crystals, rng)
    hkl = rng.integers(-8, 9, size=(60, 3)).astype(np.int32)
    expected = intensities(hkl, atoms, crystals)
    for op in crystals.sample.gemmi_space_group.operations():
        moved = np.array([op.apply_to_hkl([int(v) for v in row]) for row in hkl], np.int32)
        assert intensities(moved, atoms, crystals) == pytest.approx(expected, rel=1e-8, abs=1e-8)
        assert intensities(-moved, atoms, crystals) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@each_crystal
def test_exactly_the_systematic_absences_are_dark(crystals: SimulatedCrystals, rng: np.random.Generator):
    hkl = every_reflection(crystals)
    found = intensities(hkl, random_atoms(crystals, rng), crystals)
    absent = np.asarray(crystals.sample.gemmi_space_group.operations().systematic_absences(hkl), bool)
    assert found[absent] == pytest.approx(0, abs=1e-12 * found.max())
    assert found[~absent].min() > 1e-9 * found.max()


def test_intensities_agree_with_gemmi(rng: np.random.Generator):
    crystals = CRYSTALS[0]
    atoms = random_atoms(crystals, rng)
    structure = gemmi.SmallStructure()
    structure.cell = gemmi.UnitCell(*crystals.unit_cell)
    structure.spacegroup = crystals.sample.gemmi_space_group
    for position, element, b in zip(atoms.positions, atoms.element, atoms.b_factor, strict=True):
        site = gemmi.SmallStructure.Site()
        site.fract = gemmi.Fractional(*position)
        site.element = gemmi.Element(ELEMENTS[element])
        site.u_iso = b / (8 * np.pi**2)
        structure.add_site(site)
    structure.setup_cell_images()
    calculator = gemmi.StructureFactorCalculatorX(structure.cell)
    hkl = rng.integers(-8, 9, size=(50, 3)).astype(np.int32)
    expected = [
        abs(calculator.calculate_sf_from_small_structure(structure, [int(v) for v in row])) ** 2
        for row in hkl
    ]
    assert intensities(hkl, atoms, crystals) == pytest.approx(expected, rel=1e-4, abs=1e-3)


@each_crystal
def test_whole_sphere_has_every_present_reflection_once(
    crystals: SimulatedCrystals, rng: np.random.Generator
):
    cell, group = gemmi.UnitCell(*crystals.unit_cell), crystals.sample.gemmi_space_group
    sphere = whole_sphere(unique_reflections(crystals, 3.0, rng), group)
    expected = np.asarray(gemmi.make_miller_array(cell, group, 3.0, unique=False))
    assert len(np.unique(sphere.hkl, axis=0)) == len(sphere.hkl)
    assert sorted(map(tuple, sphere.hkl.tolist())) == sorted(map(tuple, expected.tolist()))


def test_intensities_follow_wilson_statistics(rng: np.random.Generator):
    crystals = SimulatedCrystals(n_atoms=150)
    unique = unique_reflections(crystals, 2.6, rng)
    operations = crystals.sample.gemmi_space_group.operations()
    centric = np.asarray(operations.centric_flag_array(unique.hkl), bool)
    acentric_moment, centric_moment = (
        second_moment(unique, which, crystals) for which in (~centric, centric)
    )
    assert acentric_moment == pytest.approx(2.0, abs=0.15)
    assert centric_moment == pytest.approx(3.0, abs=0.6)


def second_moment(reflections: TrueReflections, which: np.ndarray, crystals: SimulatedCrystals) -> float:
    """<I²> / <I>², in thin shells to take out the fall-off with resolution."""
    d = np.asarray(gemmi.UnitCell(*crystals.unit_cell).calculate_d_array(reflections.hkl))[which]
    shells = np.array_split(reflections.intensity[which][np.argsort(d)], 8)
    return float(np.mean([(shell**2).mean() / shell.mean() ** 2 for shell in shells]))
