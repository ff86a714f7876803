"""Good observations of many chunks as plain arrays; on disk where memory would not do."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = [
    "frame", "lattice", "h", "k", "l", "intensity", "sigma", "excitation_error", "excitation_sigma",
    "noise_variance", "flags",
]  # fmt: skip
MOST_IN_MEMORY = 40_000_000
"""Observations; more are kept in temporary files that the arrays are mapped from."""
LEAST_VARIANCE = 1.0
"""Photons²: not even an empty background is known better."""
LARGEST_LATTICE_NUMBER = 1 << 16


@dataclass(frozen=True)
class StoredObservations:
    """Observations in the order of their lattices; arrays of n_observations unless said otherwise."""

    offsets: NDArray[np.int64]
    """n_lattices + 1: lattice f owns the observations offsets[f] to offsets[f + 1] - 1."""
    hkl: NDArray[np.int16]
    """(n_observations, 3), as indexed."""
    intensity: NDArray[np.float32]
    noise_variance: NDArray[np.float32]
    excitation_error: NDArray[np.float32]
    """0 where unknown."""
    excitation_sigma: NDArray[np.float32]
    """Where unknown, the same everywhere."""

    def array(self, dtype: Any, *shape: int) -> NDArray[Any]:
        """A new array of zeros with a row per observation, where these are kept."""
        return new_array(dtype, len(self.intensity), *shape)


def new_array(dtype: Any, n: int, *shape: int) -> NDArray[Any]:
    """Zeros, in memory or mapped from a file without a name, which disappears with the array."""
    if n <= MOST_IN_MEMORY:
        return np.zeros((n, *shape), dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=(n, *shape))


class ObservationStore:
    """Arrays that are filled chunk by chunk."""

    def __init__(self, most: int) -> None:
        self.n = 0
        self.row = new_array(np.int32, most)
        self.arrays = {"hkl": new_array(np.int16, most, 3)} | {
            name: new_array(np.float32, most)
            for name in ("intensity", "noise_variance", "excitation_error", "excitation_sigma")
        }

    def add(
        self, table: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> None:
        """Append the good observations of a chunk.

        Parameters
        ----------
        table
            `COLUMNS` of its observations.
        rows : (n_lattices of the chunk,) array
            Rows of the chunk's lattices in the table of all, ascending.
        labels : (n_lattices of the chunk,) array
            Their `lattice_label`, ascending.
        """
        good = usable(table)
        theirs = lattice_label(table["frame"], table["lattice"])
        place = np.searchsorted(labels, theirs)
        if len(labels):
            good = good & (labels[np.minimum(place, len(labels) - 1)] == theirs)
        else:
            good = np.zeros(len(theirs), np.bool_)
        place, chosen = place[good], np.flatnonzero(good)
        if np.any(np.diff(place) < 0):
            order = np.argsort(place, kind="stable")
            place, chosen = place[order], chosen[order]
        own = slice(self.n, self.n + len(chosen))
        self.n += len(chosen)
        self.row[own] = rows[place]
        for i, name in enumerate("hkl"):
            self.arrays["hkl"][own, i] = table[name][chosen]
        for name in ("intensity", "noise_variance", "excitation_error", "excitation_sigma"):
            self.arrays[name][own] = table[name][chosen]

    def in_order(self, n_lattices: int) -> StoredObservations:
        """All of them, in the order of their lattices."""
        row = self.row[: self.n]
        arrays = {name: array[: self.n] for name, array in self.arrays.items()}
        if np.any(np.diff(row) < 0):  # frames of one chunk lie between those of another
            order = np.argsort(row, kind="stable")
            row, arrays = row[order], {name: array[order] for name, array in arrays.items()}
        offsets = np.searchsorted(row, np.arange(n_lattices + 1))
        return _without_unknown(StoredObservations(offsets, **arrays))


def lattice_label(frame: NDArray[np.integer], lattice: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number that stands for frame and lattice, ascending with both."""
    return frame.astype(np.int64) * LARGEST_LATTICE_NUMBER + lattice


def usable(table: Mapping[str, NDArray[Any]] | pd.DataFrame) -> NDArray[np.bool_]:
    """Which observations of a chunk's table may be merged."""
    flags, sigma, intensity = (np.asarray(table[name]) for name in ("flags", "sigma", "intensity"))
    return (flags == 0) & (sigma > 0) & np.isfinite(intensity)


def _without_unknown(stored: StoredObservations) -> StoredObservations:
    """Variances are positive; errors and widths that are not known do not matter."""
    error, sigma = stored.excitation_error, stored.excitation_sigma
    unknown = ~(np.isfinite(error) & (sigma > 0))
    np.maximum(stored.noise_variance, LEAST_VARIANCE, out=stored.noise_variance)
    if unknown.any():
        error[unknown] = 0.0
        sigma[unknown] = np.median(sigma[~unknown]) if not unknown.all() else 1.0
    return replace(stored, excitation_error=error, excitation_sigma=sigma)
