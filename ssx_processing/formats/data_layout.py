"""Where the pixels of an NXmx file or a DECTRIS master are, in the words of CrystFEL's geometry files."""

import re
from pathlib import Path

import h5py
import nxmx

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.geometry_model import FRAME, Slab
from ssx_processing.formats.hdf5_files import group_at, open_hdf5
from ssx_processing.formats.nxmx_entry import find_entry, has_channels
from ssx_processing.formats.nxmx_frames import is_hdf5


def data_layout(path: Path) -> tuple[Slab, ...]:
    """Datasets and axes of the images of a file, from the top of the image down.

    Empty if it is no HDF5 file, or one of an unknown layout. Where a master has links to data files
    (``data_000001`` and so on), the dataset is that of the data files: CrystFEL is given those.
    """
    if not path.is_file() or not is_hdf5(path):
        return ()
    with open_hdf5(path) as file:
        try:
            entry, _ = find_entry(file, any_with_data=True)
        except ImageReadError:
            return ()
        group = (nxmx.find_class(entry, "NXdata") or [group_at(entry, "data")])[0]
        signal = nxmx.h5str(group.attrs.get("signal")) or "data"
        numbered = sorted(name for name in list[str](group) if re.fullmatch(r"data_\d+", name))
        for name in (signal, *numbered[:1]):
            dataset = group.get(name)
            if isinstance(dataset, h5py.Dataset):
                return _slabs(dataset, channels=has_channels(group))
    return ()


def _slabs(dataset: h5py.Dataset, *, channels: bool) -> tuple[Slab, ...]:
    """One slab, or one for each module of a stack."""
    name, shape = str(dataset.name), (dataset.shape[-2], dataset.shape[-1])
    if dataset.ndim == 2:
        return (Slab(name, ("ss", "fs"), shape),)
    if dataset.ndim == 3:
        return (Slab(name, (FRAME, "ss", "fs"), shape),)
    n_modules = 1 if channels else dataset.shape[1]
    return tuple(Slab(name, (FRAME, m, "ss", "fs"), shape, m * shape[0]) for m in range(n_modules))
