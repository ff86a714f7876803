"""A first guess at the settings of some lattices, from all their correlations with each other at once.

Each lattice in each of its K settings is a sparse vector over the unique reflections. The leading
eigenvectors of the matrix of all their products, less what the settings of one lattice have in
common, separate the settings: the embedding of Brehm & Diederichs (2014), Acta Cryst. D70, 101-109,
with all K settings of a lattice in it. The matrix itself is never made.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.setting_scores import SettingObservations

if TYPE_CHECKING:
    from scipy.sparse import csr_array

N_ANCHORS = 4
"""So many lattices in turn say what the settings of the others are called."""
_DENSE_BELOW = 40  # eigh of larger ones would start threads
_TOLERANCE = 1e-3


def guessed_settings(
    observations: SettingObservations, n_unique: int, composition: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Settings of the lattices, (n_lattices,) arrays; several guesses, each up to renaming all settings.

    Where some renaming breaks the symmetry of the merged reflections (P 4 in a nearly cubic lattice: only
    one of three axes is the fourfold one), every name that an anchor can have is guessed.

    Parameters
    ----------
    composition : (K, K) array
        From `ssx_processing.kernels.reindexing.composition_table`.
    """
    names = range(1) if (composition >= 0).all() else range(len(composition))
    n, k = observations.n_lattices, observations.n_operators
    vectors = _leading_vectors(observations, n_unique)
    vectors = vectors.reshape(n, k, -1)
    strength = np.einsum("nkm,nkm->n", vectors, vectors)
    for anchor in np.argsort(-strength, kind="stable")[:N_ANCHORS]:
        for name in names:
            yield np.argmax(vectors @ vectors[anchor, name], axis=1).astype(np.int64)


def _leading_vectors(observations: SettingObservations, n_unique: int) -> NDArray[np.float64]:
    """(n_lattices K, m) eigenvectors times the roots of their eigenvalues, those that are positive."""
    n, k = observations.n_lattices, observations.n_operators
    rows, own = _sparse_rows(observations, n_unique), _own_products(observations, n_unique)
    size = n * k

    def centred(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = x.reshape(n, k)
        return x - x.mean(axis=1, keepdims=True)

    def product(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = centred(x)
        others = (rows @ (rows.T @ x.ravel())).reshape(n, k) - np.einsum("nij,nj->ni", own, x)
        return centred(others).ravel()

    wanted = min(k - 1, size - 1)
    if size <= _DENSE_BELOW:
        dense = np.stack([product(column) for column in np.eye(size)], axis=1)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
        values, vectors = values[-wanted:], vectors[:, -wanted:]
    else:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh  # long to import

        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        start = np.random.default_rng(0).normal(size=size)
        try:
            values, vectors = eigsh(operator, k=wanted, which="LA", v0=start, tol=_TOLERANCE)  # pyright: ignore[reportArgumentType]
        except ArpackNoConvergence as error:  # those that did converge are as good a guess
            values, vectors = error.eigenvalues, error.eigenvectors
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _sparse_rows(o: SettingObservations, n_unique: int) -> "csr_array":
    """(n_lattices K, n_unique) weighted amplitudes of unit length."""
    from scipy.sparse import csr_array

    k = o.n_operators
    x = o.weight * o.value
    sizes = np.diff(o.offsets)
    lattice = np.repeat(np.arange(o.n_lattices), sizes)
    length = np.sqrt(np.bincount(lattice, x * x, o.n_lattices))
    x = x / np.where(length > 0, length, 1.0)[lattice]
    row = lattice[:, None] * k + np.arange(k)
    return csr_array((np.repeat(x, k), (row.ravel(), o.uid.ravel())), shape=(o.n_lattices * k, n_unique))


def _own_products(o: SettingObservations, n_unique: int) -> NDArray[np.float64]:
    """(n_lattices, K, K) products of the rows of one lattice."""
    return _own(o.offsets, o.uid, o.weight * o.value, n_unique)


@njit(cache=True, nogil=True)
def _own(offsets, uid, x, n_unique):
    n_lattices, n_operators = len(offsets) - 1, uid.shape[1]
    products, row = np.zeros((n_lattices, n_operators, n_operators)), np.zeros(n_unique)
    for f in range(n_lattices):
        length = 0.0
        for i in range(offsets[f], offsets[f + 1]):
            length += x[i] * x[i]
        if length <= 0:
            continue
        for k in range(n_operators):
            for i in range(offsets[f], offsets[f + 1]):
                row[uid[i, k]] += x[i]
            for j in range(n_operators):
                for i in range(offsets[f], offsets[f + 1]):
                    products[f, k, j] += row[uid[i, j]] * x[i] / length
            for i in range(offsets[f], offsets[f + 1]):
                row[uid[i, k]] = 0.0
    return products
