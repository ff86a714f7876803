"""Good observations of many chunks as plain arrays; on disk where memory would not do."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssx_processing.formats.prepared_chunk import MEASURED, ChunkObservations
from ssx_processing.formats.scratch_arrays import new_array
from ssx_processing.kernels.integration_table import REJECTED_FLAGS

COLUMNS = [
    "frame", "lattice", "h", "k", "l", "intensity", "sigma", "excitation_error", "excitation_sigma",
    "noise_variance", "flags",
]  # fmt: skip
LEAST_VARIANCE = 1.0
"""Photons²: not even an empty background is known better."""
LARGEST_LATTICE_NUMBER = 1 << 16


_PART = 1 << 19  # observations looked at together
COPIES_AT_ONCE = 2
_TYPICAL = 1_000_000  # observations that say what is typical


@dataclass(frozen=True)
class StoredObservations:
    """Observations in the order of their lattices; arrays of n_observations unless said otherwise."""

    offsets: NDArray[np.int64]
    """n_lattices + 1: lattice f owns the observations offsets[f] to offsets[f + 1] - 1."""
    new_array: Callable[..., NDArray[Any]]
    """Gives further arrays; arguments as of `scratch_arrays.new_array` but for the folder."""
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
        return self.new_array(dtype, len(self.intensity), *shape)


def parts_of(offsets: NDArray[np.int64]) -> list[slice]:
    """Slices of the observations: some hundred thousand each, of whole lattices."""
    cuts = offsets[np.searchsorted(offsets, np.arange(0, offsets[-1], _PART))]
    return [slice(start, stop) for start, stop in pairwise(np.unique([0, *cuts, offsets[-1]]).tolist())]


def lattices_of(offsets: NDArray[np.int64], part: slice) -> NDArray[np.int64]:
    """Lattice of each observation of a part."""
    own = lattice_range(offsets, part)
    return np.repeat(np.arange(own.start, own.stop), np.diff(offsets[own.start : own.stop + 1]))


def lattice_range(offsets: NDArray[np.int64], part: slice) -> slice:
    """Lattices whose observations are a part."""
    first, last = np.searchsorted(offsets, [part.start, part.stop], side="right") - 1
    return slice(int(first), int(last))


class ObservationStore:
    """Arrays that are filled chunk by chunk.

    Parameters
    ----------
    most
        Observations that will be added, at most.
    n_lattices
        Of all chunks.
    scratch
        Folder for temporary files.
    threads
        Copy the observations: half the time of it goes into pages of memory seen for the first time.
    """

    def __init__(self, most: int, n_lattices: int, scratch: Path, threads: Executor) -> None:
        self.n, self.some_unknown, self.new_array = 0, False, partial(new_array, scratch)
        self.first, self.count = np.zeros(n_lattices, np.int64), np.zeros(n_lattices, np.int64)
        self.arrays = {"hkl": self.new_array(np.int16, most, 3)} | {
            name: self.new_array(np.float32, most) for name in MEASURED
        }
        self.threads, self.copying = threads, deque[Future[None]]()

    def add(self, observations: ChunkObservations, rows: NDArray[np.int64]) -> None:
        """Append the observations of a chunk.

        Parameters
        ----------
        rows : (n_lattices of the chunk,) array
            Rows of the chunk's lattices in the table of all, ascending.
        """
        count = observations.count
        self.first[rows], self.count[rows] = self.n + np.cumsum(count) - count, count
        own = slice(self.n, self.n + len(observations.intensity))
        self.n = own.stop
        if len(self.copying) > COPIES_AT_ONCE:
            self.copying.popleft().result()
        self.copying.append(self.threads.submit(self._copy, observations, own))

    def _copy(self, observations: ChunkObservations, own: slice) -> None:
        self.arrays["hkl"][own] = observations.hkl
        for name in MEASURED:
            self.arrays[name][own] = getattr(observations, name)
        if np.isnan(observations.excitation_sigma).any():
            self.some_unknown = True

    def in_order(self) -> StoredObservations:
        """All of them, in the order of their lattices; the store is empty afterwards."""
        for copy in self.copying:
            copy.result()
        offsets = np.concatenate([[0], np.cumsum(self.count)])
        if np.any((self.first != offsets[:-1]) & (self.count > 0)):  # chunks whose frames interlock
            for name in self.arrays:
                self.arrays[name] = self._sorted(self.arrays[name], offsets)
        arrays = {name: array[: self.n] for name, array in self.arrays.items()}
        self.arrays = {}
        stored = StoredObservations(offsets, self.new_array, **arrays)
        return _without_unknown(stored) if self.some_unknown else stored

    def _sorted(self, array: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[Any]:
        new, move = self.new_array(array.dtype, self.n, *array.shape[1:]), self.first - offsets[:-1]
        for part in parts_of(offsets):
            rows = np.arange(part.start, part.stop) + move[lattices_of(offsets, part)]
            new[part] = array[rows]
        return new


def good_observations(table: Mapping[str, NDArray[Any]], labels: NDArray[np.int64]) -> ChunkObservations:
    """Those of a chunk that may be merged, in the order of its lattices.

    Parameters
    ----------
    table
        `COLUMNS` of its observations.
    labels : (n_lattices of the chunk,) array
        `lattice_label` of its lattices, ascending.
    """
    place = _places(labels, lattice_label(table["frame"], table["lattice"]))
    chosen = np.flatnonzero(usable(table) & (place >= 0))
    place = place[chosen]
    if np.any(np.diff(place) < 0):
        order = np.argsort(place, kind="stable")
        place, chosen = place[order], chosen[order]
    noise, error, sigma = (
        table[name][chosen].astype(np.float32)
        for name in ("noise_variance", "excitation_error", "excitation_sigma")
    )
    unknown = ~(np.isfinite(error) & (sigma > 0))
    return ChunkObservations(
        count=np.bincount(place, minlength=len(labels)),
        hkl=np.stack([table[name][chosen].astype(np.int16) for name in "hkl"], axis=1),
        intensity=table["intensity"][chosen].astype(np.float32),
        noise_variance=np.maximum(noise, np.float32(LEAST_VARIANCE)),
        excitation_error=np.where(unknown, np.float32(0.0), error),
        excitation_sigma=np.where(unknown, np.float32(np.nan), sigma),
    )


def _places(known: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each number among the ascending known ones, -1 where it is not there.

    Equal numbers mostly follow each other, so each run of them is looked up once.
    """
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    own = numbers[starts]
    place = np.searchsorted(known, own)
    place[np.append(known, -1)[place] != own] = -1
    return np.repeat(place, np.diff(starts, append=len(numbers)))


