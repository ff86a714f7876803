"""The two JSON files that ISPyB's SSX page draws from.

The page reads them through py-ispyb each time it is opened, so replacing them lets its numbers grow
while chunks arrive, without a write to the database. Spelling and completeness matter: with a key
missing or null, py-ispyb passes the whole file over in silence.
"""

import json
import math
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

STATS_NAME = "ssx_stats.json"
CELLS_NAME = "ssx_cells.json"


def write_ssx_stats(
    folder: Path, *, n_hits: int, n_indexed: int, lattice_type: str, estimated_resolution: float | None
) -> Path:
    """Write ssx_stats.json; returns its path.

    Parameters
    ----------
    folder
        Made if it is missing; ISPyB's server must see it under the same path.
    n_hits, n_indexed
        Frames. The page sums them over the data collections of a group.
    lattice_type
        Pearson's symbol, e.g. tP.
    estimated_resolution
        Å. None, where nothing was indexed, is written as 0 because null is not allowed.
    """
    resolution = 0.0 if estimated_resolution is None else float(estimated_resolution)
    if not math.isfinite(resolution):
        raise ValueError(f"estimated resolution is {resolution}; give Å, or None where it is not known")
    if not 0 <= n_indexed <= n_hits:
        raise ValueError(f"{n_indexed} indexed frames of {n_hits} hits; are the two interchanged?")
    content = {
        "nbHits": int(n_hits),
        "nbIndexed": int(n_indexed),
        "laticeType": str(lattice_type),  # py-ispyb's spelling
        "estimatedResolution": resolution,
    }
    return _replace_json(folder / STATS_NAME, content)


def write_ssx_cells(folder: Path, cells: Iterable[Sequence[float]]) -> Path:
    """Write ssx_cells.json; returns its path.

    Parameters
    ----------
    folder
        Made if it is missing.
    cells : (n, 6) values
        a, b, c in Å, alpha, beta, gamma in degrees of each lattice.
    """
    rows = [[round(float(value), 4) for value in cell] for cell in cells]
    wrong = [row for row in rows if len(row) != 6 or not all(map(math.isfinite, row))]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(rows)} cells are not six finite numbers, the first is {wrong[0]}"
        )
    return _replace_json(folder / CELLS_NAME, {"unit_cells": rows})


def _replace_json(path: Path, content: dict[str, Any]) -> Path:
    """Write under another name first, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.write_text(json.dumps(content, allow_nan=False))
    temporary.replace(path)
    return path
