"""Arrays with a row per observation: in memory, or in temporary files where they would not fit."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import MergeError

MOST_IN_MEMORY = 40_000_000
"""Rows; larger arrays are mapped from temporary files. All arrays of a merge take some 60 bytes a row."""


def new_array(scratch: Path, dtype: Any, n: int, *shape: int) -> NDArray[Any]:
    """Zeros, in memory or mapped from a file without a name in ``scratch``, which disappears with the array.

    Raises
    ------
    MergeError
        There is no room for the file.
    """
    if n <= MOST_IN_MEMORY:
        return np.zeros((n, *shape), dtype)
    size = np.dtype(dtype).itemsize * n * int(np.prod(shape))
    with tempfile.TemporaryFile(dir=scratch) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # or a full disk would kill the process later
        except OSError as error:
            raise MergeError(
                f"{scratch}: no room for a temporary file of {size / 1e9:.1f} GB for {n} observations "
                f"({error.strerror}); a merge needs about 60 bytes for each, so free some or merge elsewhere"
            ) from error
        return np.memmap(file, dtype, "r+", shape=(n, *shape)).view(np.ndarray)
