"""Large arrays in temporary files."""

from pathlib import Path

import numpy as np
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.formats import scratch_arrays
from ssx_processing.formats.scratch_arrays import new_array


def test_a_large_array_is_zero_and_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch_arrays, "MOST_IN_MEMORY", 1000)
    array = new_array(tmp_path, np.float32, 1001, 2)
    array[1000] = 3.0
    mapped = Path("/proc/self/maps").read_text()
    assert str(tmp_path) in mapped
    assert (array[:1000] == 0).all()
    assert (array.dtype, array[1000].tolist()) == (np.float32, [3.0, 3.0])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_an_error_before_anything_is_written(tmp_path: Path):
    with pytest.raises(MergeError, match=r"no room for a temporary file of 4000000\.0 GB"):
        new_array(tmp_path, np.float32, 10**15)
    assert list(tmp_path.iterdir()) == []
