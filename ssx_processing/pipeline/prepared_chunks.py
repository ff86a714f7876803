"""The chunks of a merge as an earlier merge has prepared them, or from their tables."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssx_processing.formats.chunk_folder import count_rows, read_arrow, read_columns, read_summary
from ssx_processing.formats.prepared_chunk import (
    ChunkObservations,
    ChunkTables,
    read_prepared_observations,
    read_prepared_tables,
    write_prepared,
)
from ssx_processing.pipeline.chunk_columns import A_COLUMNS, CELL_COLUMNS
from ssx_processing.pipeline.stored_observations import COLUMNS, good_observations, lattice_label
from ssx_processing.settings import content_key

logger = logging.getLogger(__name__)

FRAME_COLUMNS = ["frame", "status", "n_lattices", "file"]
LATTICE_COLUMNS = ["frame", "lattice", *CELL_COLUMNS, "resolution_limit"]
LATER_COLUMNS = [*A_COLUMNS, "n_indexed", "rmsd_px", "excitation_width", "wavelength"]
"""Of lattices, where there are."""
SUFFIX = ".zip"


class ChunkSource:
    """A chunk that is merged.

    Parameters
    ----------
    folder
        Of the chunk.
    prepared
        Folder for what is prepared.
    more
        Further columns of its frames, where there are.

    Raises
    ------
    ChunkError
        A table is missing or damaged.
    """

    def __init__(self, folder: Path, prepared: Path, more: Sequence[str]) -> None:
        self.folder, self.input = folder, str(read_summary(folder)["input"])
        self.path = prepared / f"{_key(folder, more)}{SUFFIX}"
        found = read_prepared_tables(self.path)
        self.was_prepared = found is not None
        """Until it turns out that its observations are damaged."""
        self.tables, self.most = found or (_tables(folder, more), count_rows(folder, "observations"))
        """`most`: observations, at most."""

    def read_observations(self, *, keep: bool) -> ChunkObservations:
        """Good observations; prepared for the next merge if they are to be kept."""
        found = read_prepared_observations(self.path) if self.was_prepared else None
        if found is not None:
            return found
        self.was_prepared = False
        found = good_observations(
            read_columns(self.folder, "observations", COLUMNS), _labels(self.tables.lattices)
        )
        if keep:
            try:
                write_prepared(self.path, self.tables, found)
            except OSError as error:
                logger.warning("%s: cannot be kept for the next merge (%s)", self.path, error)
        return found


def forget_others(prepared: Path, sources: Iterable[ChunkSource]) -> None:
    """Delete what was prepared from chunks that are not merged any more."""
    ours = {source.path for source in sources}
    for path in prepared.glob(f"*{SUFFIX}"):
        if path not in ours:
            path.unlink(missing_ok=True)


def _key(folder: Path, more: Sequence[str]) -> str:
    """Stands for the chunk, for its files as they are now and for what is prepared of them."""
    files = sorted((path.name, path.stat()) for path in folder.glob("*.parquet"))
    return content_key(
        {
            "stage": "prepare",
            "chunk": folder.name,
            "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files],
            "columns": [FRAME_COLUMNS, sorted(more), LATTICE_COLUMNS, LATER_COLUMNS, COLUMNS],
        }
    )


def _tables(folder: Path, more: Sequence[str]) -> ChunkTables:
    later = ["file_index", *sorted(set(more) - {"file_index", *FRAME_COLUMNS})]
    return ChunkTables(
        read_arrow(folder, "frames", FRAME_COLUMNS, later),
        read_arrow(folder, "lattices", LATTICE_COLUMNS, LATER_COLUMNS),
    )


def _labels(lattices: pa.Table) -> NDArray[np.int64]:
    return np.sort(lattice_label(*(lattices[name].to_numpy() for name in ("frame", "lattice"))))
