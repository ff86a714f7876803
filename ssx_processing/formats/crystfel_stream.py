"""CrystFEL streams: what indexamajig found on each frame, read block by block.

The format is that of CrystFEL's indexamajig(1), versions 2.2 and 2.3. A stream may be larger than the
memory: it is looked through once for where its chunks begin, and each is then read on its own. Streams put
behind each other in one file, as ``cat`` does, are read as one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.crystfel_syntax import parse_geom
from ssx_processing.formats.stream_chunk_text import PanelNumbers, parse_chunk
from ssx_processing.formats.stream_records import (
    BEGIN_CELL,
    BEGIN_CHUNK,
    BEGIN_GEOMETRY,
    END_CELL,
    END_GEOMETRY,
    FIRST_LINE,
    StreamFrame,
    StreamHeader,
    TargetCell,
)
from ssx_processing.models import UnitCell

READ_VERSIONS = (2, 2), (2, 3)
BLOCK = 8 << 20
"""Bytes read at a time."""
_ANY_BEGIN = b"\n----- Begin "  # never the first line


def is_stream(path: Path) -> bool:
    """Whether a file begins as a CrystFEL stream; false if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(FIRST_LINE)) == FIRST_LINE.encode()
    except OSError:
        return False


@dataclass(frozen=True)
class _Index:
    """Where the parts of a stream begin."""

    chunks: NDArray[np.int64]
    """Byte behind the line that begins each chunk; the size of the file last."""
    headers: NDArray[np.int64]
    """First byte of each geometry file."""


