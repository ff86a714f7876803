"""Unmerged MTZ files: as gemmi and iotbx read them back."""

import json
import subprocess
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.errors import SettingsError
from ssx_processing.formats.unmerged_mtz_writer import (
    MAX_BATCHES,
    TO_CAMBRIDGE,
    BatchLattice,
    UnmergedIntensities,
    in_asymmetric_unit,
    orientation_and_cell,
    write_unmerged_mtz,
)
from ssx_processing.models import UnitCell

CELL: UnitCell = (50.0, 50.0, 62.0, 90.0, 90.0, 90.0)
SPACE_GROUP = "P 43 21 2"


def busing_levy(cell: UnitCell) -> np.ndarray:
    """B of Busing & Levy (1967), equation 3, which MTZ batch headers mean: a* along x."""
    own, reciprocal = gemmi.UnitCell(*cell), gemmi.UnitCell(*cell).reciprocal()
    cos_beta, cos_gamma = np.cos(np.deg2rad([reciprocal.beta, reciprocal.gamma]))
    sin_beta, sin_gamma = np.sin(np.deg2rad([reciprocal.beta, reciprocal.gamma]))
    return np.array(
        [
            [reciprocal.a, reciprocal.b * cos_gamma, reciprocal.c * cos_beta],
            [0, reciprocal.b * sin_gamma, -reciprocal.c * sin_beta * np.cos(np.deg2rad(own.alpha))],
            [0, 0, 1 / own.c],
        ]
    )


@pytest.fixture
def lattices() -> list[BatchLattice]:
    turns = Rotation.random(3, rng=np.random.default_rng(1)).as_matrix()
    cells = [(50.0 + i, 50.0 + i, 62.0, 90.0, 90.0, 90.0) for i in range(3)]
    b_matrices = [busing_levy(cell) for cell in cells]
    return [
        BatchLattice(u @ b, f"chip.h5 frame {i}")
        for i, (u, b) in enumerate(zip(turns, b_matrices, strict=True))
    ]


@pytest.fixture
def observations(rng: np.random.Generator) -> UnmergedIntensities:
    n = 600
    hkl = rng.integers(-9, 10, (n, 3))
    hkl = hkl[np.abs(hkl).sum(axis=1) > 0]
    n = len(hkl)
    raw, scale = rng.normal(100, 50, n), rng.uniform(0.5, 2, n)
    return UnmergedIntensities(
        hkl=hkl,
        lattice=np.sort(rng.integers(0, 3, n)),
        intensity=raw * scale,
        sigma=rng.uniform(1, 20, n),
        raw_intensity=raw,
        raw_sigma=rng.uniform(1, 10, n),
        scale=scale,
        partiality=rng.uniform(0.1, 1, n),
        x_px=rng.uniform(0, 1028, n),
        y_px=rng.uniform(0, 1062, n),
        excitation_error=rng.normal(0, 1e-4, n),
    )


@pytest.fixture
def written(observations: UnmergedIntensities, lattices: list[BatchLattice], tmp_path: Path) -> Path:
    path = tmp_path / "a.mtz"
    write_unmerged_mtz(
        path, observations, lattices, unit_cell=CELL, space_group=SPACE_GROUP, wavelength=0.9763,
        image_shape=(1062, 1028), history=["merge 0123456789abcdef"],
    )  # fmt: skip
    return path


