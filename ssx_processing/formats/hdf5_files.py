"""Opening HDF5 files, also those that a detector still writes or that are damaged, and following links."""

import ctypes
import fcntl
import resource
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py

from ssx_processing.errors import ImageReadError

SIGNATURE = b"\x89HDF\r\n\x1a\n"

DAMAGE = (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises on damaged metadata: types it cannot read, sizes beyond all memory, and so on."""

_END_OF_FILE_AT = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where the superblock of each version, with addresses of 8 bytes, holds the end of the file."""
_MANY_FILES = 1 << 16
"""Open at once, where the system lets us: a master may have thousands of data files, many limits are 1024."""
_METADATA_READ_ATTEMPTS = 28
"""HDF5 waits 1 ns after the first and twice as long after each, so this gives up after 0.3 s."""


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading, also while a detector still writes (SWMR); never waits for a damaged file.

    Raises
    ------
    ImageReadError
        HDF5 cannot open it, for instance because it is truncated.
    """
    _allow_many_files()
    refuse_truncated(path)
    _refuse_locked(path)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_file_locking(False, True)  # a lock of ours would keep the detector from writing on
    # With SWMR, HDF5 takes damaged metadata for metadata being written, and by default waits for ever.
    _set_read_attempts()(access.id, _METADATA_READ_ATTEMPTS)
    try:
        flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
        return h5py.File(h5py.h5f.open(str(path).encode(), flags, fapl=access))
    except DAMAGE as error:
        raise ImageReadError(f"{path}: HDF5 cannot open it ({error}); copy or collect it again") from error


def _allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may itself."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if most == resource.RLIM_INFINITY else min(most, _MANY_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@cache
def _set_read_attempts() -> Callable[[int, int], int]:
    """Function of the HDF5 library inside h5py, which h5py itself does not offer."""
    function = ctypes.CDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
    function.argtypes = [ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function


def refuse_truncated(path: Path) -> None:
    """Compare the file's size with what its superblock says.

    Raises
    ------
    ImageReadError
        The file is missing, or shorter than it was when it was closed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise ImageReadError(f"{path}: {error.strerror or error}") from error
    if not size:
        raise ImageReadError(f"{path}: is empty")
    if len(head) < 64 or not head.startswith(SIGNATURE):
        return  # HDF5 will say it; a user block before the signature is nothing we meet
    version = head[8]
    if version > 3 or (version == 3 and head[11] & 4):
        return
    (end,) = struct.unpack_from("<Q", head, _END_OF_FILE_AT[version])
    if size < end:
        raise ImageReadError(f"{path}: truncated, {size} of {end} bytes are there; copy or collect it again")


def _refuse_locked(path: Path) -> None:
    """Raise ImageReadError if a program writes the file, and not for concurrent readers."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ImageReadError(f"{path}: another program is writing it; wait until it is closed") from error
        except OSError:
            return  # this file system knows no locks


def being_written(path: Path) -> bool:
    """Whether a program that writes for concurrent readers (SWMR) has the file open."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return len(head) == 12 and head.startswith(SIGNATURE) and head[8] == 3 and bool(head[11] & 4)


def follow(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Object ``name`` below ``group``, through any links.

    Raises
    ------
    ImageReadError
        There is no such object, or a link leads nowhere; the message names the missing file.
    """
    try:
        found = group[name]
    except DAMAGE as error:
        raise ImageReadError(f"{group.file.filename}: {_dead_end(group, name)}") from error
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ImageReadError(f"{group.file.filename}: {name} is neither a group nor a dataset")
    return found


def dataset_at(group: h5py.Group, name: str) -> h5py.Dataset:
    """Dataset ``name`` below ``group``; as ``follow``."""
    found = follow(group, name)
    if not isinstance(found, h5py.Dataset):
        raise ImageReadError(f"{group.file.filename}: {_joined(group, name)} is not a dataset")
    return found


def group_at(group: h5py.Group, name: str) -> h5py.Group:
    """Group ``name`` below ``group``; as ``follow``."""
    found = follow(group, name)
    if not isinstance(found, h5py.Group):
        raise ImageReadError(f"{group.file.filename}: {_joined(group, name)} is not a group")
    return found


def linked_file(file: Path, name: str) -> Path | None:
    """File to which a link or a virtual dataset in ``file`` refers; None if there is none.

    It is looked for where the link says, and beside ``file``, as collections are moved and copied;
    also from where ``file`` really is, if that is a symbolic link. HDF5 does the same.
    """
    folders = dict.fromkeys((file.parent, file.resolve().parent))
    candidates = [folder / place for folder in folders for place in (name, Path(name).name)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _joined(group: h5py.Group, name: str) -> str:
    """Path of ``name`` in its file."""
    return name if name.startswith("/") else f"{(group.name or '').rstrip('/')}/{name}"


def _dead_end(group: h5py.Group, name: str, depth: int = 0) -> str:
    """Say why ``name`` cannot be opened."""
    where = _joined(group, name)
    try:
        link = group.get(name, getlink=True)
    except DAMAGE:
        link = None
    if isinstance(link, h5py.SoftLink):
        return f"{where} -> {_dead_end(group, link.path, depth + 1)}" if depth < 8 else f"{where} is a circle"
    if isinstance(link, h5py.ExternalLink):
        return f"{where} links to {link.path} in {link.filename}, {_why_dead(group, link)}"
    if link is not None:
        return f"{where} cannot be opened; the file is damaged, copy or collect it again"
    return f"{where} does not exist"


def _why_dead(group: h5py.Group, link: h5py.ExternalLink) -> str:
    """Say why a link to another file leads nowhere."""
    path = linked_file(Path(group.file.filename), link.filename)
    if path is None:
        return "which is missing; put that file beside this one"
    try:
        with open_hdf5(path) as file:
            if link.path in file:
                return "which lies elsewhere; put that file beside this one"
    except ImageReadError as error:
        return f"which cannot be opened; {error}"
    except DAMAGE:
        return "which is damaged; copy or collect it again"
    return "where it does not exist"
