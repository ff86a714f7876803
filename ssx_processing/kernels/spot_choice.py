"""Which spots of a frame are offered to the search, and which of them are paired."""

import numpy as np
from numpy.typing import NDArray

LOW_ANGLE_CHOICE = 30
"""Spots of lowest angle among which those to pair are chosen."""


def strongest_by_resolution(
    q: NDArray[np.float64], snr: NDArray[np.float64], n_most: int
) -> NDArray[np.int64]:
    """Indices of at most ``n_most`` spots: the strongest of each of five ranges of |q|, ascending."""
    if len(q) <= n_most:
        return np.arange(len(q))
    order = np.argsort(np.einsum("ij,ij->i", q, q))
    chosen = [part[np.argsort(-snr[part])[: n_most // 5]] for part in np.array_split(order, 5)]
    return np.sort(np.concatenate(chosen))


def pair_seeds(q: NDArray[np.float64], snr: NDArray[np.float64], n_most: int) -> NDArray[np.int64]:
    """Spots worth pairing: the strongest at low angle, outside the beam stop's halo, ascending in |q|.

    Parameters
    ----------
    q : (n, 3) array
        Spots, ascending in length.
    """
    outside = np.flatnonzero(np.einsum("ij,ij->i", q, q) > 0.04**2)[:LOW_ANGLE_CHOICE]
    if len(outside) < 3:
        outside = np.arange(min(len(q), LOW_ANGLE_CHOICE))
    return np.sort(outside[np.argsort(-snr[outside], kind="stable")[:n_most]])
