import numpy as np
import pytest

from ssx_processing.kernels.cell_populations import cell_populations


def tetragonal(a: float, c: float, n: int, rng: np.random.Generator, sigma: float = 0.002) -> np.ndarray:
    lengths = a * (1 + sigma * rng.normal(size=n)), c * (1 + sigma * rng.normal(size=n))
    return np.column_stack([lengths[0], lengths[0], lengths[1], np.full((n, 3), 90.0)])


@pytest.mark.parametrize("n", [15, 30, 100, 500, 2000])
def test_one_population_stays_one(n):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        triclinic = np.array([60.0, 80.0, 120.0, 85.0, 100.0, 95.0])
        for cells in (
            tetragonal(79.1, 37.9, n, rng),
            triclinic * (1 + 0.003 * rng.normal(size=(n, 6))),
            tetragonal(79.1, 37.9, n, rng, sigma=1e-6),
        ):
            assert cell_populations(cells).max() == 1


def test_a_distance_that_varies_from_crystal_to_crystal_makes_no_second_population(rng):
    cells = tetragonal(79.1, 37.9, 800, rng, sigma=0.0005)
    cells[:, :3] *= (1 + 0.004 * rng.exponential(size=800))[:, None]
    assert cell_populations(cells).max() == 1


@pytest.mark.parametrize(("n", "separation"), [(2000, 4.5), (500, 5.0), (100, 7.0)])
def test_two_forms_are_told_apart_four_to_one(n, separation):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        minor = n // 5
        cells = np.concatenate(
            [
                tetragonal(79.1, 37.9, n - minor, rng),
                tetragonal(79.1 * (1 - 0.002 * separation), 37.9, minor, rng),
            ]
        )
        label = cell_populations(cells)
        assert label.max() == 2
        assert (label[: n - minor] == 1).mean() > 0.95
        assert (label[n - minor :] == 2).mean() > 0.9


def test_three_forms_are_numbered_by_size(rng):
    forms = [tetragonal(a, c, n, rng) for a, c, n in ((79.1, 37.9, 60), (77.2, 38.4, 200), (75.0, 39.0, 100))]
    label = cell_populations(np.concatenate(forms))
    assert [int(np.median(part)) for part in np.split(label, [60, 260])] == [3, 1, 2]


def test_a_cell_far_from_all_belongs_to_none(rng):
    cells = np.concatenate([tetragonal(79.1, 37.9, 300, rng), tetragonal(70.0, 45.0, 1, rng)])
    label = cell_populations(cells)
    assert label[-1] == 0
    assert (label[:-1] == 1).mean() > 0.99


def test_no_cells_have_no_populations():
    assert cell_populations(np.empty((0, 6))).tolist() == []
