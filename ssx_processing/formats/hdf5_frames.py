"""Which dataset of which HDF5 file holds which frame, through virtual datasets and links.

``read_direct_chunk`` does not work through a virtual dataset, and HDF5 silently fills with zeros
where a source file is missing. So virtual datasets are resolved on opening to the datasets that
store pixels. A frame whose file is missing or not long enough yet is kept with the reason.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.frame_table import BandedFrames, Frames, FrameTable
from ssx_processing.formats.hdf5_files import dataset_at, linked_file, open_hdf5
from ssx_processing.formats.stored_frames import StoredFrames, image_shape, pixel_type
from ssx_processing.formats.virtual_selections import VirtualBlock, virtual_blocks


def frame_table(datasets: Sequence[h5py.Dataset], *, channels: bool = False) -> FrameTable:
    """Resolve datasets, of which the frames follow each other, to the datasets that store them.

    Raises
    ------
    ImageReadError
        A dataset holds no images, or the datasets do not fit together.
    """
    table = FrameTable(channels=channels)
    try:
        for dataset in datasets:
            table.extend(*resolve(dataset, table))
        if datasets:
            table.check_alike(datasets[0].file.filename)
    except BaseException:
        table.close()
        raise
    return table


def resolve(dataset: h5py.Dataset, table: FrameTable) -> tuple[Frames, Frames]:
    """Source and index of every frame of ``dataset``; what stores them is added to ``table``."""
    shape, _ = image_shape(dataset, channels=table.channels)
    table.files.add(Path(dataset.file.filename))
    if not dataset.is_virtual:
        return _stored_itself(dataset, table)
    table.announced = (shape, pixel_type(dataset))
    blocks = virtual_blocks(dataset, channels=table.channels)
    if blocks is None:
        return _left_to_hdf5(dataset, table)
    sources = _sources(dataset, blocks, table)
    for block in blocks:
        source = sources[block.source]
        if isinstance(source, h5py.Dataset) and block.there(source.shape) is None:
            return _left_to_hdf5(dataset, table)
    if all(block.here.rows == slice(0, shape[0]) for block in blocks):
        return _from_blocks(dataset, blocks, sources, table)
    return _from_bands(dataset, blocks, sources, table)


def _stored_itself(dataset: h5py.Dataset, table: FrameTable) -> tuple[Frames, Frames]:
    """Frames that ``dataset`` holds in order, or HDF5 for it."""
    stored = StoredFrames(dataset, channels=table.channels)
    table.stored.append(stored)
    return np.full(stored.n_frames, len(table.stored) - 1, np.int64), np.arange(
        stored.n_frames, dtype=np.int64
    )


Sources = dict[tuple[str, str], h5py.Dataset | str]
"""File name and dataset name to the dataset, or why there is none."""


def _sources(dataset: h5py.Dataset, blocks: Sequence[VirtualBlock], table: FrameTable) -> Sources:
    """Open what the blocks of a virtual dataset refer to."""
    sources: Sources = {}
    for block in blocks:
        if block.source not in sources:
            try:
                sources[block.source] = source_dataset(dataset, *block.source, table)
            except ImageReadError as error:
                sources[block.source] = str(error)
    return sources


def _from_blocks(
    dataset: h5py.Dataset, blocks: Sequence[VirtualBlock], sources: Sources, table: FrameTable
) -> tuple[Frames, Frames]:
    """Source and index of the frames of a virtual dataset whose blocks are made of whole images."""
    resolved = {
        key: found if isinstance(found, str) else resolve(found, table) for key, found in sources.items()
    }
    parts: list[tuple[Frames, Frames | int, Frames | int]] = []
    for block in blocks:
        found, opened = resolved[block.source], sources[block.source]
        if isinstance(found, str) or isinstance(opened, str):
            parts.append((block.frames(None)[0], table.lacks(str(found)), 0))
            continue
        here, there = block.frames(opened.shape)
        held = there < len(found[0])
        parts.append((here[held], found[0][there[held]], found[1][there[held]]))
        if not held.all():
            reason = f"{opened.file.filename}: {opened.name} holds {len(found[0])} frames, more are announced"
            parts.append((here[~held], table.lacks(reason), 0))
    n_frames = max([dataset.shape[0], *(int(here.max()) + 1 for here, _, _ in parts if here.size)])
    source = np.full(n_frames, table.lacks(f"{dataset.file.filename}: {dataset.name} takes it from no file"))
    index = np.zeros(n_frames, np.int64)
    for here, from_source, from_index in parts:
        source[here], index[here] = from_source, from_index
    return source, index


def _from_bands(
    dataset: h5py.Dataset, blocks: Sequence[VirtualBlock], sources: Sources, table: FrameTable
) -> tuple[Frames, Frames]:
    """Source and index of the frames of a virtual dataset put together from bands of rows."""
    bands: list[tuple[slice, FrameTable]] = []
    for rows in sorted({(block.here.rows.start, block.here.rows.stop) for block in blocks}):
        of_band = [block for block in blocks if block.here.rows == slice(*rows)]
        band = FrameTable(channels=table.channels)
        own = {block.source: sources[block.source] for block in of_band}
        band.extend(*_from_blocks(dataset, of_band, own, band))
        table.files |= band.files
        bands.append((slice(*rows), band))
    types = {stored.pixel_type for _, band in bands for stored in band.stored}
    if len(types) > 1:
        return _left_to_hdf5(dataset, table)
    n_frames = min(len(band) for _, band in bands)
    source = np.full(n_frames, len(table.stored), np.int64)
    for _, band in bands:
        for number, reason in enumerate(band.reasons):
            source[band.source[:n_frames] == -1 - number] = table.lacks(reason)
    if types:
        table.stored.append(BandedFrames(dataset, bands, image_shape(dataset, channels=table.channels)[0]))
    return source, np.arange(n_frames, dtype=np.int64)


def _left_to_hdf5(dataset: h5py.Dataset, table: FrameTable) -> tuple[Frames, Frames]:
    """Source and index where HDF5 has to put frames together: there only if all sources are."""
    try:
        for block in dataset.virtual_sources():
            found = source_dataset(dataset, block.file_name, block.dset_name, table)
            table.files.add(Path(found.file.filename))
            if not _holds(found, block.src_space, block.vspace.get_select_npoints()):
                raise ImageReadError(
                    f"{found.file.filename}: {found.name} has shape {found.shape}, more is announced"
                )
    except ImageReadError as error:
        n_frames = dataset.shape[0] if dataset.ndim > 2 else 1
        return np.full(n_frames, table.lacks(str(error))), np.zeros(n_frames, np.int64)
    return _stored_itself(dataset, table)


def _holds(source: h5py.Dataset, space: h5py.h5s.SpaceID, n_pixels: int) -> bool:
    """Whether a source has all that a virtual dataset takes from it: ``space``, of ``n_pixels``."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return n_pixels <= math.prod(source.shape)
    _, last = space.get_select_bounds()
    return source.ndim == len(last) and all(np.less(last, source.shape))


def source_dataset(
    dataset: h5py.Dataset, file_name: str, dataset_name: str, table: FrameTable
) -> h5py.Dataset:
    """Dataset behind one entry of a virtual dataset.

    Raises
    ------
    ImageReadError
        It does not exist, or its file is missing or damaged.
    """
    if file_name == ".":
        return dataset_at(dataset.file, dataset_name)
    path = linked_file(Path(dataset.file.filename), file_name)
    if path is None:
        raise ImageReadError(
            f"{dataset.file.filename}: virtual dataset {dataset.name} needs {file_name}, "
            "which is missing; put that file beside this one"
        )
    table.opened.append(open_hdf5(path))
    return dataset_at(table.opened[-1], dataset_name)
