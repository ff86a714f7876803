"""Which pixels a CrystFEL geometry file calls bad: regions, panels, edges, masks, and limits of values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_syntax import GeomText
from ssx_processing.formats.crystfel_values import Values
from ssx_processing.formats.geometry_model import FRAME, Slab
from ssx_processing.formats.hdf5_files import open_hdf5
from ssx_processing.formats.hdf5_placeholders import FramePlace, frame_places, substituted
from ssx_processing.formats.nxmx_frames import is_hdf5

TYPE_LIMITS = {float(2**bits - 1) for bits in (8, 15, 16, 31, 32)}
"""Largest values of integer pixels."""
TYPE_FLOORS = {-float(2**bits) for bits in (7, 15, 31)}


@dataclass(frozen=True)
class PlacedPanel:
    """A panel's fields, and the part of the image that it is in."""

    values: Values
    slab: Slab
    in_slab: tuple[slice, slice]
    """Its pixels in the slab."""
    in_image: tuple[slice, slice]
    """Its pixels in the image."""


def place_panel(values: Values, slab: Slab) -> PlacedPanel:
    """Panel with its pixels."""
    rows = slice(values.integer("min_ss"), values.integer("max_ss") + 1)
    columns = slice(values.integer("min_fs"), values.integer("max_fs") + 1)
    start = slab.slow_start
    return PlacedPanel(values, slab, (rows, columns), (slice(rows.start + start, rows.stop + start), columns))


def bad_pixels(
    geom: GeomText,
    placed: Sequence[PlacedPanel],
    image_shape: tuple[int, int],
    data: Path | None,
    file: h5py.File | None,
) -> NDArray[np.bool_]:
    """Pixels outside all panels, in bad regions, at edges, and those that masks call bad.

    Parameters
    ----------
    data, file
        The file of images, and the same opened if it is HDF5; masks are left out without ``data``.
    """
    bad = np.ones(image_shape, bool)
    for panel in placed:
        inside = bad[panel.in_image]
        inside[:] = panel.values.flag("no_index")
        edge = panel.values.integer("mask_edge_pixels", 0)
        if edge > 0:
            middle = inside[edge:-edge, edge:-edge].copy()
            inside[:] = True
            inside[edge:-edge, edge:-edge] = middle
    for name, fields in geom.regions.items():
        _add_region(Values(geom, name, fields), placed, bad)
    if data is not None:
        _add_masks(placed, data, file, bad)
    return bad


def _add_region(region: Values, placed: Sequence[PlacedPanel], bad: NDArray[np.bool_]) -> None:
    """Mark the pixels of a bad region."""
    in_data = [f"{end}_{axis}" for axis in ("fs", "ss") for end in ("min", "max")]
    in_space = [f"{end}_{axis}" for axis in "xy" for end in ("min", "max")]
    given = [[name for name in names if name in region] for names in (in_data, in_space)]
    if all(given):
        raise GeometryError(f"{region.geom.path}: {region.owner} mixes fs/ss with x/y; give one of them")
    panels = placed
    if "panel" in region:
        panels = [panel for panel in placed if panel.values.owner == region.text("panel")]
        if not panels:
            raise region.error("panel", "there is no such panel")
    names = in_data if given[0] else in_space
    limits = [region.number(name) for name in names]
    for name, low, high in zip(names[1::2], limits[::2], limits[1::2], strict=True):
        if low > high:
            raise region.error(name, f"is less than the lower limit, {low:g}, so it would mask nothing")
    if not given[0]:
        for panel in panels:
            bad[panel.in_image] |= _within(panel, limits)
        return
    if len({panel.slab for panel in panels}) > 1:
        region.text("panel")  # an error: in which of the slabs?
    marked = [_add_rectangle(panel, region, bad) for panel in panels]
    if not any(marked):
        name = "panel" if "panel" in region else "min_fs"
        raise region.error(name, f"{region.owner} lies outside of the panel, so it would mask nothing")


