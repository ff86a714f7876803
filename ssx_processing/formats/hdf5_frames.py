"""Which bytes of which HDF5 file hold which frame, through virtual datasets and links.

``read_direct_chunk`` does not work through a virtual dataset, and HDF5 silently fills with zeros
where a source file is missing. So virtual datasets are resolved once, on opening, to the datasets
that store pixels; missing files are errors.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.decompression import ChunkBuffer, Codec, codec_of, decompress

_END_OF_FILE_AT = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where the superblock of each version, with addresses of 8 bytes, holds the end of the file."""
_STORED_TYPES = ("u1", "u2", "u4", "i2", "i4", "f4")
_CONVERTED_TYPES = {"i1": "i2", "i8": "i4", "u8": "u4", "f2": "f4", "f8": "f4"}


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading, also while a detector still writes (SWMR).

    Raises
    ------
    ImageReadError
        HDF5 cannot open it, for instance because it is truncated.
    """
    refuse_truncated(path)
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise ImageReadError(f"{path}: HDF5 cannot open it ({error}); copy or collect it again") from error


def refuse_truncated(path: Path) -> None:
    """Compare the file's size with what its superblock says.

    With SWMR, HDF5 takes a file cut short for one that still grows, and waits for its metadata for ever.

    Raises
    ------
    ImageReadError
        The file is shorter than it was when it was closed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror or error}") from error
    if len(head) < 64 or not head.startswith(b"\x89HDF\r\n\x1a\n"):
        return  # HDF5 will say it; a user block before the signature is nothing we meet
    version, swmr_writing = head[8], head[8] >= 3 and head[11] & 4
    if swmr_writing or version > 3:
        return
    (end,) = struct.unpack_from("<Q", head, _END_OF_FILE_AT[version])
    if size < end:
        raise ImageReadError(f"{path}: truncated, {size} of {end} bytes are there; copy or collect it again")


