"""What a merge needs of a chunk in one file, which is read in a fraction of the time that its tables take.

The file is a zip archive without compression, so each part has a check sum and damage is noticed.
"""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssx_processing.formats.whole_file import whole_file

DAMAGE = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, OverflowError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a damaged file may raise."""


@dataclass(frozen=True)
class ChunkTables:
    """All of a chunk but its observations."""

    frames: pa.Table
    lattices: pa.Table


@dataclass(frozen=True)
class ChunkObservations:
    """Good observations of a chunk in the order of its lattices' frames and numbers."""

    count: NDArray[np.int64]
    """(n_lattices,) how many each lattice has."""
    hkl: NDArray[np.int16]
    """(n, 3) as indexed."""
    intensity: NDArray[np.float32]
    noise_variance: NDArray[np.float32]
    excitation_error: NDArray[np.float32]
    """0 where unknown."""
    excitation_sigma: NDArray[np.float32]
    """nan where unknown."""


MEASURED = ("intensity", "noise_variance", "excitation_error", "excitation_sigma")


def read_prepared_tables(path: Path) -> tuple[ChunkTables, int] | None:
    """Tables, and the number of good observations; None without a file that is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            frames, lattices = (
                pa.ipc.open_stream(archive.read(name)).read_all() for name in ("frames", "lattices")
            )
            return ChunkTables(frames, lattices), int(_count(archive).sum())
    except DAMAGE:
        return None


def read_prepared_observations(path: Path) -> ChunkObservations | None:
    """Good observations; None without a file that is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            count = _count(archive)
            measured = np.frombuffer(archive.read("measured"), "<f4").reshape(len(MEASURED), count.sum())
            hkl = np.frombuffer(archive.read("hkl"), "<i2").reshape(count.sum(), 3)
            return ChunkObservations(count, hkl, **dict(zip(MEASURED, measured, strict=True)))
    except DAMAGE:
        return None


def write_prepared(path: Path, tables: ChunkTables, observations: ChunkObservations) -> None:
    """Write the file, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    OSError
        It cannot be written.
    """
    measured = np.stack([getattr(observations, name) for name in MEASURED])
    parts = {
        "frames": _stream(tables.frames),
        "lattices": _stream(tables.lattices),
        "count": observations.count.astype("<i8").tobytes(),
        "measured": measured.astype("<f4").tobytes(),
        "hkl": observations.hkl.astype("<i2").tobytes(),
    }
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _count(archive: zipfile.ZipFile) -> NDArray[np.int64]:
    return np.frombuffer(archive.read("count"), "<i8").astype(np.int64)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()
