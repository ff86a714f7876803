"""What is written as a CrystFEL stream is read back as it was; CrystFEL's own stream is written as it is."""

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.crystfel_stream import CrystfelStream
from ssx_processing.formats.crystfel_stream_writer import stream_writer
from ssx_processing.formats.crystfel_syntax import parse_geom
from ssx_processing.formats.stream_records import StreamFrame
from tests.unit.formats.crystfel_streams import write_stream


def rewritten(path: Path, target: Path) -> CrystfelStream:
    stream = CrystfelStream(path)
    names = list(parse_geom(path, stream.header.geometry).panels)
    with stream_writer(target, stream.header, names) as writer:
        for frame in stream.frames():
            writer.write(frame)
    return CrystfelStream(target)


def assert_same(first: Any, second: Any) -> None:
    """Records equal in all fields; numbers to the last digit that is written."""
    if is_dataclass(first):
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, tuple) and first and is_dataclass(first[0]):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray | float):
        np.testing.assert_allclose(second, first, rtol=1e-12, atol=1e-12)
    else:
        assert first == second


def test_frames_come_back_as_they_were(tmp_path: Path):
    path = write_stream(tmp_path)
    again = rewritten(path, tmp_path / "again.stream")
    assert again.header == CrystfelStream(path).header
    for first, second in zip(CrystfelStream(path).frames(), again.frames(), strict=True):
        assert_same(first, second)


def test_all_of_a_real_stream_comes_back_as_it_was(real_data: Path, tmp_path: Path):
    path = real_data / "5ht2b_lcls_crystfel_stream" / "raw" / "crystfel_5HT2B_test.stream"
    again = rewritten(path, tmp_path / "again.stream")
    assert again.header == CrystfelStream(path).header
    n = 0
    for first, second in zip(CrystfelStream(path).frames(), again.frames(), strict=True):
        assert_same(first, second)
        n += sum(len(crystal.reflections) for crystal in second.crystals)
    assert n == 7966


def line_kinds(path: Path) -> list[str]:
    """Lines from the first chunk on with each number replaced: what kinds of lines follow each other."""
    text = path.read_text()
    body = text[text.index("----- Begin chunk") :].splitlines()
    kinds = [re.sub(r"[-+]?\d+(\.\d+)?(e[-+]\d+)?", "#", " ".join(line.split())) for line in body]
    return [kind for kind in dict.fromkeys(kinds) if "Event" not in kind and "hdf#" not in kind]


def test_a_real_stream_is_written_in_the_same_kinds_of_lines(real_data: Path, tmp_path: Path):
    """But for what older versions called otherwise, and what only some of CrystFEL's steps know."""
    path = real_data / "5ht2b_lcls_crystfel_stream" / "raw" / "crystfel_5HT2B_test.stream"
    rewritten(path, tmp_path / "again.stream")
    theirs, ours = (set(line_kinds(p)) for p in (path, tmp_path / "again.stream"))
    assert {kind for kind in theirs - ours if "final_residual" not in kind} == set()
    assert {kind for kind in ours - theirs if not kind.startswith("header/float/")} == set()


def test_a_file_that_is_not_finished_does_not_get_its_name(tmp_path: Path):
    header = CrystfelStream(write_stream(tmp_path)).header
    with pytest.raises(KeyError), stream_writer(tmp_path / "new.stream", header, ["p0", "p1"]):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["x.stream"]


def test_a_reflection_on_no_panel_is_refused(tmp_path: Path):
    stream = CrystfelStream(write_stream(tmp_path))
    frame: StreamFrame = list(stream.frames())[2]
    crystal = frame.crystals[0]
    lost = replace(crystal.reflections, panel=np.full(3, -1, np.int32))
    spoilt = replace(frame, crystals=(replace(crystal, reflections=lost),))
    with (
        pytest.raises(ChunkError, match="no panel"),
        stream_writer(tmp_path / "new.stream", stream.header, ["p0", "p1"]) as writer,
    ):
        writer.write(spoilt)
