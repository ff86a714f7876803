"""Geometry as a CrystFEL geometry file, as crystfel_geometry(5) describes them.

Vectors are turned into CrystFEL's frame by the converter of ``crystfel_geometry``, which is its own
inverse. The beam runs along z there: for another beam the whole detector is turned about the sample.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import gemmi
import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_geometry import FARTHEST_MM, crystfel_to_laboratory
from ssx_processing.formats.geometry_model import FRAME, Slab, below_saturation, from_underload
from ssx_processing.models import Geometry, Panel

MASK_SUFFIX = "_mask.h5"
"""What the file of the mask has after the stem of the geometry file."""
_USABLE_NAME = re.compile(r"(?!bad|group|rigid_group)[A-Za-z]\w*", re.ASCII)


def write_crystfel_geometry(
    geometry: Geometry,
    path: Path,
    *,
    layout: Sequence[Slab] = (),
    bad_pixels: NDArray[np.bool_] | None = None,
    saturation: float = math.inf,
    underload: float = -math.inf,
    gain: float | None = None,
    bandwidth: float | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write a geometry file, and beside it the mask that it names.

    Parameters
    ----------
    layout
        Where the panels are in an HDF5 file; empty for images of other formats.
    bad_pixels : (slow, fast) array
        Written as ``<stem>_mask.h5`` with 1 where bad; None: no mask.
    saturation
        A pixel with this value or more is saturated, or marked as no pixel; inf where unknown.
    underload
        A pixel with a value below this is no count; -inf where unknown.
    gain
        Counts per photon; None where unknown.
    bandwidth
        Standard deviation of the wavelength over the wavelength; None where unknown.
    groups
        Names of panels that move as one, by name of the group; by default all are one group.

    Raises
    ------
    GeometryError
        A panel is upstream of the sample or outside of the layout, or a file cannot be written.
    """
    slabs = list(layout) or [Slab("", ("ss", "fs"), geometry.image_shape)]
    names = _panel_names(geometry.panels)
    clen_mm = _camera_length_mm(geometry)
    lines = [*_notes(geometry), *_beam(geometry, clen_mm, bandwidth)]
    lines += _pixel_lines(geometry, saturation, underload, gain)
    mask = path.with_name(path.stem + MASK_SUFFIX) if bad_pixels is not None else None
    datasets = {
        name: f"/data/mask{n or ''}" for n, name in enumerate(dict.fromkeys(s.dataset for s in slabs))
    }
    where = {slab: _data_lines(slab, mask, datasets[slab.dataset]) for slab in slabs}
    if len(slabs) == 1:
        lines += where.pop(slabs[0])
    for panel, name in zip(geometry.panels, names, strict=True):
        slab = _slab_of(panel, slabs, path)
        of_panel = _panel_lines(panel, geometry, slab, clen_mm) + where.get(slab, [])
        lines += ["", *(f"{name}/{line}" for line in of_panel)]
    lines += ["", *_group_lines(groups, geometry.panels, names)]
    try:
        if mask is not None and bad_pixels is not None:
            _write_mask(mask, bad_pixels, slabs, datasets)
        path.write_text("\n".join(lines) + "\n")
    except OSError as error:
        raise GeometryError(f"{path}: {error.strerror or error}; name another file") from error
    return path


def _panel_names(panels: Sequence[Panel]) -> list[str]:
    """Names of the panels if CrystFEL can have them all, else p0, p1 and so on."""
    names = [panel.name for panel in panels]
    usable = len(set(names)) == len(names) and all(_USABLE_NAME.fullmatch(name) for name in names)
    return names if usable else [f"p{number}" for number in range(len(panels))]


def beam_turn(geometry: Geometry) -> NDArray[np.float64]:
    """(3, 3) smallest rotation in the laboratory that brings the beam to -z."""
    beam, target = np.array(geometry.beam_direction), np.array([0.0, 0.0, -1.0])
    axis, cosine = np.cross(beam, target), float(beam @ target)
    if np.linalg.norm(axis) < 1e-15:
        return np.eye(3)
    if cosine < 0:
        raise GeometryError(
            f"beam direction {geometry.beam_direction} points to the source, expected about (0, 0, -1)"
        )
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + cosine)


