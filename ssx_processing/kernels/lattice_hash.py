"""Chance that depends on neither order nor company: numbers drawn from what a lattice is."""

import numpy as np
from numpy.typing import NDArray


def lattice_hash(
    file_hash: NDArray[np.uint64], frame: NDArray[np.int64], lattice: NDArray[np.int64], *, salt: int = 0
) -> NDArray[np.uint64]:
    """Well mixed number for each lattice; another salt gives numbers that know nothing of the first.

    Parameters
    ----------
    file_hash : (n_lattices,) array
        Any number that stands for the data set or file.

    Examples
    --------
    >>> none = np.zeros(2, np.uint64)
    >>> [hex(int(x) >> 48) for x in lattice_hash(none, np.arange(2), np.zeros(2, np.int64), salt=1)]
    ['0xb18a', '0x5775']
    """
    mixed = splitmix(file_hash.astype(np.uint64) ^ np.uint64(salt))
    for number in (frame, lattice):
        mixed = splitmix(mixed ^ number.astype(np.uint64))
    return mixed


def random_halves(
    file_hash: NDArray[np.uint64], frame: NDArray[np.int64], lattice: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Half, 0 or 1, of each lattice; parameters as of `lattice_hash`.

    Examples
    --------
    >>> random_halves(np.zeros(6, np.uint64), np.arange(6), np.zeros(6, np.int64)).tolist()
    [0, 0, 1, 0, 0, 0]
    """
    return (lattice_hash(file_hash, frame, lattice) >> np.uint64(63)).astype(np.uint8)


def random_subset(hashes: NDArray[np.uint64], n_first: int) -> NDArray[np.bool_]:
    """Which lattices are drawn for a subset of ``n_first``: those with the smallest hashes.

    Examples
    --------
    >>> random_subset(np.array([7, 3, 9, 1], np.uint64), 2).tolist()
    [False, True, False, True]
    """
    first = np.zeros(len(hashes), np.bool_)
    first[np.argsort(hashes, kind="stable")[:n_first]] = True
    return first


def splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Well mixed bits: output function of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA '14, 453)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
