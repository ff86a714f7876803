import numpy as np
import pytest

from ssx_processing.kernels.cell_clusters import cluster_cells
from ssx_processing.kernels.cell_search import log10_chance_of_cell, propose_cell, reduced
from ssx_processing.kernels.lattice_comparison import (
    cell_of_metric,
    metric_of,
    multiple_of,
    reduced_metric,
    same_lattice,
)
from ssx_processing.kernels.lattice_type import lattice_type
from ssx_processing.kernels.unit_cell import cell_of, real_space
from tests.unit.kernels.spot_patterns import LATTICES, S0, SIGMA_Q, noise, primitive_b, stills


def another_basis(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same lattice in a basis that is far from reduced."""
    change = np.eye(3, dtype=int)
    for _ in range(5):
        i, j = rng.choice(3, 2, replace=False)
        change[i] += rng.integers(-1, 2) * change[j]
    return change @ vectors


@pytest.mark.parametrize("name", LATTICES)
def test_the_bravais_type_and_conventional_cell_come_back_from_a_distorted_primitive_cell(name, rng):
    cell, group = LATTICES[name]
    vectors = real_space(primitive_b(cell, group))
    for _ in range(10):
        distorted = vectors @ (np.eye(3) + rng.normal(scale=4e-4, size=(3, 3)))
        found = lattice_type(cell_of(real_space(reduced(another_basis(distorted, rng)))))
        assert found.bravais == name[:2]
        np.testing.assert_allclose(found.cell, cell, rtol=0.005)


@pytest.mark.parametrize("name", LATTICES)
def test_cells_of_one_lattice_are_the_same_in_whatever_basis_and_others_are_not(name, rng):
    vectors = real_space(primitive_b(*LATTICES[name]))
    first = reduced_metric(vectors @ vectors.T)
    other = another_basis(vectors * (1 + rng.normal(scale=0.003, size=3)), rng)
    second = reduced_metric(other @ other.T)
    basis = same_lattice(first, second)
    assert basis is not None
    assert abs(round(float(np.linalg.det(basis)))) == 1
    np.testing.assert_allclose(
        cell_of_metric(basis @ first @ basis.T)[:3], cell_of_metric(second)[:3], rtol=0.015
    )
    assert same_lattice(first, 1.1 * second) is None


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_lattice_with_one_axis_multiplied_is_a_multiple(n, rng):
    vectors = real_space(primitive_b(*LATTICES["mC"]))
    larger = another_basis(np.diag([1, n, 1]) @ another_basis(vectors, rng), rng)
    metric = reduced_metric(vectors @ vectors.T)
    assert multiple_of(reduced_metric(larger @ larger.T), metric) == n
    assert multiple_of(metric, reduced_metric(larger @ larger.T)) is None


def test_cells_that_are_the_same_gather_in_one_cluster(rng):
    first = real_space(primitive_b(*LATTICES["cF"]))  # its reduced cells are the least stable
    second = real_space(primitive_b(*LATTICES["tP"]))
    cells = [
        cell_of(real_space(reduced(vectors @ (np.eye(3) + rng.normal(scale=2e-3, size=(3, 3))))))
        for vectors, n in ((first, 30), (second, 12))
        for _ in range(n)
    ]
    order = rng.permutation(len(cells))
    clusters = cluster_cells([cells[i] for i in order])
    assert [len(cluster.members) for cluster in clusters] == [30, 12]
    assert {int(order[i]) for i in clusters[0].members} == set(range(30))
    np.testing.assert_allclose(np.linalg.det(clusters[0].metric), np.linalg.det(first) ** 2, rtol=0.01)


@pytest.mark.parametrize("name", ["mC", "oP", "tP"])
def test_the_primitive_cell_of_most_single_stills_is_found(name, rng):
    b = primitive_b(*LATTICES[name])
    metric = reduced_metric(real_space(b) @ real_space(b).T)
    right = 0
    for q in stills(b, 6, rng):
        proposal = propose_cell(q, S0, SIGMA_Q, 20.0, 350.0)
        right += proposal is not None and same_lattice(metric, metric_of(proposal.cell)) is not None
    assert right >= 5


def test_a_cell_twice_as_large_must_explain_more_to_be_as_significant(rng):
    b = primitive_b(*LATTICES["tP"])
    (q,) = stills(b, 1, rng)
    proposal = propose_cell(q, S0, SIGMA_Q, 20.0, 350.0)
    assert proposal is not None
    to_hkl = real_space(proposal.a_primitive)
    right, n = log10_chance_of_cell(q, S0, SIGMA_Q, to_hkl)
    doubled, n_doubled = log10_chance_of_cell(q, S0, SIGMA_Q, np.diag([2.0, 1.0, 1.0]) @ to_hkl)
    halved, n_halved = log10_chance_of_cell(q, S0, SIGMA_Q, np.diag([0.5, 1.0, 1.0]) @ to_hkl)
    assert right < doubled
    assert n_doubled >= n > n_halved
    assert right < halved


def test_noise_is_less_significant_than_any_cell_that_is_believed(rng):
    chances = []
    for n in (20, 40, 80, 150):
        for _ in range(2):
            proposal = propose_cell(noise(n, rng), S0, SIGMA_Q, 20.0, 350.0)
            chances.append(0.0 if proposal is None else -proposal.log10_e)
    assert max(chances) < 20.0
