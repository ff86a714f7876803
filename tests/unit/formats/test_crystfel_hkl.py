"""Merged reflections and symmetry in CrystFEL's words."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.crystfel_hkl import HklList, read_hkl, write_hkl
from ssx_processing.formats.crystfel_symmetry import point_group_name, target_cell

CHIRAL = {
    "1": "-1", "2_uaa": "2/m_uaa", "2_uab": "2/m_uab", "2_uac": "2/m_uac", "222": "mmm", "4": "4/m",
    "422": "4/mmm", "3_R": "-3_R", "32_R": "-3m_R", "3_H": "-3_H", "321_H": "-3m1_H", "312_H": "-31m_H",
    "6": "6/m", "622": "6/mmm", "23": "m-3", "432": "m-3m",
}  # fmt: skip
"""CrystFEL's names of the point groups that crystals of proteins may have, and of their Laue classes."""


@pytest.fixture
def merged(rng: np.random.Generator) -> HklList:
    n = 200
    return HklList(
        symmetry="4/mmm",
        hkl=rng.integers(-90, 90, (n, 3)),
        intensity=rng.normal(0, 300, n),
        sigma=rng.uniform(1, 90, n),
        n=rng.integers(1, 400, n),
        notes=("merged by hand",),
    )


def test_reflections_come_back_as_they_were_to_the_digits_written(merged: HklList, tmp_path: Path):
    again = read_hkl(write_hkl(tmp_path / "x.hkl", merged))
    assert (again.symmetry, again.notes) == (merged.symmetry, merged.notes)
    np.testing.assert_array_equal(again.hkl, merged.hkl)
    np.testing.assert_array_equal(again.n, merged.n)
    np.testing.assert_allclose(again.intensity, merged.intensity, atol=0.00501)
    np.testing.assert_allclose(again.sigma, merged.sigma, atol=0.00501)


def test_lines_are_those_of_the_format(merged: HklList, tmp_path: Path):
    lines = write_hkl(tmp_path / "x.hkl", merged).read_text().splitlines()
    assert lines[:3] == [
        "CrystFEL reflection list version 2.0",
        "Symmetry: 4/mmm",
        "   h    k    l          I    phase   sigma(I)   nmeas",
    ]
    assert {(len(line), len(line.split()), line.split()[4]) for line in lines[3:203]} == {(53, 7, "-")}
    assert lines[203:] == ["End of reflections", "merged by hand"]


def test_weak_intensities_keep_their_digits(tmp_path: Path):
    weak = HklList("1", np.array([[1, 0, 0]]), np.array([0.0123456]), np.array([0.00234]), np.array([3]))
    assert read_hkl(write_hkl(tmp_path / "x.hkl", weak)).sigma[0] == pytest.approx(0.00234)


def test_reflections_without_intensity_or_sigma_are_left_out(merged: HklList, tmp_path: Path):
    merged.intensity[:3], merged.sigma[5] = np.nan, np.inf
    assert len(read_hkl(write_hkl(tmp_path / "x.hkl", merged)).n) == 196


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("version 2.0", "version 3.0", "begin with"), ("End of", "", "was cut"), (" - ", " - z ", "columns")],
)
def test_a_spoilt_list_is_refused(merged: HklList, tmp_path: Path, before: str, after: str, message: str):
    path = write_hkl(tmp_path / "x.hkl", merged)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ChunkError, match=message):
        read_hkl(path)


@pytest.mark.parametrize(
    "group", [g for g in gemmi.spacegroup_table() if g.is_sohncke()], ids=lambda g: g.xhm()
)
def test_every_chiral_space_group_has_a_point_group_of_crystfels(group: gemmi.SpaceGroup):
    name = point_group_name(group, friedel=False)
    assert point_group_name(group, friedel=True) == CHIRAL[name]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("P 1", ("triclinic", "P", "?")),
        ("P 1 21 1", ("monoclinic", "P", "b")),
        ("I 1 2 1", ("monoclinic", "I", "b")),
        ("C 2 2 21", ("orthorhombic", "C", "?")),
        ("I 41", ("tetragonal", "I", "c")),
        ("P 31 2 1", ("hexagonal", "P", "c")),
        ("R 3:H", ("hexagonal", "H", "c")),
        ("R 3 2:R", ("rhombohedral", "R", "?")),
        ("P 63 2 2", ("hexagonal", "P", "c")),
        ("F 4 3 2", ("cubic", "F", "?")),
    ],
)
def test_lattices_are_called_as_crystfel_calls_them(group: str, expected: tuple[str, str, str]):
    found = target_cell((50, 50, 50, 90, 90, 90), gemmi.SpaceGroup(group))
    assert (found.lattice_type, found.centring, found.unique_axis) == expected
