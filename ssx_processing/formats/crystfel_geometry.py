"""Detector geometry from CrystFEL's geometry files, as crystfel_geometry(5) describes them.

CrystFEL has z along the beam and y up; its vectors are turned into the laboratory frame by
``crystfel_to_laboratory`` and nowhere else. What the file leaves to the data files (camera length,
photon energy, masks) is read from the file of images it is used for: the median where every frame
has its own, since a data set has one geometry.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import gemmi
import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_header import Header
from ssx_processing.formats.crystfel_masks import (
    PlacedPanel,
    bad_pixels,
    mask_files,
    place_panel,
    value_limits,
)
from ssx_processing.formats.crystfel_syntax import GeomText, parse_geom
from ssx_processing.formats.crystfel_values import Values
from ssx_processing.formats.geometry_model import GeometryFile, Slab
from ssx_processing.formats.hdf5_files import open_hdf5
from ssx_processing.formats.hdf5_placeholders import placeholder_values, substituted
from ssx_processing.formats.nxmx_frames import is_hdf5
from ssx_processing.formats.nxmx_geometry import SYNCHROTRON_POLARISATION
from ssx_processing.models import Geometry, Panel

DEFAULT_DATASET = "/data/data"
"""CrystFEL's, where the file names none."""
MOST_PIXELS = 100_000
"""Along one axis of a slab."""
FARTHEST_MM = 2e4
"""No detector for diffraction is further away; millimetres given for metres are."""
LENGTHS_MM = {"m": 1e3, "mm": 1.0}


def crystfel_to_laboratory(vectors: ArrayLike) -> NDArray[np.float64]:
    """Turn vectors of shape (..., 3) from CrystFEL's frame into the laboratory frame.

    CrystFEL has z along the beam, y up and x to complete a right-handed frame, so x is left for
    who looks along the beam; the laboratory frame has z towards the source and y up. Hence half a
    turn about y.

    >>> crystfel_to_laboratory([[0, 0, 1], [1, 2, 0]]).tolist()
    [[0.0, 0.0, -1.0], [-1.0, 2.0, 0.0]]
    """
    return np.asarray(vectors, float) * (-1.0, 1.0, -1.0) + 0.0  # + 0: no negative zeros


def read_crystfel_geometry(
    path: Path, content: bytes, data: Path | None, known: Mapping[str, float] | None = None
) -> GeometryFile:
    """Geometry from the content of a CrystFEL geometry file.

    Parameters
    ----------
    data
        File of images that it is used for; needed where values or masks are there.
    known
        Values that the file leaves to the images, by their place there, where they are known otherwise.

    Raises
    ------
    GeometryError
        A line cannot be understood, a field is missing, or the data file does not have what it should.
    """
    geom = _parsed(path, content)
    with ExitStack() as stack:
        file = stack.enter_context(open_hdf5(data)) if data is not None and is_hdf5(data) else None
        beam = Values(geom, "", geom.beam)
        header = Header(file, known)
        wavelength = _wavelength(beam, header)
        layout, placed = _place(geom, file)
        panels = tuple(_panel(p, _position_mm(p.values, beam, header)) for p in placed)
        shape = sum(slab.shape[0] for slab in layout), max(slab.shape[1] for slab in layout)
        bad = bad_pixels(geom, placed, shape, data, file)
    underload, saturation = value_limits(p.values for p in placed)
    return GeometryFile(
        path=path,
        sha256=sha256(content).hexdigest(),
        geometry=Geometry(
            panels=panels,
            image_shape=shape,
            wavelength=wavelength,
            polarisation_fraction=SYNCHROTRON_POLARISATION,
        ),
        bad_pixels=bad,
        saturation=saturation,
        underload=underload,
        gain=_gain(placed, wavelength),
        layout=layout,
        groups=geom.groups,
        collections=geom.collections,
        bandwidth=beam.number("bandwidth") if "bandwidth" in beam else None,
    )


def crystfel_mask_files(path: Path, content: bytes) -> tuple[Path, ...]:
    """Files of masks that a CrystFEL geometry file names, as far as they are there."""
    geom = _parsed(path, content)
    return mask_files(Values(geom, name, fields) for name, fields in geom.panels.items())


