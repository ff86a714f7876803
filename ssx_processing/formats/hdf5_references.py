"""Which other files an HDF5 file would have HDF5 open: its external links, virtual and external data."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.hdf5_files import DAMAGE, open_hdf5

NUMBERED = "%b"
"""In the name of a virtual dataset's file: stands for a number that counts its blocks."""


class Reference(NamedTuple):
    """One mention of another file."""

    where: str
    """The link or dataset that mentions it."""
    places: tuple[Path, ...]
    """All places where HDF5, or we, would look for it; whether something is there or not."""


def references(path: Path) -> Iterator[Reference]:
    """Mentions of other files in an HDF5 file, none of which is opened.

    Raises
    ------
    ImageReadError
        The file cannot be opened, or is damaged.
    """
    with open_hdf5(path) as file:
        found: list[tuple[str, str]] = []
        try:
            file.visititems_links(lambda name, link: found.extend(_of_link(f"/{name}", link)))
            file.visititems(lambda name, item: found.extend(_of_dataset(f"/{name}", item)))
        except DAMAGE as error:
            raise ImageReadError(
                f"{path}: its links cannot be followed ({error}); copy or collect it again"
            ) from error
    for where, name in dict.fromkeys(found):
        yield Reference(where, tuple(_places(path, name)))


def _of_link(where: str, link: object) -> Iterator[tuple[str, str]]:
    if isinstance(link, h5py.ExternalLink):
        yield where, link.filename


def _of_dataset(where: str, item: h5py.Group | h5py.Dataset) -> Iterator[tuple[str, str]]:
    if not isinstance(item, h5py.Dataset):
        return
    if item.is_virtual:
        yield from ((where, block.file_name) for block in item.virtual_sources() if block.file_name != ".")
    for name, _, _ in item.external or ():
        yield where, name


def _places(path: Path, name: str) -> Iterator[Path]:
    """Beside the file, where that really is, in the working directory; by whole name and last part."""
    folders = dict.fromkeys((path.parent, path.resolve().parent, Path.cwd()))
    names = dict.fromkeys((name, Path(name).name))
    for place in dict.fromkeys(folder / part for folder in folders for part in names):
        if NUMBERED in place.name:
            yield from place.parent.glob(place.name.replace(NUMBERED, "*"))
        yield place