def _in_crystfel(geometry: Geometry, vectors: ArrayLike) -> NDArray[np.float64]:
    """(n, 3) vectors of the laboratory in CrystFEL's frame; half a turn undoes itself."""
    return crystfel_to_laboratory(np.asarray(vectors, float) @ beam_turn(geometry).T)


def _camera_length_mm(geometry: Geometry) -> float:
    """Median distance of the panels' middles along the beam; what is left goes into ``coffset``."""
    middles = [
        np.array(p.origin_mm)
        + 0.5 * p.n_fast * p.pixel_size_mm[0] * np.array(p.fast_axis)
        + 0.5 * p.n_slow * p.pixel_size_mm[1] * np.array(p.slow_axis)
        for p in geometry.panels
    ]
    return round(float(np.median(_in_crystfel(geometry, middles)[:, 2])), 6)


def _notes(geometry: Geometry) -> list[str]:
    """What this file cannot say."""
    turned = math.degrees(math.acos(min(1.0, float(np.trace(beam_turn(geometry)) - 1) / 2)))
    notes = []
    if turned > 1e-6:
        notes.append(f"detector turned by {turned:.5f} degrees about the sample: here the beam is along z")
    if geometry.sensor_thickness_mm > 0:
        notes.append(
            f"sensor of {geometry.sensor_thickness_mm:g} mm that absorbs "
            f"{geometry.sensor_absorption_per_mm:.4g}/mm: CrystFEL does not correct for its parallax"
        )
    share = geometry.polarisation_fraction
    notes.append(f"{100 * share:.4g} % of the beam polarised horizontally: see indexamajig --polarisation")
    if any(not math.isclose(*panel.pixel_size_mm, rel_tol=1e-6) for panel in geometry.panels):
        notes.append("pixels are not square: res is that along fs, and the length of ss tells the other")
    return [f"; {note}" for note in notes]


def _beam(geometry: Geometry, clen_mm: float, bandwidth: float | None) -> list[str]:
    lines = [
        f"photon_energy = {gemmi.hc / geometry.wavelength:.9g} eV",
        f"clen = {clen_mm / 1e3:.12g} m",
    ]
    return lines + ([f"bandwidth = {bandwidth:.6g}"] if bandwidth else [])


def _pixel_lines(geometry: Geometry, saturation: float, underload: float, gain: float | None) -> list[str]:
    """What holds for the pixels of all panels."""
    lines = [f"res = {1e3 / geometry.panels[0].pixel_size_mm[0]:.12g}"]
    if gain:
        lines.append(f"adu_per_photon = {gain:.9g}")
    if math.isfinite(saturation):
        lines.append(f"flag_morethan = {below_saturation(saturation):.12g}")
    if math.isfinite(underload):
        lines.append(f"flag_lessthan = {from_underload(underload):.12g}")
    return lines


def _slab_of(panel: Panel, slabs: Sequence[Slab], path: Path) -> Slab:
    """The slab that holds a panel."""
    for slab in slabs:
        first = panel.slow_start - slab.slow_start
        if (
            first >= 0
            and first + panel.n_slow <= slab.shape[0]
            and panel.fast_start + panel.n_fast <= slab.shape[1]
        ):
            return slab
    raise GeometryError(
        f"{path}: panel {panel.name} fills rows {panel.slow_start} to {panel.slow_start + panel.n_slow - 1}, "
        f"columns {panel.fast_start} to {panel.fast_start + panel.n_fast - 1} of the image, which no part of "
        f"the data has as a whole: {', '.join(f'{s.dataset} {s.shape} from {s.slow_start}' for s in slabs)}"
    )


