"""Tables of result folders are read whole or refused with their name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import (
    joined,
    read_arrow,
    read_columns,
    read_known,
    read_table,
    write_chunk,
)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """One with all columns, one without rows, one of an older version."""
    full = pd.DataFrame({"frame": [0, 1], "file": ["a.h5", "b.h5"], "width": [0.5, np.nan]})
    tables = [full, pd.DataFrame({"frame": [], "file": []}), full[["frame", "file"]]]
    chunks = [tmp_path / str(i) for i in range(len(tables))]
    for chunk, table in zip(chunks, tables, strict=True):
        write_chunk(chunk, {"frames": table}, {})
    return chunks


def test_tables_below_each_other_keep_their_types_where_some_are_empty_or_older(folders: list[Path]):
    tables = [read_arrow(folder, "frames", ["frame", "file"], ["width", "never"]) for folder in folders]
    table = joined(tables)
    assert table["frame"].tolist() == [0, 1, 0, 1]
    assert table["file"].tolist() == ["a.h5", "b.h5"] * 2
    np.testing.assert_array_equal(table["width"], [0.5, np.nan, np.nan, np.nan])
    assert list(table) == ["frame", "file", "width"]


def test_columns_are_those_of_the_table(folders: list[Path]):
    columns = read_columns(folders[0], "frames", ["width", "frame"])
    np.testing.assert_array_equal(columns["width"], [0.5, np.nan])
    assert columns["frame"].dtype == np.int64
    pd.testing.assert_frame_equal(
        read_table(folders[2], "frames"), read_known(folders[0], "frames", ["frame", "file"], ["never"])
    )


@pytest.mark.parametrize("name", ["frames", "spots"])
def test_what_lacks_is_named_with_its_file(folders: list[Path], name: str):
    for read in (read_table, read_columns):
        with pytest.raises(ChunkError, match=rf"0/{name}\.parquet: cannot be read"):
            read(folders[0], name, ["frame", "snr"])
