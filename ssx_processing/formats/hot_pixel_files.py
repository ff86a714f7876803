"""Hot pixels that chunks found, where chunks that start later read them."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.chunk_folder import write_json


def publish_hot_pixels(folder: Path, name: str, pixels: NDArray[np.integer]) -> None:
    """Write ``<name>.json`` into ``folder``, whole or not at all.

    Parameters
    ----------
    pixels : (n, 2) array
        Row (slow) and column (fast) of each.
    """
    write_json(folder / f"{name}.json", {"slow_fast": pixels.tolist()})


def published_hot_pixels(folder: Path) -> NDArray[np.int64]:
    """(n, 2) array: row and column of all hot pixels published in ``folder``, each once, in order.

    A file that cannot be read is left out: a hot pixel more or less is no reason to stop.
    """
    pixels = {pixel for path in folder.glob("*.json") for pixel in _pixels_in(path)}
    return np.array(sorted(pixels), np.int64).reshape(-1, 2)


def _pixels_in(path: Path) -> list[tuple[int, int]]:
    try:
        return [(int(slow), int(fast)) for slow, fast in json.loads(path.read_text())["slow_fast"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