def _panel_lines(panel: Panel, geometry: Geometry, slab: Slab, clen_mm: float) -> list[str]:
    corner, fast, slow = _in_crystfel(geometry, [panel.origin_mm, panel.fast_axis, panel.slow_axis])
    if corner[2] <= 0 or np.abs(corner).max() > FARTHEST_MM:
        raise GeometryError(
            f"panel {panel.name} has its corner {corner[2]:g} mm downstream of the sample, expected more "
            f"than 0 and less than {FARTHEST_MM:g}: CrystFEL cannot use it"
        )
    pixel_mm, ratio = panel.pixel_size_mm[0], panel.pixel_size_mm[1] / panel.pixel_size_mm[0]
    first = panel.slow_start - slab.slow_start
    lines = [
        f"min_fs = {panel.fast_start}",
        f"max_fs = {panel.fast_start + panel.n_fast - 1}",
        f"min_ss = {first}",
        f"max_ss = {first + panel.n_slow - 1}",
        f"fs = {_vector(fast)}",
        f"ss = {_vector(slow * ratio)}",
        f"corner_x = {corner[0] / pixel_mm:.6f}",
        f"corner_y = {corner[1] / pixel_mm:.6f}",
        f"coffset = {(corner[2] - clen_mm) / 1e3:.9f}",
    ]
    if not math.isclose(pixel_mm, geometry.panels[0].pixel_size_mm[0], rel_tol=1e-12):
        lines.append(f"res = {1e3 / pixel_mm:.12g}")
    return lines


def _vector(values: NDArray[np.float64]) -> str:
    """Vector as CrystFEL writes it.

    Examples
    --------
    >>> _vector(np.array([-1.0, 0.25, 0.0]))
    '-1.0000000000x +0.2500000000y +0.0000000000z'
    """
    return " ".join(f"{value + 0.0:+.10f}{axis}" for value, axis in zip(values, "xyz", strict=True))


def _data_lines(slab: Slab, mask: Path | None, mask_dataset: str) -> list[str]:
    """Where pixels and mask are."""
    lines = []
    if slab.dataset:
        lines = [f"data = {slab.dataset}", *(f"dim{n} = {axis}" for n, axis in enumerate(slab.axes))]
    if mask is not None:
        lines += [f"mask0_file = {mask.name}", f"mask0_data = {mask_dataset}", "mask0_badbits = 0x1"]
    return lines


def _group_lines(
    groups: Mapping[str, Sequence[str]] | None, panels: Sequence[Panel], names: Sequence[str]
) -> list[str]:
    """Groups of panels by the names they have here, and the group of all that CrystFEL asks for."""
    here = dict(zip((panel.name for panel in panels), names, strict=True))
    given = {"all": list(here), **{name: list(members) for name, members in (groups or {}).items() if name}}
    if len(here) < len(names):  # the same name twice: members cannot be told apart
        return [f"group_all = {','.join(names)}"]
    return [
        f"group_{re.sub(r'[^A-Za-z0-9]+', '_', name)} = {','.join(here[member] for member in members)}"
        for name, members in given.items()
        if all(member in here for member in members)
    ]


def _write_mask(
    path: Path, bad_pixels: NDArray[np.bool_], slabs: Sequence[Slab], datasets: Mapping[str, str]
) -> None:
    """Write a mask for each dataset of images, of the same axes but that of the frames."""
    with h5py.File(path, "w") as file:
        for dataset, name in datasets.items():
            parts = [slab for slab in slabs if slab.dataset == dataset]
            axes = [axis for axis in parts[0].axes if axis != FRAME]
            sizes = {"ss": parts[0].shape[0], "fs": parts[0].shape[1]}
            numbers = [[a for a in part.axes if isinstance(a, int)] for part in parts]
            fixed = iter(np.max(numbers, axis=0) + 1)
            shape = [sizes[axis] if isinstance(axis, str) else int(next(fixed)) for axis in axes]
            mask = np.zeros(shape, np.uint8)
            for part in parts:
                rows = slice(part.slow_start, part.slow_start + part.shape[0])
                place = tuple(slice(None) if isinstance(a, str) else a for a in part.axes if a != FRAME)
                mask[place] = bad_pixels[rows, : part.shape[1]]
            file.create_dataset(name, data=mask, compression="gzip", shuffle=True)
