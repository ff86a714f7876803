"""The text of one chunk of a CrystFEL stream, taken apart."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.stream_records import (
    BEGIN_CRYSTAL,
    BEGIN_PEAKS,
    BEGIN_REFLECTIONS,
    END_CHUNK,
    END_CRYSTAL,
    END_PEAKS,
    END_REFLECTIONS,
    NO_EVENT,
    StreamCrystal,
    StreamFrame,
    StreamPeaks,
    StreamReflections,
)
from ssx_processing.kernels.text_table import read_rows

PER_NM = 0.1
"""1/nm in 1/Å."""
_SHIFT = re.compile(r"predict_refine/det_shift x = (\S+) y = (\S+) mm")
_NUMBER_COLUMNS = {"peaks": 4, "reflections": 9}
_NONE = -1, -1


class DamagedChunkError(ValueError):
    """A chunk is not whole, or has a line that cannot be understood."""


class PanelNumbers:
    """Numbers of the panels by the hash of their names, as `read_rows` gives it."""

    def __init__(self, names: Sequence[str]) -> None:
        """Number ``names`` from 0."""
        lines = np.frombuffer("".join(f"{name}\n" for name in names).encode(), np.uint8)
        hashes = read_rows(lines, 0, len(lines), 0)[1]
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Number of each; -1 for names that are not known."""
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int32)
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[place] == hashes, self._order[place], -1).astype(np.int32)


def parse_chunk(text: bytes, panels: PanelNumbers, *, with_panels: bool) -> StreamFrame:
    """Frame from the text of a chunk; what is wrong with it is its ``problem``, never an error.

    Parameters
    ----------
    text
        From behind the line that begins the chunk.
    panels
        Of the stream's geometry.
    with_panels
        Whether peaks and reflections name their panel, as from format 2.3 on.
    """
    fields = _fields(text[: _first(text, BEGIN_PEAKS, BEGIN_CRYSTAL, END_CHUNK)].decode(errors="replace"))
    event = fields.get("Event", "").strip()
    frame = StreamFrame(
        file=fields.get("Image filename", ""),
        event="" if event == NO_EVENT else event,
        hit=fields["hit"].strip() == "1" if "hit" in fields else None,
        indexed_by=fields.get("indexed_by", "none").strip(),
        values=_values_of_image(fields),
    )
    try:
        return _whole(frame, fields, text, panels, with_panels)
    except DamagedChunkError as error:
        return replace(frame, problem=str(error))


def _whole(
    frame: StreamFrame, fields: Mapping[str, str], text: bytes, panels: PanelNumbers, with_panels: bool
) -> StreamFrame:
    if _find(text, END_CHUNK, 0) == _NONE:
        raise DamagedChunkError("the chunk has no end: the stream was cut, or its program killed")
    if not frame.file:
        raise DamagedChunkError("there is no image filename")
    energy = _number(fields, "photon_energy_eV")
    if not energy > 0:
        raise DamagedChunkError(
            f"photon_energy_eV is {fields.get('photon_energy_eV', 'missing')}, expected eV"
        )
    return replace(
        frame,
        serial=int(_number(fields, "Image serial number", 0.0)),
        wavelength=gemmi.hc / energy,
        camera_length_mm=1e3 * _number(fields, "average_camera_length"),
        peaks=_peaks(text, panels, with_panels),
        crystals=_crystals(text, panels, with_panels),
    )


def _first(text: bytes, *markers: str) -> int:
    """Where the first of these lines begins; the end of the text if there is none."""
    found = [_find(text, marker, 0)[0] for marker in markers]
    return min((at for at in found if at >= 0), default=len(text))


def _find(text: bytes, line: str, start: int) -> tuple[int, int]:
    """First byte of a line that begins with these words, and of the line behind it; -1 if there is none."""
    words = line.encode()
    at = text.find(words, start)
    while at > 0 and text[at - 1] != 10:
        at = text.find(words, at + 1)
    if at < 0:
        return _NONE
    end = text.find(b"\n", at)
    return at, len(text) if end < 0 else end + 1


