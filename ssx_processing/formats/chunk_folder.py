"""Result folders: Parquet tables and a small JSON summary, written whole or not at all.

Quick to import: what reads tables is imported where a table is read.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssx_processing.errors import ChunkError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

SUMMARY = "summary.json"


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Folder to fill, which gets the name ``final`` when the block ends without an error.

    Two processes may fill the same folder: the first to finish wins, which is right because
    folders are named by their content. A folder of that name without a summary, such as an
    interrupted copy, is replaced.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()  # not mkdtemp, which hides results from the group
    try:
        yield temporary
        if final.is_dir() and not (final / SUMMARY).is_file():
            shutil.rmtree(final)
        try:
            temporary.rename(final)
        except OSError:
            if not (final / SUMMARY).is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(*parents: Path) -> None:
    """Remove what processes left that were killed while they filled a folder; nobody may be filling one."""
    for parent in parents:
        for left in parent.glob(".*-*-*"):
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n")
    temporary.replace(path)


def write_chunk(folder: Path, tables: Mapping[str, pd.DataFrame], summary: Mapping[str, Any]) -> None:
    """Write the tables as ``<name>.parquet`` and ``summary.json`` into a new folder, atomically."""
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            table.to_parquet(temporary / f"{name}.parquet", index=False, compression="zstd")
        write_json(temporary / SUMMARY, summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """Summary of a result folder.

    Raises
    ------
    ChunkError
        The folder has no summary that can be read.
    """
    try:
        return json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError) as error:
        raise ChunkError(
            f"{folder}: no readable {SUMMARY} ({error}); delete the folder and process its frames again"
        ) from error


def read_table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One table of a result folder, all columns or some.

    Raises
    ------
    ChunkError
        The table is missing, damaged or lacks a column.
    """
    return read_arrow(folder, name, columns).to_pandas()


def read_known(folder: Path, name: str, columns: Sequence[str], later: Sequence[str] = ()) -> pd.DataFrame:
    """Columns of a table, and those of the columns ``later`` that it has: older tables lack them.

    Raises
    ------
    ChunkError
        The table is missing, damaged or lacks one of the columns.
    """
    return read_arrow(folder, name, columns, later).to_pandas()


def joined(tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Tables as of `read_arrow` below each other.

    What one of them lacks of the columns is missing in its rows; what all lack is left out.
    """
    import pyarrow as pa

    plain = [table.replace_schema_metadata() for table in tables]
    filled = [table for table in plain if len(table)]  # empty ones may not know the types of their columns
    return pa.concat_tables(filled or plain[:1], promote_options="permissive").to_pandas()


def read_columns(folder: Path, name: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns of a table as arrays, which is quicker where there are many rows; missing numbers are nan.

    Raises
    ------
    ChunkError
        The table is missing, damaged or lacks a column.
    """
    table = read_arrow(folder, name, columns)
    return {column: table[column].to_numpy() for column in columns}


def read_arrow(folder: Path, name: str, columns: Sequence[str] | None, later: Sequence[str] = ()) -> pa.Table:
    """Columns of a table as Arrow's, and those of the columns ``later`` that it has.

    The file is opened once: pandas would take twice as long.

    Raises
    ------
    ChunkError
        The table is missing, damaged or lacks one of the columns.
    """
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = names if columns is None else [*columns, *(c for c in later if c in names)]
            lacking = [column for column in wanted if column not in names]
            if lacking:
                raise ValueError(f"there is no column {lacking[0]}")
            return file.read(wanted)
    except (OSError, ValueError) as error:
        raise ChunkError(
            f"{path}: cannot be read ({error}); delete the folder and process its frames again"
        ) from error


def count_rows(folder: Path, name: str) -> int:
    """Rows of a table of a result folder, from its metadata.

    Raises
    ------
    ChunkError
        The table is missing or damaged.
    """
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, ValueError) as error:
        raise ChunkError(
            f"{path}: cannot be read ({error}); delete the folder and process its frames again"
        ) from error
