"""What a virtual dataset takes from where, in frames and rows of images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import h5py
import numpy as np
from h5py import h5s
from numpy.typing import NDArray

from ssx_processing.formats.hdf5_files import linked_file

Frames = NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """A selection that consists of whole rows of images."""

    rows: slice
    start: int
    stride: int
    count: int | None
    """None: as many as there are."""
    block: int

    def frames(self, limit: int) -> Frames:
        """Selected frames, in order; of a selection without an end those below ``limit``."""
        n_blocks = -(-limit // self.stride) if self.count is None else self.count
        steps = np.arange(n_blocks, dtype=np.int64)[:, None] * self.stride
        frames = (self.start + steps + np.arange(self.block, dtype=np.int64)).reshape(-1)
        return frames[frames < limit] if self.count is None else frames


@dataclass(frozen=True)
class VirtualBlock:
    """Rows of images that a virtual dataset takes from one source dataset."""

    file_name: str
    dataset_name: str
    here: Selection
    """In the virtual dataset."""
    space: h5s.SpaceID
    """Selection in the source, of which the shape is known only when it is opened."""
    channels: bool = False

    @property
    def source(self) -> tuple[str, str]:
        """File and dataset."""
        return self.file_name, self.dataset_name

    def there(self, shape: tuple[int, ...]) -> Selection | None:
        """Selection in a source of ``shape``; None unless it takes whole images that fit here."""
        found = selection(self.space, shape, channels=self.channels)
        n_rows = image_rows(shape, channels=self.channels)
        if (
            found is None
            or found.rows != slice(0, n_rows)
            or self.here.rows.stop - self.here.rows.start != n_rows
        ):
            return None
        return found

    def frames(self, shape: tuple[int, ...] | None) -> tuple[Frames, Frames]:
        """Frames here and the same frames in a source of ``shape``, None where that is missing."""
        there = None if shape is None else self.there(shape)
        if there is None or shape is None:
            here = self.here.frames(0)
            return here, np.zeros_like(here)
        n_frames = shape[0] if len(shape) > 2 else 1
        frames_there = there.frames(n_frames)
        if self.here.count is None:
            n_blocks = -(-len(frames_there) // self.here.block)
            here = replace(self.here, count=n_blocks).frames(0)[: len(frames_there)]
        else:
            here = self.here.frames(0)
        if self.space.get_select_type() == h5s.SEL_ALL:  # as announced; the file may hold fewer
            frames_there = np.arange(len(here), dtype=np.int64)
        n = min(len(here), len(frames_there))
        return here[:n], frames_there[:n]


def virtual_blocks(dataset: h5py.Dataset, *, channels: bool = False) -> list[VirtualBlock] | None:
    """Blocks of a virtual dataset; None if it is put together in a way that only HDF5 should follow.

    Parameters
    ----------
    channels
        The second of four axes counts energy thresholds: the first is taken.
    """
    blocks: list[VirtualBlock] = []
    for block in dataset.virtual_sources():
        if channels and dataset.ndim == 4 and block.vspace.get_select_bounds()[0][1] > 0:
            continue
        here = selection(block.vspace, dataset.shape, channels=channels)
        if dataset.ndim < 3 or here is None:
            return None
        found = VirtualBlock(block.file_name, block.dset_name, here, block.src_space, channels)
        blocks += _numbered_blocks(dataset, found) if "%b" in block.file_name else [found]
    return blocks


def _numbered_blocks(dataset: h5py.Dataset, block: VirtualBlock) -> Iterator[VirtualBlock]:
    """Blocks that are in files with a number in their name (%b), as many as there are."""
    for number in count():
        file_name = block.file_name.replace("%b", str(number))
        if linked_file(Path(dataset.file.filename), file_name) is None:
            return
        here = replace(block.here, start=block.here.start + number * block.here.stride, count=1)
        name = block.dataset_name.replace("%b", str(number))
        yield replace(block, file_name=file_name, dataset_name=name, here=here)


def selection(space: h5s.SpaceID, shape: tuple[int, ...], *, channels: bool = False) -> Selection | None:
    """Rows and frames that a selection in a dataset of ``shape`` covers; None unless whole rows."""
    frame_axes = 1 if len(shape) > 2 else 0
    if space.get_select_type() == h5s.SEL_ALL:
        ranges = [(0, n) for n in shape[frame_axes:]]
        frames = (0, 1, max(shape[:frame_axes], default=1), 1)
    elif space.get_select_type() == h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        axes: list[tuple[int, int, int, int]] = list(zip(*space.get_regular_hyperslab(), strict=True))
        if len(axes) != len(shape) or not all(_without_holes(*axis) for axis in axes[frame_axes:]):
            return None
        ranges = [(start, start + number * block) for start, _, number, block in axes[frame_axes:]]
        frames = axes[0] if frame_axes else (0, 1, 1, 1)
    else:
        return None
    if channels and len(shape) == 4:
        ranges = ranges[1:]
    rows = _rows(ranges, shape)
    if rows is None:
        return None
    start, stride, number, block = frames
    if block == h5s.UNLIMITED:
        return Selection(rows, start, 1, None, 1)
    return Selection(rows, start, stride, None if number == h5s.UNLIMITED else number, block)


def image_rows(shape: tuple[int, ...], *, channels: bool = False) -> int:
    """Rows of the images in a dataset of ``shape``, modules below each other."""
    return shape[-2] * (shape[1] if len(shape) == 4 and not channels else 1)


def _without_holes(_: int, stride: int, number: int, block: int) -> bool:
    """Whether a selection along one axis is one piece, with an end."""
    return h5s.UNLIMITED not in (number, block) and (number == 1 or stride == block)


def _rows(ranges: list[tuple[int, int]], shape: tuple[int, ...]) -> slice | None:
    """Rows of the image that ranges of (modules,) slow and fast cover; None if not whole rows."""
    if ranges[-1] != (0, shape[-1]):
        return None
    n_slow = shape[-2]
    first, last = ranges[-2]
    if len(ranges) == 2:
        return slice(first, last)
    module, end = ranges[0]
    if (first, last) != (0, n_slow) and end != module + 1:
        return None
    return slice(module * n_slow + first, (end - 1) * n_slow + last)