@lru_cache(maxsize=4)
def _parsed(path: Path, content: bytes) -> GeomText:
    """Text taken apart; kept, since it is needed again for every file of a data set."""
    try:
        return parse_geom(path, content.decode())
    except UnicodeDecodeError as error:
        raise GeometryError(f"{path}: is neither a CrystFEL geometry file nor a DIALS .expt") from error


def _wavelength(beam: Values, header: Header) -> float:
    """Wavelength in Å."""
    given = [name for name in ("wavelength", "photon_energy") if name in beam]
    if len(given) != 1:
        raise GeometryError(
            f"{beam.geom.path}: gives {' and '.join(given) or 'neither wavelength nor photon_energy'}, "
            "expected one of wavelength and photon_energy"
        )
    if given == ["wavelength"]:
        wavelength = header.value(beam, "wavelength", beam.quantity("wavelength", {"A": 1.0, "m": 1e10}))
    else:
        units = {"eV": 1.0, "keV": 1e3, "MeV": 1e6}
        energy = beam.quantity("photon_energy", units, literal="eV", header="eV")
        electronvolts = header.value(beam, "photon_energy", energy)
        wavelength = gemmi.hc / electronvolts if electronvolts > 0 else np.nan
    if not 0.01 < wavelength < 100:
        raise beam.error(given[0], f"is a wavelength of {wavelength:g} Å, expected 0.01 to 100 Å")
    return wavelength


def _place(geom: GeomText, file: h5py.File | None) -> tuple[tuple[Slab, ...], list[PlacedPanel]]:
    """Stack what holds the panels; every panel with its slab, in the file's order."""
    members: dict[tuple[str, tuple[str | int, ...]], list[Values]] = {}
    all_values = [Values(geom, name, fields) for name, fields in geom.panels.items()]
    for values in all_values:
        key = (values.text("data", DEFAULT_DATASET), values.axes())
        members.setdefault(key, []).append(values)
    datasets = list(dict.fromkeys(dataset for dataset, _ in members))
    order = sorted(
        members, key=lambda key: (datasets.index(key[0]), [a for a in key[1] if isinstance(a, int)])
    )
    slabs: dict[tuple[str, tuple[str | int, ...]], Slab] = {}
    start = 0
    for dataset, axes in order:
        shape = _slab_shape(members[dataset, axes], dataset, axes, file)
        slabs[dataset, axes] = Slab(dataset, axes, shape, start)
        start += shape[0]
    placed = [
        place_panel(values, slabs[values.text("data", DEFAULT_DATASET), values.axes()])
        for values in all_values
    ]
    _refuse_overlap(placed, (start, max(slab.shape[1] for slab in slabs.values())))
    return tuple(slabs.values()), placed


def _slab_shape(
    members: Iterable[Values], dataset: str, axes: tuple[str | int, ...], file: h5py.File | None
) -> tuple[int, int]:
    """Rows and columns of a slab: those of the dataset, else as many as its panels need."""
    needed = [0, 0]
    for values in members:
        for axis, name in enumerate(("ss", "fs")):
            first, last = values.integer(f"min_{name}"), values.integer(f"max_{name}")
            if not 0 <= first <= last < MOST_PIXELS:
                problem = f"min_{name} is {first}, expected 0 <= min <= max < {MOST_PIXELS}"
                raise values.error(f"max_{name}", problem)
            needed[axis] = max(needed[axis], last + 1)
    places = placeholder_values(file, dataset) if file is not None else []
    stored = file[substituted(dataset, places[0])].shape if file is not None and places else ()  # pyright: ignore[reportAttributeAccessIssue]
    if len(stored) != len(axes):
        return needed[0], needed[1]
    rows, columns = stored[axes.index("ss")], stored[axes.index("fs")]
    for values in members:
        if values.integer("max_ss") >= rows or values.integer("max_fs") >= columns:
            raise GeometryError(
                f"{values.geom.path}: panel {values.owner} reaches to ss {values.integer('max_ss')}, "
                f"fs {values.integer('max_fs')}, but {dataset} of the images has {rows} x {columns} pixels"
            )
    return rows, columns


