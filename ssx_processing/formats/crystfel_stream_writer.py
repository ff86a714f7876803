"""CrystFEL streams, version 2.3, as indexamajig writes them and partialator reads them.

What is written is what `CrystfelStream` reads: numbers have CrystFEL's formats, and more decimals where ours
would be lost (intensities of few photons, positions).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError
from ssx_processing.formats.crystfel_geometry import crystfel_to_laboratory
from ssx_processing.formats.stream_chunk_text import PER_NM
from ssx_processing.formats.stream_records import (
    BEGIN_CELL,
    BEGIN_CHUNK,
    BEGIN_CRYSTAL,
    BEGIN_GEOMETRY,
    BEGIN_PEAKS,
    BEGIN_REFLECTIONS,
    END_CELL,
    END_CHUNK,
    END_CRYSTAL,
    END_GEOMETRY,
    END_PEAKS,
    END_REFLECTIONS,
    FIRST_LINE,
    NO_EVENT,
    StreamCrystal,
    StreamFrame,
    StreamHeader,
    StreamPeaks,
    StreamReflections,
    TargetCell,
)
from ssx_processing.kernels.unit_cell import cell_of

VERSION = (2, 3)
LONGEST_AUDIT = 4000
"""Bytes that CrystFEL has room for before the geometry."""
PEAK_ROW = "%7.2f %7.2f %10.4f  %10.2f   %s\n"
REFLECTION_ROW = "%4i %4i %4i %10.4f %10.4f %10.2f %10.4f %7.2f %7.2f %s\n"
LEAST_BANDWIDTH = 1e-8
"""CrystFEL's own where there is none: it makes a spectrum of it."""


class StreamWriter:
    """Writes chunks behind each other."""

    def __init__(self, file: TextIO, panel_names: Sequence[str], bandwidth: float = 0.0) -> None:
        """Write to ``file``; panels are named by their number."""
        self._file, self._names, self._bandwidth = file, list(panel_names), max(bandwidth, LEAST_BANDWIDTH)

    def write(self, frame: StreamFrame) -> None:
        """Write one frame."""
        self._file.write("".join(self._lines(frame)))

    def _lines(self, frame: StreamFrame) -> Iterator[str]:
        n_peaks = len(frame.peaks) if frame.peaks is not None else 0
        yield f"{BEGIN_CHUNK}\nImage filename: {frame.file}\nEvent: {frame.event or NO_EVENT}\n"
        yield f"Image serial number: {frame.serial}\nhit = {int(bool(frame.hit))}\n"
        yield f"indexed_by = {frame.indexed_by}\n"
        if frame.crystals:
            yield "n_indexing_tries = 1\n"
        yield f"photon_energy_eV = {gemmi.hc / frame.wavelength:f}\n"
        yield f"beam_divergence = 0.00e+00 rad\nbeam_bandwidth = {self._bandwidth:.2e} (fraction)\n"
        for place, value in frame.values.items():
            yield f"header/float/{place} = {value:f}\n"
        yield f"average_camera_length = {frame.camera_length_mm / 1e3:f} m\nnum_peaks = {n_peaks}\n"
        yield _peak_resolution(frame.peaks)
        if frame.peaks is not None:
            yield from self._peaks(frame.peaks)
        for crystal in frame.crystals:
            yield from self._crystal(crystal)
        yield f"{END_CHUNK}\n"

    def _peaks(self, peaks: StreamPeaks) -> Iterator[str]:
        yield f"{BEGIN_PEAKS}\n  fs/px   ss/px (1/d)/nm^-1   Intensity  Panel\n"
        columns = peaks.fs, peaks.ss, peaks.inverse_d / PER_NM, peaks.intensity
        yield _rows(PEAK_ROW, columns, self._panels(peaks.panel))
        yield f"{END_PEAKS}\n"

    def _crystal(self, crystal: StreamCrystal) -> Iterator[str]:
        a, b, c, alpha, beta, gamma = cell_of(crystal.a_matrix)
        yield f"{BEGIN_CRYSTAL}\n"
        yield f"Cell parameters {0.1 * a:7.5f} {0.1 * b:7.5f} {0.1 * c:7.5f} nm, "
        yield f"{alpha:7.5f} {beta:7.5f} {gamma:7.5f} deg\n"
        for name, vector in zip("abc", crystfel_to_laboratory(crystal.a_matrix.T) / PER_NM, strict=True):
            yield f"{name}star = {vector[0]:+9.7f} {vector[1]:+9.7f} {vector[2]:+9.7f} nm^-1\n"
        yield f"lattice_type = {crystal.lattice_type}\ncentering = {crystal.centring}\n"
        yield f"unique_axis = {crystal.unique_axis}\n"
        yield f"profile_radius = {crystal.profile_radius / PER_NM:.5f} nm^-1\n"
        shift = crystfel_to_laboratory([*crystal.detector_shift_mm, 0.0])
        yield f"predict_refine/det_shift x = {shift[0]:.3f} y = {shift[1]:.3f} mm\n"
        limit = crystal.resolution_limit
        yield f"diffraction_resolution_limit = {1 / (PER_NM * limit):.2f} nm^-1 or {limit:.2f} A\n"
        yield f"num_reflections = {len(crystal.reflections)}\n"
        yield f"num_saturated_reflections = {crystal.n_saturated}\nnum_implausible_reflections = 0\n"
        yield f"{BEGIN_REFLECTIONS}\n"
        yield "   h    k    l          I   sigma(I)       peak background  fs/px  ss/px panel\n"
        yield self._reflections(crystal.reflections)
        yield f"{END_REFLECTIONS}\n{END_CRYSTAL}\n"

    def _reflections(self, found: StreamReflections) -> str:
        columns = (
            *found.hkl.T, found.intensity, found.sigma, found.peak, found.background, found.fs, found.ss
        )  # fmt: skip
        return _rows(REFLECTION_ROW, columns, self._panels(found.panel))

    def _panels(self, numbers: NDArray[np.int32]) -> list[str]:
        """Names of panels; all lie on one, since CrystFEL asks for it."""
        if len(numbers) and numbers.min() < 0:
            raise ChunkError(
                "a peak or reflection lies on no panel, which CrystFEL cannot read; process again"
            )
        return [self._names[number] for number in numbers.tolist()]