def _fields(text: str) -> dict[str, str]:
    """Lines of the form ``name = value`` and ``name: value``."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition(" = ")
        if not equals or ": " in name:
            name, equals, value = line.partition(": ")
        if equals:
            found[name] = value
    return found


def _number(fields: Mapping[str, str], name: str, default: float = math.nan) -> float:
    """The number that a field begins with; its unit follows."""
    words = fields.get(name, "").split()
    try:
        return float(words[0]) if words else default
    except ValueError as error:
        raise DamagedChunkError(f"{name} = {fields[name]}, expected a number") from error


def _values_of_image(fields: Mapping[str, str]) -> dict[str, float]:
    """Values copied from the image, by their place in it; CrystFEL wrote them in three ways over time."""
    found = {}
    for name, text in fields.items():
        for prefix in ("header/float/", "header/int/", "hdf5/"):
            if name.startswith(prefix):
                try:
                    found["/" + name.removeprefix(prefix).lstrip("/")] = float(text)
                except ValueError:
                    break  # a word: nothing that a geometry needs
    return found


def _table(
    text: bytes, begin: int, end: int, kind: str, panels: PanelNumbers, with_panels: bool
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Numbers and panels of the rows between two bytes, below a line with the names of the columns."""
    first = text.find(b"\n", begin, end) + 1
    if not first:
        raise DamagedChunkError(f"the list of {kind} has no line with the names of its columns")
    whole = np.frombuffer(text, np.uint8)
    numbers, words, starts, bad = read_rows(whole, first, end, _NUMBER_COLUMNS[kind])
    if bad < 0 and with_panels and not words.all():
        bad = int(starts[np.flatnonzero(words == 0)[0]]) - 1  # within the line that names no panel
        bad = text.rfind(b"\n", 0, bad) + 1
    if bad >= 0:
        line = text[bad : max(text.find(b"\n", bad), bad)].decode(errors="replace")
        raise DamagedChunkError(f"the list of {kind} has the line {line!r}")
    return numbers, panels.of(words)


def _peaks(text: bytes, panels: PanelNumbers, with_panels: bool) -> StreamPeaks | None:
    """Peaks of the frame; None in streams written without."""
    _, begin = _find(text, BEGIN_PEAKS, 0)
    if begin < 0:
        return None
    end, _ = _find(text, END_PEAKS, begin)
    if end < 0:
        raise DamagedChunkError("the list of peaks has no end")
    numbers, panel = _table(text, begin, end, "peaks", panels, with_panels)
    fs, ss, inverse_nm, intensity = numbers.T
    return StreamPeaks(fs, ss, inverse_nm * PER_NM, intensity, panel)


def _crystals(text: bytes, panels: PanelNumbers, with_panels: bool) -> tuple[StreamCrystal, ...]:
    found = []
    begin = _find(text, BEGIN_CRYSTAL, 0)[1]
    while begin >= 0:
        end, _ = _find(text, END_CRYSTAL, begin)
        if end < 0:
            raise DamagedChunkError("a crystal has no end")
        found.append(_crystal(text[begin:end], panels, with_panels))
        begin = _find(text, BEGIN_CRYSTAL, end)[1]
    return tuple(found)


def _crystal(text: bytes, panels: PanelNumbers, with_panels: bool) -> StreamCrystal:
    at, begin = _find(text, BEGIN_REFLECTIONS, 0)
    header = (text if at < 0 else text[:at]).decode(errors="replace")
    fields = _fields(header)
    shift = _SHIFT.search(header)
    moved = crystfel_to_laboratory([float(shift[1]), float(shift[2]), 0.0]) if shift else np.zeros(3)
    limit = _number(fields, "diffraction_resolution_limit")
    return StreamCrystal(
        a_matrix=_a_matrix(fields),
        reflections=_reflections(text, begin, panels, with_panels),
        lattice_type=fields.get("lattice_type", "triclinic").strip(),
        centring=fields.get("centering", "P").strip(),
        unique_axis=fields.get("unique_axis", "?").strip(),
        profile_radius=PER_NM * _number(fields, "profile_radius"),
        resolution_limit=1.0 / (PER_NM * limit) if limit > 0 else math.nan,
        detector_shift_mm=(float(moved[0]), float(moved[1])),
        n_announced=int(_number(fields, "num_reflections", 0.0)),
        n_saturated=int(_number(fields, "num_saturated_reflections", 0.0)),
    )


def _a_matrix(fields: Mapping[str, str]) -> NDArray[np.float64]:
    rows = []
    for name in ("astar", "bstar", "cstar"):
        words = fields.get(name, "").split()
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError as error:
            raise DamagedChunkError(f"{name} = {fields[name]}, expected three numbers and nm^-1") from error
        if len(rows[-1]) < 3 or words[3:] != ["nm^-1"]:
            raise DamagedChunkError(
                f"{name} is {fields.get(name, 'missing')}, expected three numbers and nm^-1"
            )
    matrix = PER_NM * crystfel_to_laboratory(rows).T
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise DamagedChunkError("astar, bstar and cstar span no volume")
    return matrix


def _reflections(text: bytes, begin: int, panels: PanelNumbers, with_panels: bool) -> StreamReflections:
    """Reflections of a crystal; none where it was not integrated."""
    if begin < 0:
        return StreamReflections.none()
    end, _ = _find(text, END_REFLECTIONS, begin)
    if end < 0:
        raise DamagedChunkError("a list of reflections has no end")
    numbers, panel = _table(text, begin, end, "reflections", panels, with_panels)
    hkl = numbers[:, :3]
    if not (np.isfinite(hkl).all() and (np.abs(hkl) < 2**15).all() and (hkl == np.rint(hkl)).all()):
        raise DamagedChunkError("a list of reflections has indices that are no whole numbers below 32768")
    intensity, sigma, peak, background, fs, ss = np.ascontiguousarray(numbers[:, 3:].T)
    return StreamReflections(hkl.astype(np.int32), intensity, sigma, peak, background, fs, ss, panel)