def lattice_label(frame: NDArray[np.integer], lattice: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number that stands for frame and lattice, ascending with both."""
    return frame.astype(np.int64) * LARGEST_LATTICE_NUMBER + lattice


def usable(table: Mapping[str, NDArray[Any]] | pd.DataFrame) -> NDArray[np.bool_]:
    """Which observations of a chunk's table may be merged."""
    flags, sigma, intensity = (np.asarray(table[name]) for name in ("flags", "sigma", "intensity"))
    return (flags & REJECTED_FLAGS == 0) & (sigma > 0) & np.isfinite(intensity)


def _without_unknown(stored: StoredObservations) -> StoredObservations:
    """Widths that are not known do not matter."""
    typical = _typical_width(stored)
    for part in parts_of(stored.offsets):
        width = stored.excitation_sigma[part]
        width[np.isnan(width)] = typical
    return stored


def _typical_width(stored: StoredObservations) -> float:
    """Median width of the first million observations that have one; 1 if none has."""
    found, n = [np.empty(0, np.float32)], 0
    for part in parts_of(stored.offsets):
        width = stored.excitation_sigma[part]
        found.append(width[~np.isnan(width)])
        n += len(found[-1])
        if n >= _TYPICAL:
            break
    return float(np.median(np.concatenate(found)[:_TYPICAL])) if n else 1.0