@contextmanager
def stream_writer(
    path: Path, header: StreamHeader, panel_names: Sequence[str], *, bandwidth: float = 0.0
) -> Iterator[StreamWriter]:
    """Stream that gets the name ``path`` when the block ends without an error.

    Parameters
    ----------
    panel_names
        Of the geometry, by the number of the panel.
    bandwidth
        Standard deviation of the wavelength over the wavelength.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(header_text(header))
            yield StreamWriter(file, panel_names, bandwidth)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def header_text(header: StreamHeader) -> str:
    """What stands before the first chunk."""
    audit = "\n".join(header.audit)[:LONGEST_AUDIT]
    geometry = header.geometry if header.geometry.endswith("\n") else f"{header.geometry}\n"
    parts = [f"{FIRST_LINE} {VERSION[0]}.{VERSION[1]}\n{audit}\n"]
    parts.append(f"{BEGIN_GEOMETRY}\n{geometry}{END_GEOMETRY}\n")
    if header.target is not None:
        parts.append(f"{BEGIN_CELL}\n{cell_file_text(header.target)}{END_CELL}\n")
    return "".join(parts)


def cell_file_text(target: TargetCell) -> str:
    """Text of a CrystFEL cell file."""
    lines = ["CrystFEL unit cell file version 1.0", ""]
    lines += [f"lattice_type = {target.lattice_type}", f"centering = {target.centring}"]
    if target.unique_axis in "abc":
        lines.append(f"unique_axis = {target.unique_axis}")
    if target.cell is not None:
        names = zip(("a", "b", "c", "al", "be", "ga"), target.cell, strict=True)
        lines += ["", *(f"{name} = {value:.4f} {'A' if len(name) == 1 else 'deg'}" for name, value in names)]
    return "\n".join(lines) + "\n"


def _rows(row: str, columns: Sequence[NDArray[Any]], words: Sequence[str]) -> str:
    """Rows of a table, formatted as a whole: a fifth of the time of row by row."""
    values = [
        value for row in zip(*(column.tolist() for column in columns), words, strict=True) for value in row
    ]
    return (row * len(words)) % tuple(values)


def _peak_resolution(peaks: StreamPeaks | None) -> str:
    """Line with the resolution of the peaks, as CrystFEL estimates it: all but the highest few."""
    if peaks is None or not len(peaks):
        return "peak_resolution = 0.000000 nm^-1 or inf A\n"
    ordered = np.sort(peaks.inverse_d)
    value = float(ordered[max(0, len(ordered) - 1 - max(2, len(ordered) // 50))])
    return f"peak_resolution = {value / PER_NM:f} nm^-1 or {1 / value if value else math.inf:f} A\n"