def _add_rectangle(panel: PlacedPanel, region: Values, bad: NDArray[np.bool_]) -> bool:
    """Mark pixels of a panel by their indices in the data, ends included; false if it has none of them."""
    rows, columns = (
        slice(max(region.integer(f"min_{axis}"), own.start), min(region.integer(f"max_{axis}") + 1, own.stop))
        for axis, own in zip(("ss", "fs"), panel.in_slab, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return False
    start = panel.slab.slow_start
    bad[rows.start + start : rows.stop + start, columns] = True
    return True


def _within(panel: PlacedPanel, limits: Sequence[float]) -> NDArray[np.bool_]:
    """Pixels of a panel whose centres are within limits of x and y, in CrystFEL's frame and pixels."""
    values = panel.values
    rows, columns = panel.in_slab
    n_slow, n_fast = rows.stop - rows.start, columns.stop - columns.start
    fs, ss = values.vector("fs"), values.vector("ss")
    inside = np.zeros((n_slow, n_fast), bool)
    corners = [values.number("corner_x"), values.number("corner_y")]
    for axis in (0, 1):
        steps = n_fast * float(fs[axis]), n_slow * float(ss[axis])
        least = corners[axis] + sum(min(step, 0.0) for step in steps)
        most = corners[axis] + sum(max(step, 0.0) for step in steps)
        if most < limits[2 * axis] or least > limits[2 * axis + 1]:
            return inside  # most panels are far from most regions
    slow, fast = np.arange(n_slow)[:, None] + 0.5, np.arange(n_fast) + 0.5
    inside[:] = True
    for axis in (0, 1):
        position = corners[axis] + fast * fs[axis] + slow * ss[axis]
        inside &= (limits[2 * axis] <= position) & (position <= limits[2 * axis + 1])
    return inside


def mask_files(panels: Iterable[Values]) -> tuple[Path, ...]:
    """Files of masks that are not in the file of images, as far as they are there."""
    found = {
        _mask_path(values, name): None
        for values in panels
        for name in values.fields
        if name.startswith("mask") and name.endswith("_file")
    }
    return tuple(path for path in found if path.is_file())


def _mask_path(values: Values, name: str) -> Path:
    """Path of a mask file: beside the geometry file, else in the working directory, as CrystFEL has it."""
    beside = values.geom.path.parent / values.text(name)
    return beside if beside.exists() else Path(values.text(name)).absolute()


def _add_masks(
    placed: Sequence[PlacedPanel], data: Path, file: h5py.File | None, bad: NDArray[np.bool_]
) -> None:
    """Mark what the masks of all panels call bad."""
    places = frame_places(file, placed[0].slab) if file is not None else []
    read: dict[tuple[Path, str, Slab], list[NDArray[np.int64]]] = {}
    for panel in placed:
        values = panel.values
        for number in range(8):
            name = f"mask{number}_data"
            if name not in values:
                continue
            good, wrong = (values.integer(f"mask{number}_{bits}bits", 0) for bits in ("good", "bad"))
            if not good and not wrong:
                raise values.error(name, f"has neither mask{number}_goodbits nor mask{number}_badbits")
            own_file = f"mask{number}_file"
            path = _mask_path(values, own_file) if own_file in values else data
            key = (path, values.text(name), panel.slab)
            if key not in read:
                read[key] = _masks(values, name, path, panel.slab, places)
            for mask in read[key]:
                bits = mask[panel.in_slab]
                bad[panel.in_image] |= ((bits & good) != good) | ((bits & wrong) != 0)


def _masks(
    values: Values, name: str, path: Path, slab: Slab, places: Sequence[FramePlace]
) -> list[NDArray[np.int64]]:
    """Mask of a slab; those of the first, middle and last frame where every frame has its own."""
    if not path.is_file() or not is_hdf5(path):
        raise values.error(name, f"{path} is no HDF5 file that could hold this mask")
    masks: list[NDArray[np.int64]] = []
    some = [places[0], places[len(places) // 2], places[-1]] if places else [FramePlace((), None)]
    with open_hdf5(path) as file:
        for place in dict.fromkeys(some):
            dataset = file.get(substituted(values.text(name), place.values))
            if not isinstance(dataset, h5py.Dataset):
                raise values.error(name, f"{path} has no such mask")
            axes = slab.axes
            if dataset.ndim == len(axes) - axes.count(FRAME):
                axes = tuple(axis for axis in axes if axis != FRAME)
            chosen = [{FRAME: place.index, "ss": slice(None), "fs": slice(None)}.get(str(a), a) for a in axes]
            mask = np.asarray(dataset[tuple(chosen)]) if dataset.ndim == len(axes) else np.empty(0)
            if mask.shape != slab.shape:
                raise values.error(
                    name, f"has shape {dataset.shape} in {path}, the data {slab.shape} with axes {slab.axes}"
                )
            masks.append(mask.astype(np.int64))
            if FRAME not in axes and FRAME not in values.text(name):
                break
    return masks


def value_limits(panels: Iterable[Values]) -> tuple[float, float]:
    """Underload and saturation: below the one, and from the other on, a value is no count."""
    low, high = -np.inf, np.inf
    for values in panels:
        if "max_adu" in values:
            high = min(high, values.number("max_adu"))
        if "flag_morethan" in values:
            high = min(high, float(np.nextafter(values.number("flag_morethan"), np.inf)))
        if "flag_lessthan" in values:
            low = max(low, values.number("flag_lessthan"))
        if "flag_equal" not in values:
            continue
        marked = values.number("flag_equal")
        if marked in TYPE_LIMITS:
            high = min(high, marked)
        elif marked in TYPE_FLOORS:
            low = max(low, marked + 1)
        else:
            raise values.error(
                "flag_equal", "only the largest or smallest value of a type can be flagged; "
                "use flag_lessthan or flag_morethan, or a mask",
            )  # fmt: skip
    return low, high
