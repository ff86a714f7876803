"""Merged reflections as CrystFEL's reflection list (.hkl), version 2.0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError

FIRST_LINE = "CrystFEL reflection list version 2.0"
END = "End of reflections"
COLUMNS = "   h    k    l          I    phase   sigma(I)   nmeas"
SIGNIFICANT_DIGITS = 3
"""Of the median sigma, kept at least: CrystFEL's two decimals are too few for some photons."""


@dataclass(frozen=True)
class HklList:
    """Merged reflections; arrays of n elements."""

    symmetry: str
    """Point group in CrystFEL's words."""
    hkl: NDArray[np.integer]
    """(n, 3)."""
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    n: NDArray[np.integer]
    """Observations merged."""
    notes: tuple[str, ...] = ()
    """Lines behind the reflections."""


def write_hkl(path: Path, merged: HklList) -> Path:
    """Write a reflection list; phases are not known.

    Parameters
    ----------
    merged
        Only reflections of which intensity and sigma are finite are written.
    """
    known = np.isfinite(merged.intensity) & np.isfinite(merged.sigma)
    columns = [*merged.hkl[known].T, merged.intensity[known], merged.sigma[known], merged.n[known]]
    decimals = _decimals(merged.sigma[known])
    row = f"%4i %4i %4i %10.{decimals}f        - %10.{decimals}f %7i\n"
    rows = "".join(row % values for values in zip(*(column.tolist() for column in columns), strict=True))
    head = f"{FIRST_LINE}\nSymmetry: {merged.symmetry}\n{COLUMNS}\n"
    path.write_text(head + rows + "\n".join([END, *merged.notes]) + "\n")
    return path


def _decimals(sigma: NDArray[np.float64]) -> int:
    """Decimals that leave the median its significant digits; at least two.

    Examples
    --------
    >>> _decimals(np.array([120.0])), _decimals(np.array([0.034]))
    (2, 4)
    """
    positive = sigma[sigma > 0]
    if not len(positive):
        return 2
    return max(2, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(float(np.median(positive)))))


def read_hkl(path: Path) -> HklList:
    """Read a reflection list.

    Raises
    ------
    ChunkError
        It is none of version 2.0, has a line that cannot be understood, or no end.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ChunkError(f"{path}: {error.strerror or error}; name a CrystFEL reflection list") from error
    lines = text.split(b"\n", 3)
    if lines[0].strip().decode(errors="replace") != FIRST_LINE or len(lines) < 4:
        raise ChunkError(f"{path}: does not begin with {FIRST_LINE!r}; name a CrystFEL reflection list")
    body = lines[3]
    end = body.find(END.encode())
    if end < 0:
        raise ChunkError(f"{path}: has no {END!r}: it was cut; write it again")
    words = body[:end].split()
    if len(words) % 7:
        raise ChunkError(f"{path}: has {len(words)} columns in all, expected 7 for each reflection")
    try:
        numbers = np.array(words).reshape(-1, 7)[:, [0, 1, 2, 3, 5, 6]].astype(float)  # no phases
    except ValueError as error:
        raise ChunkError(f"{path}: {error}; expected numbers in all columns but phase") from error
    return HklList(
        symmetry=lines[1].decode(errors="replace").partition(":")[2].strip(),
        hkl=numbers[:, :3].astype(np.int32),
        intensity=numbers[:, 3],
        sigma=numbers[:, 4],
        n=numbers[:, 5].astype(np.int64),
        notes=_notes(body[end:]),
    )


def _notes(text: bytes) -> tuple[str, ...]:
    lines: Sequence[str] = text.decode(errors="replace").splitlines()
    return tuple(line for line in lines[1:] if line)
