"""Where the frames of an HDF5 file are, when its paths have placeholders: /%/data, one group a frame."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import h5py

from ssx_processing.formats.geometry_model import FRAME, Slab


@dataclass(frozen=True)
class FramePlace:
    """Where one frame is."""

    values: tuple[str, ...]
    """What the placeholders of the paths stand for."""
    index: int | None
    """Along the axis of frames; None where the datasets have none."""


def frame_places(file: h5py.File, slab: Slab) -> list[FramePlace]:
    """Places of all frames, as the dataset of one slab has them; empty where there is no such dataset."""
    places: list[FramePlace] = []
    for values in placeholder_values(file, slab.dataset):
        if FRAME not in slab.axes:
            places.append(FramePlace(values, None))
            continue
        shape = file[substituted(slab.dataset, values)].shape  # pyright: ignore[reportAttributeAccessIssue]
        axis = slab.axes.index(FRAME)
        if axis < len(shape):
            places += [FramePlace(values, index) for index in range(shape[axis])]
    return places


def placeholder_values(file: h5py.File, path: str) -> list[tuple[str, ...]]:
    """All that the placeholders of ``path`` can stand for so that it leads to a dataset.

    Returns
    -------
    One tuple for each dataset, numbers in names in order of their value; ``[()]`` for a path
    without placeholders, and an empty list where there is nothing.
    """
    return _values(file, [part for part in path.split("/") if part])


def _values(group: h5py.Group, parts: list[str]) -> list[tuple[str, ...]]:
    """Values below one group."""
    if not parts:
        return []
    fixed = next((i for i, part in enumerate(parts) if FRAME in part), len(parts))
    if fixed:
        below = group.get("/".join(parts[:fixed]))
        if fixed == len(parts):
            return [()] if isinstance(below, h5py.Dataset) else []
        return _values(below, parts[fixed:]) if isinstance(below, h5py.Group) else []
    pattern = re.compile("(.+)".join(re.escape(text) for text in parts[0].split(FRAME)))
    found: list[tuple[str, ...]] = []
    for name in sorted(group, key=_natural):
        match = pattern.fullmatch(name)
        if match is None:
            continue
        below = group.get(name)
        if len(parts) == 1:
            found += [match.groups()] if isinstance(below, h5py.Dataset) else []
        elif isinstance(below, h5py.Group):
            found += [match.groups() + rest for rest in _values(below, parts[1:])]
    return found


def substituted(path: str, values: Sequence[str]) -> str:
    """Path with its placeholders replaced, from the first on; it may have fewer than there are values.

    >>> substituted("/%/data", ["tag-7"])
    '/tag-7/data'
    """
    first, *others = path.split(FRAME)
    return first + "".join(value + text for value, text in zip(values, others, strict=False))


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts numbers in names by value."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", name)]