def rows(hkl: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    table = np.column_stack([hkl, *columns])
    return table[np.lexsort(table.T)]


def test_observations_come_back_with_the_indices_they_were_measured_with(
    written: Path, observations: UnmergedIntensities
):
    mtz = gemmi.read_mtz_file(str(written))
    assert mtz.switch_to_original_hkl()
    data = dict(zip(mtz.column_labels(), np.array(mtz).T, strict=True))
    found = rows(mtz.make_miller_array(), *(data[name] for name in ("BATCH", "I", "SIGI", "IRAW", "SIGIRAW")))
    kept = (observations.intensity, observations.sigma, observations.raw_intensity, observations.raw_sigma)
    singles = [values.astype(np.float32) for values in kept]
    expected = rows(observations.hkl, observations.lattice + 1, *singles)
    assert np.allclose(found, expected, rtol=1e-6)
    assert np.allclose(data["IRAW"] * data["SCALEUSED"], data["I"], rtol=1e-5)


def test_reflections_are_in_the_asymmetric_unit_and_sorted(written: Path):
    mtz = gemmi.read_mtz_file(str(written))
    asu, hkl = gemmi.ReciprocalAsu(gemmi.SpaceGroup(SPACE_GROUP)), mtz.make_miller_array()
    assert all(asu.is_in(index) for index in hkl.tolist())
    table = np.array(mtz)[:, :5]
    assert np.array_equal(table, table[np.lexsort(table.T[::-1])])
    assert list(mtz.sort_order) == [1, 2, 3, 4, 5]


def test_a_batch_header_holds_orientation_and_cell_of_its_lattice(
    written: Path, lattices: list[BatchLattice]
):
    mtz = gemmi.read_mtz_file(str(written))
    assert [batch.number for batch in mtz.batches] == [1, 2, 3]
    for batch, lattice in zip(mtz.batches, lattices, strict=True):
        u_matrix = np.reshape([batch.floats[i] for i in range(6, 15)], (3, 3)).T
        a_matrix = TO_CAMBRIDGE.T @ u_matrix @ busing_levy(batch.cell.parameters)
        assert np.allclose(a_matrix, lattice.a_matrix, atol=1e-7)
        assert np.linalg.det(u_matrix) == pytest.approx(1, abs=1e-5)
        assert batch.wavelength == pytest.approx(0.9763)
        assert batch.title.removeprefix("TITLE ").strip() == lattice.title  # gemmi keeps the keyword
    assert mtz.batches[2].cell.a == pytest.approx(52.0)


def test_the_beam_travels_along_x_of_the_cambridge_frame():
    assert (TO_CAMBRIDGE @ [0, 0, -1]).tolist() == [1, 0, 0]
    assert np.linalg.det(TO_CAMBRIDGE) == pytest.approx(1)


@pytest.mark.parametrize(
    "cell", [CELL, (93.0, 93.0, 131.0, 90.0, 90.0, 120.0), (40.0, 50.0, 60.0, 80.0, 85.0, 95.0)]
)
def test_orientation_and_cell_are_taken_apart(cell: UnitCell):
    turn = Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    u_matrix, found = orientation_and_cell(turn @ busing_levy(cell))
    assert np.allclose(u_matrix, turn)
    assert found == pytest.approx(cell)


@pytest.mark.parametrize("name", ["P 63", "C 1 2 1", "R 3 :H", "I 2 3"])
def test_isym_tells_the_operator_that_led_there(name: str, rng: np.random.Generator):
    group = gemmi.SpaceGroup(name)
    hkl = rng.integers(-6, 7, (200, 3))
    moved, isym = in_asymmetric_unit(hkl, group)
    operators = group.operations().sym_ops
    for before, after, number in zip(hkl.tolist(), moved.tolist(), isym.tolist(), strict=True):
        sign = 1 if number % 2 else -1
        assert [sign * index for index in operators[(number - 1) // 2].apply_to_hkl(before)] == after


def test_more_lattices_than_batch_numbers_are_refused(observations: UnmergedIntensities, tmp_path: Path):
    too_many = [BatchLattice(np.eye(3), "")] * (MAX_BATCHES + 1)
    with pytest.raises(SettingsError, match="999999 batches at most, got 1000000 lattices"):
        write_unmerged_mtz(
            tmp_path / "a.mtz", observations, too_many, unit_cell=CELL, space_group=SPACE_GROUP,
            wavelength=1.0, image_shape=(10, 10),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


READ_BY_IOTBX = """
import json, sys
from iotbx import mtz, reflection_file_reader
from iotbx.merging_statistics import select_data
content = mtz.object(sys.argv[1])
chosen = select_data(sys.argv[1], None)  # asks if it cannot tell which intensities are meant
batch = content.batches()[1]
print(json.dumps({
    "label": chosen.info().label_string(), "n": chosen.size(), "sum": sum(chosen.data()),
    "original": sorted(list(content.extract_original_index_miller_indices())),
    "cell": list(batch.cell()), "umat": list(batch.umat()), "beam": list(batch.so()),
    "wavelength": batch.alambd(),
    "space_group": str(content.space_group_info()),
}))
"""


def test_iotbx_reads_intensities_original_indices_and_batches(
    written: Path, observations: UnmergedIntensities, lattices: list[BatchLattice], dxtbx_python: str
):
    command = [dxtbx_python, "-c", READ_BY_IOTBX, str(written)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["label"] == "I,SIGI"
    assert found["space_group"] == SPACE_GROUP
    assert found["n"] == len(observations.hkl)
    assert found["sum"] == pytest.approx(observations.intensity.sum(), rel=1e-5)
    assert found["original"] == sorted(observations.hkl.tolist())
    assert found["cell"] == pytest.approx((51, 51, 62, 90, 90, 90), rel=1e-6)
    u_matrix = np.reshape(found["umat"], (3, 3)).T
    assert np.allclose(u_matrix, orientation_and_cell(TO_CAMBRIDGE @ lattices[1].a_matrix)[0], atol=1e-6)
    assert found["beam"] == [-1, 0, 0]
    assert found["wavelength"] == pytest.approx(0.9763)