def follow(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Object ``name`` below ``group``, through any links.

    Raises
    ------
    ImageReadError
        There is no such object, or a link leads nowhere; the message names the missing file.
    """
    try:
        found = group[name]
    except (KeyError, OSError, RuntimeError) as error:
        raise ImageReadError(f"{group.file.filename}: {_dead_end(group, name)} ({error})") from error
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ImageReadError(f"{group.file.filename}: {name} is neither a group nor a dataset")
    return found


def dataset_at(group: h5py.Group, name: str) -> h5py.Dataset:
    """Dataset ``name`` below ``group``; as ``follow``."""
    found = follow(group, name)
    if not isinstance(found, h5py.Dataset):
        raise ImageReadError(f"{group.file.filename}: {group.name}/{name} is not a dataset")
    return found


def group_at(group: h5py.Group, name: str) -> h5py.Group:
    """Group ``name`` below ``group``; as ``follow``."""
    found = follow(group, name)
    if not isinstance(found, h5py.Group):
        raise ImageReadError(f"{group.file.filename}: {group.name}/{name} is not a group")
    return found


def _dead_end(group: h5py.Group, name: str) -> str:
    """Say why ``name`` cannot be opened."""
    link = group.get(name, getlink=True)
    where = name if name.startswith("/") else f"{(group.name or '').rstrip('/')}/{name}"
    if isinstance(link, h5py.SoftLink) and link.path != name:
        return f"{where} -> {_dead_end(group, link.path)}"
    if isinstance(link, h5py.ExternalLink):
        return (
            f"{where} links to {link.path} in {link.filename}, which is missing or unreadable; "
            "put that file beside this one"
        )
    return f"{where} does not exist"


class StoredFrames:
    """A dataset that stores frames itself, one after the other."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.file = Path(dataset.file.filename)
        self.name = str(dataset.name)
        self.image_shape: tuple[int, int] = dataset.shape[-2:]
        self.n_frames = dataset.shape[0] if dataset.ndim == 3 else 1
        native = dataset.dtype.newbyteorder("=")
        self.pixel_type = np.dtype(_CONVERTED_TYPES.get(native.str[1:], native))
        if self.pixel_type.str[1:] not in _STORED_TYPES:
            raise ImageReadError(f"{self.file}: {self.name} holds {dataset.dtype}, which are not pixels")
        self.codec = self._direct_codec()

    def _direct_codec(self) -> Codec | None:
        """Codec for reading chunks directly; None where HDF5 has to do the reading."""
        dataset = self._dataset
        one_frame = ((1, *self.image_shape), self.image_shape)
        if dataset.is_virtual or dataset.chunks not in one_frame or dataset.dtype != self.pixel_type:
            return None
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        return codec_of([(number, values) for number, _, values, _ in filters])

    def read(self, index: int, out: NDArray[np.generic], buffer: ChunkBuffer) -> None:
        """Fill ``out`` with frame ``index`` of this dataset.

        Raises
        ------
        ImageReadError
            The frame is truncated, damaged or was never written.
        """
        try:
            if self.codec is None:
                source = np.s_[index] if self._dataset.ndim == 3 else np.s_[()]
                self._dataset.read_direct(out, source)
                return
            offset = (index, 0, 0) if self._dataset.ndim == 3 else (0, 0)
            mask, chunk = buffer.fetch(self._dataset.id, offset)
            decompress(chunk, Codec.NONE if mask else self.codec, out)
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageReadError(f"{self.file}: frame {index} of {self.name} {error}") from error

    def close(self) -> None:
        """Close the file that holds the dataset."""
        if self._dataset:  # false once its file is closed
            self._dataset.file.close()


@dataclass
class FrameTable:
    """Where every frame of a data set is stored."""

    stored: list[StoredFrames]
    source: NDArray[np.int64]
    """Frame to element of ``stored``; -1 where no file holds the frame."""
    index: NDArray[np.int64]
    """Frame to frame within that element."""
    files: set[Path] = field(default_factory=set)
    """Files on the way to the pixels."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.source)


def frame_table(datasets: list[h5py.Dataset]) -> FrameTable:
    """Resolve datasets, of which the frames follow each other, to the datasets that store them.

    Raises
    ------
    ImageReadError
        A source file is missing, or the datasets do not fit together.
    """
    table = FrameTable([], np.empty(0, np.int64), np.empty(0, np.int64))
    parts = [_resolve(dataset, table) for dataset in datasets]
    table.source = np.concatenate([source for source, _ in parts])
    table.index = np.concatenate([index for _, index in parts])
    kinds = {(stored.image_shape, stored.pixel_type) for stored in table.stored}
    if len(kinds) > 1:
        names = ", ".join(f"{shape} {dtype}" for shape, dtype in kinds)
        raise ImageReadError(f"{datasets[0].file.filename}: its datasets differ in shape or type: {names}")
    return table


def _resolve(dataset: h5py.Dataset, table: FrameTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and index of every frame of ``dataset``; what stores them is added to ``table``."""
    if dataset.ndim not in (2, 3):
        shape = dataset.shape
        raise ImageReadError(
            f"{dataset.file.filename}: {dataset.name} has shape {shape}, expected (frames, slow, fast)"
        )
    table.files.add(Path(dataset.file.filename))
    blocks = _virtual_blocks(dataset) if dataset.is_virtual else None
    if blocks is None:
        table.stored.append(StoredFrames(dataset))
        n_frames = table.stored[-1].n_frames
        return np.full(n_frames, len(table.stored) - 1, np.int64), np.arange(n_frames, dtype=np.int64)
    source = np.full(dataset.shape[0], -1, np.int64)
    index = np.zeros(dataset.shape[0], np.int64)
    resolved: dict[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for file_name, dataset_name, here, there in blocks:
        key = (file_name, dataset_name)
        if key not in resolved:
            resolved[key] = _resolve(_source_dataset(dataset, *key), table)
        held = there < len(resolved[key][0])
        source[here[held]] = resolved[key][0][there[held]]
        index[here[held]] = resolved[key][1][there[held]]
    return source, index


VirtualBlock = tuple[str, str, NDArray[np.int64], NDArray[np.int64]]
"""Source file, source dataset, frames here, the same frames there."""


def _virtual_blocks(dataset: h5py.Dataset) -> list[VirtualBlock] | None:
    """Blocks of whole frames of a virtual dataset; None if it is put together in another way."""
    blocks: list[VirtualBlock] = []
    whole = True
    for block in dataset.virtual_sources():
        if "%" in block.file_name + block.dset_name:
            return None
        here = _whole_frames(block.vspace, dataset.shape)
        source = _source_dataset(dataset, block.file_name, block.dset_name)  # must exist in any case
        there = _whole_frames(block.src_space, source.shape)
        if here is not None and block.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            there = np.arange(len(here), dtype=np.int64)  # as announced; the file may hold fewer
        if here is None or there is None or len(here) != len(there):
            whole = False
        else:
            blocks.append((block.file_name, block.dset_name, here, there))
    return blocks if whole and dataset.ndim == 3 else None


def _whole_frames(space: h5py.h5s.SpaceID, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    """Frames that a selection covers, in its order; None unless each is covered wholly."""
    n_pixels = shape[-1] * shape[-2]
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return np.arange(shape[0] if len(shape) == 3 else 1, dtype=np.int64)
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    start, stride, count, block = space.get_regular_hyperslab()
    if h5py.h5s.UNLIMITED in (*count, *block):
        return None
    first, last = space.get_select_bounds()
    if tuple(first[-2:]) != (0, 0) or tuple(last[-2:]) != (shape[-2] - 1, shape[-1] - 1):
        return None
    if len(shape) == 3:
        steps = np.arange(count[0], dtype=np.int64)[:, None] * stride[0]
        frames = (start[0] + steps + np.arange(block[0], dtype=np.int64)).reshape(-1)
    else:
        frames = np.zeros(1, np.int64)
    return frames if space.get_select_npoints() == len(frames) * n_pixels else None


def _source_dataset(dataset: h5py.Dataset, file_name: str, dataset_name: str) -> h5py.Dataset:
    """Dataset behind one entry of a virtual dataset."""
    if file_name == ".":
        return dataset_at(dataset.file, dataset_name)
    folder = Path(dataset.file.filename).parent
    candidates = (folder / file_name, folder / Path(file_name).name)
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise ImageReadError(
            f"{dataset.file.filename}: virtual dataset {dataset.name} needs {file_name}, "
            "which is missing; put that file beside this one"
        )
    return dataset_at(open_hdf5(path), dataset_name)