def _refuse_overlap(placed: list[PlacedPanel], image_shape: tuple[int, int]) -> None:
    """Raise if a pixel belongs to two panels."""
    owner = np.full(image_shape, -1, np.int16)
    for number, panel in enumerate(placed):
        others = owner[panel.in_image]
        if others.max() >= 0:
            name = placed[int(others.max())].values.owner
            raise panel.values.error("min_ss", f"shares pixels with panel {name}")
        others[:] = number


def _position_mm(values: Values, beam: Values, header: Header) -> tuple[float, float, float]:
    """Shift in x and y of the whole detector, and camera length; CrystFEL's frame, mm."""
    if "clen" not in values and "clen" in values.geom.defaults:
        values = Values(values.geom, "", values.geom.defaults)  # one for all, wherever it is written
    clen = header.value(values, "clen", values.quantity("clen", LENGTHS_MM, literal="m", header="mm"))
    shift = [
        header.value(beam, name, beam.quantity(name, LENGTHS_MM, literal="m", header="m"))
        if name in beam
        else 0.0
        for name in ("detector_shift_x", "detector_shift_y")
    ]
    return shift[0], shift[1], clen


def _panel(placed: PlacedPanel, position_mm: tuple[float, float, float]) -> Panel:
    """Panel in the laboratory frame."""
    values = placed.values
    resolution = values.number("res")
    if not 100 <= resolution <= 1e6:
        raise values.error("res", "expected pixels per metre, 100 to 1000000")
    pixel_mm = 1e3 / resolution
    fast_step, slow_step = values.vector("fs"), values.vector("ss")
    lengths = float(np.linalg.norm(fast_step)), float(np.linalg.norm(slow_step))
    if np.linalg.norm(np.cross(fast_step, slow_step)) <= 0.1 * lengths[0] * lengths[1]:
        raise values.error("ss", f"is parallel to fs = {values.text('fs')}, or one of them is 0")
    corner = np.array([values.number("corner_x") * pixel_mm, values.number("corner_y") * pixel_mm, 0.0])
    corner += position_mm
    corner[2] += values.number("coffset", 0.0) * 1e3
    if np.abs(corner).max() > FARTHEST_MM:
        raise GeometryError(
            f"{values.geom.path}: panel {values.owner} is at {corner.tolist()} mm, expected less than "
            f"{FARTHEST_MM:g} mm; check corner_x, corner_y and the units of clen"
        )
    if corner[2] <= 0:
        raise GeometryError(
            f"{values.geom.path}: panel {values.owner} is {corner[2]:g} mm downstream of the sample "
            "(clen + coffset), expected more than 0; check the units of clen"
        )
    origin, fast, slow = crystfel_to_laboratory(
        [corner, fast_step / lengths[0], slow_step / lengths[1]]
    ).tolist()
    rows, columns = placed.in_image
    return Panel(
        origin_mm=tuple(origin),
        fast_axis=tuple(fast),
        slow_axis=tuple(slow),
        pixel_size_mm=(lengths[0] * pixel_mm, lengths[1] * pixel_mm),
        fast_start=columns.start,
        slow_start=rows.start,
        n_fast=columns.stop - columns.start,
        n_slow=rows.stop - rows.start,
        name=values.owner,
    )


def _gain(placed: list[PlacedPanel], wavelength: float) -> float | None:
    """Counts per photon; the median where panels differ."""
    gains = []
    for values in (p.values for p in placed):
        if "adu_per_photon" in values:
            gains.append(values.number("adu_per_photon"))
        elif "adu_per_eV" in values:
            gains.append(values.number("adu_per_eV") * gemmi.hc / wavelength)
        if gains and gains[-1] <= 0:
            name = "adu_per_photon" if "adu_per_photon" in values else "adu_per_eV"
            raise values.error(name, "expected more than 0")
    return float(np.median(gains)) if gains else None