class CrystfelStream:
    """A stream of which frames can be read by number, from 0."""

    def __init__(self, path: Path, panel_names: Sequence[str] | None = None) -> None:
        """Look through the file.

        Parameters
        ----------
        panel_names
            Names of the panels, which are numbered so; by default those of the stream's own geometry.

        Raises
        ------
        ImageReadError
            It cannot be read, is no stream, or one of a version that is not known; or streams of different
            geometries were put behind each other.
        """
        self.path = Path(path)
        try:
            status = self.path.stat()
            self._index = _index(self.path, status.st_size, status.st_mtime_ns)
            self.header = self._header(0, self._first_chunk())
        except OSError as error:
            if isinstance(error, ImageReadError):
                raise
            raise ImageReadError(f"{self.path}: {error.strerror or error}; name a CrystFEL stream") from error
        self._refuse_other_geometries()
        if panel_names is None:
            text = self.header.geometry
            panel_names = list(parse_geom(self.path, text).panels) if text else ()
        self._panels = PanelNumbers(panel_names)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._index.chunks) - 1

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[StreamFrame]:
        """Frames ``start`` to ``stop - 1``, in order.

        Raises
        ------
        ImageReadError
            The file cannot be read any more.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        with_panels = self.header.version >= (2, 3)
        bounds = self._index.chunks
        with self.path.open("rb") as file:
            at = start
            while at < stop:
                last = max(at + 1, int(np.searchsorted(bounds, bounds[at] + BLOCK, side="right")) - 1)
                last = min(last, stop)
                file.seek(int(bounds[at]))
                block = file.read(int(bounds[last] - bounds[at]))
                if len(block) != bounds[last] - bounds[at]:
                    raise ImageReadError(
                        f"{self.path}: has become shorter while it was read; process it again"
                    )
                for number in range(at, last):
                    text = block[bounds[number] - bounds[at] : bounds[number + 1] - bounds[at]]
                    yield parse_chunk(text, self._panels, with_panels=with_panels)
                at = last

    def some_frames(self, n: int) -> Iterator[StreamFrame]:
        """At most ``n`` frames, spread evenly."""
        for number in np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(int)):
            yield from self.frames(int(number), int(number) + 1)

    def _first_chunk(self) -> int:
        return int(self._index.chunks[0]) if len(self) else self.path.stat().st_size

    def _header(self, start: int, stop: int) -> StreamHeader:
        with self.path.open("rb") as file:
            file.seek(start)
            return parse_header(self.path, file.read(stop - start).decode(errors="replace"))

    def _refuse_other_geometries(self) -> None:
        """Raise where streams with another geometry follow: positions on the detector would be wrong."""
        for place in self._index.headers[1:]:
            after = self._index.chunks[np.searchsorted(self._index.chunks, place)]
            with self.path.open("rb") as file:
                file.seek(int(place))
                text = file.read(int(after - place)).decode(errors="replace")
            if _between(text, BEGIN_GEOMETRY, END_GEOMETRY) != self.header.geometry:
                raise ImageReadError(
                    f"{self.path}: from byte {place} on another stream follows whose geometry differs; give "
                    "the streams as files of their own"
                )


@lru_cache(maxsize=16)
def _index(path: Path, size: int, mtime_ns: int) -> _Index:
    """Look through a file; kept, since a worker needs it again for every chunk."""
    if not is_stream(path):
        raise ImageReadError(f"{path}: does not begin with {FIRST_LINE!r}; name a CrystFEL stream")
    chunks: list[int] = []
    headers: list[int] = []
    with path.open("rb") as file:
        done, rest = 0, b""
        while block := file.read(BLOCK):
            text = rest + block
            whole = text.rfind(b"\n")  # a line is looked at once it is whole
            at = text.find(_ANY_BEGIN, 0)
            while 0 <= at < whole:
                line = text[at + 1 : text.find(b"\n", at + 1)].rstrip()
                if line == BEGIN_CHUNK.encode():
                    chunks.append(done + text.find(b"\n", at + 1) + 1)
                elif line == BEGIN_GEOMETRY.encode():
                    headers.append(done + at + 1)
                at = text.find(_ANY_BEGIN, at + 1)
            done, rest = done + max(whole, 0), text[max(whole, 0) :]
    return _Index(np.array([*chunks, size], np.int64), np.array(headers, np.int64))


def parse_header(path: Path, text: str) -> StreamHeader:
    """Header from the text before the first chunk.

    Raises
    ------
    ImageReadError
        The version is not one that is read.
    """
    first, *lines = text.splitlines() or [""]
    version = re.match(rf"{FIRST_LINE} (\d+)\.(\d+)", first)
    if version is None or (int(version[1]), int(version[2])) not in READ_VERSIONS:
        known = " and ".join(".".join(map(str, v)) for v in READ_VERSIONS)
        raise ImageReadError(f"{path}: its first line is {first!r}, but streams of format {known} are read")
    audit = []
    for line in lines:
        if line.startswith("-----"):
            break
        audit.append(line)
    return StreamHeader(
        version=(int(version[1]), int(version[2])),
        audit=tuple(audit),
        geometry=_between(text, BEGIN_GEOMETRY, END_GEOMETRY),
        target=_target(_between(text, BEGIN_CELL, END_CELL)),
    )


def _between(text: str, begin: str, end: str) -> str:
    """Lines between two marks; empty if they are not there."""
    found = re.search(rf"^{begin}\r?\n(.*?)^{end}", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _target(text: str) -> TargetCell | None:
    """Cell from the text of a CrystFEL cell file; None if there is none."""
    fields = dict(re.findall(r"^(\w+) = (\S+)", text, re.MULTILINE))
    if "lattice_type" not in fields:
        return None
    cell: UnitCell | None = None
    if {"a", "b", "c", "al", "be", "ga"} <= set(fields):
        lengths = [_length(text, name) for name in "abc"]
        a, b, c = lengths
        cell = a, b, c, float(fields["al"]), float(fields["be"]), float(fields["ga"])
    return TargetCell(
        fields["lattice_type"], fields.get("centering", "P"), fields.get("unique_axis", "?"), cell
    )


def _length(text: str, name: str) -> float:
    """Length in Å; some versions wrote nm."""
    found = re.search(rf"^{name} = (\S+) (\S+)", text, re.MULTILINE)
    return float(found[1]) * (10.0 if found[2] == "nm" else 1.0) if found else float("nan")
