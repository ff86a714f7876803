"""Where an NXmx file or a DECTRIS FileWriter master keeps its images, and how many it announces."""

import re

import h5py
import numpy as np
import nxmx

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frame_table import FrameTable
from ssx_processing.formats.hdf5_files import being_written, dataset_at, group_at
from ssx_processing.formats.hdf5_frames import resolve


class UnknownLayoutError(ImageReadError):
    """An HDF5 file that is neither NXmx nor a FileWriter master."""


def find_entry(file: h5py.File, *, any_with_data: bool) -> tuple[h5py.Group, bool]:
    """Entry with the images, and whether it is NXmx (else a FileWriter master).

    Parameters
    ----------
    any_with_data
        An entry without metadata, but with image data, will do.

    Raises
    ------
    UnknownLayoutError
        There is none.
    """
    entries = nxmx.find_class(file, "NXentry")
    for group in entries:
        definition = group.get("definition")
        if isinstance(definition, h5py.Dataset) and nxmx.h5str(nxmx.h5scalar(definition).item()) == "NXmx":
            return group, True
    for group in entries:
        if "instrument/detector/x_pixel_size" in group and "instrument/beam" in group and "data" in group:
            return group, False
    if any_with_data:
        for group in [*entries, file.get("entry")]:
            if isinstance(group, h5py.Group) and isinstance(group.get("data"), h5py.Group):
                return group, False
    hint = "; if this is a data file, give its master" if "entry/data" in file else ""
    raise UnknownLayoutError(f"{file.filename}: HDF5, but neither NXmx nor a DECTRIS FileWriter master{hint}")


def find_detector(entry: h5py.Group) -> h5py.Group | None:
    """Group of the first detector of the first instrument; None if there is none."""
    for instrument in nxmx.find_class(entry, "NXinstrument"):
        for detector in nxmx.find_class(instrument, "NXdetector"):
            return detector
    return None


def entry_frames(entry: h5py.Group) -> FrameTable:
    """Where the frames of an entry are: one dataset, or ``data_000001`` and so on.

    Frames that are announced but not there yet are in the table, with the reason.

    Raises
    ------
    ImageReadError
        There are no image data, or links lead nowhere and nothing says how many frames there will be.
    """
    groups = nxmx.find_class(entry, "NXdata")
    group = groups[0] if groups else group_at(entry, "data")
    signal = nxmx.h5str(group.attrs.get("signal")) or "data"
    table = FrameTable(channels=has_channels(group))
    try:
        if group.get(signal, getlink=True) is not None:
            _one_dataset(entry, group, signal, table)
        else:
            _numbered_datasets(entry, group, signal, table)
        table.check_alike(entry.file.filename)
    except RecursionError as error:
        raise ImageReadError(
            f"{entry.file.filename}: {group.name}/{signal} is a virtual dataset that refers to itself"
        ) from error
    except BaseException:
        table.close()
        raise
    return table


def _one_dataset(entry: h5py.Group, group: h5py.Group, name: str, table: FrameTable) -> None:
    """Frames of one dataset, with those that a detector still writing it has announced."""
    announced = announced_frames(entry)
    try:
        dataset = dataset_at(group, name)
    except ImageReadError as error:
        if not announced:
            raise
        table.pad(announced, str(error))
        return
    table.extend(*resolve(dataset, table))
    resizable = dataset.ndim > 2 and (dataset.maxshape or (0,))[0] is None
    if resizable and (dataset.is_virtual or _growing(table)):
        table.pad(announced, f"{dataset.file.filename}: {dataset.name} has grown to {len(table)} frames")


def _numbered_datasets(entry: h5py.Group, group: h5py.Group, signal: str, table: FrameTable) -> None:
    """Frames of ``data_000001`` and so on, as far as they are needed and there."""
    names = sorted(name for name in list[str](group) if re.fullmatch(r"data_\d+", name))
    if not names:
        raise ImageReadError(f"{entry.file.filename}: {group.name} has neither {signal} nor data_000001")
    announced = announced_frames(entry)
    for name in names:
        if announced and len(table) >= announced:
            return  # some masters link to more files than the detector wrote
        try:
            table.extend(*resolve(dataset_at(group, name), table))
        except ImageReadError as error:
            if not announced:
                raise
            table.pad(announced, str(error))
            return
    if _growing(table):
        table.pad(announced, f"{entry.file.filename}: its data files have grown to {len(table)} frames")


def _growing(table: FrameTable) -> bool:
    """Whether a detector still writes one of the files."""
    return any(being_written(path) for path in table.files)


def has_channels(group: h5py.Group) -> bool:
    """Whether the second axis of the images counts channels, as FileWriter 2 has them, not modules."""
    axes = [nxmx.h5str(axis) for axis in np.ravel(group.attrs.get("axes", []))]
    return len(axes) > 1 and axes[1] == "channel"


def announced_frames(entry: h5py.Group) -> int:
    """Number of frames that the detector was asked for; 0 if the file does not say."""
    product = 1
    for name in ("nimages", "ntrigger"):
        dataset = entry.get(f"instrument/detector/detectorSpecific/{name}")
        if isinstance(dataset, h5py.Dataset) and dataset.size == 1 and dataset.dtype.kind in "iu":
            product *= max(int(nxmx.h5scalar(dataset)), 0)
        elif name == "nimages":
            return 0
    return product


def announced_image(entry: h5py.Group) -> tuple[tuple[int, int], np.dtype] | None:
    """Image shape and pixel type that the detector's metadata announce; None if they do not."""
    values = []
    for name in (
        "detectorSpecific/y_pixels_in_detector",
        "detectorSpecific/x_pixels_in_detector",
        "bit_depth_image",
    ):
        dataset = entry.get(f"instrument/detector/{name}")
        if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or dataset.dtype.kind not in "iu":
            return None
        values.append(int(nxmx.h5scalar(dataset)))
    slow, fast, bits = values
    if bits not in (8, 16, 32) or min(slow, fast) < 1:
        return None
    return (slow, fast), np.dtype(f"u{bits // 8}")
