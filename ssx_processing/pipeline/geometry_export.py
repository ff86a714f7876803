"""The geometry that a run was processed with, as a file for others and for ``--geometry``."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, SsxError
from ssx_processing.formats.crystfel_geometry_writer import write_crystfel_geometry
from ssx_processing.formats.data_layout import data_layout
from ssx_processing.formats.dials_geometry_writer import write_dials_geometry
from ssx_processing.formats.geometry_file import read_geometry
from ssx_processing.formats.geometry_model import GeometryFile
from ssx_processing.models import Geometry

SUFFIXES = (".expt", ".geom")


def write_geometry(
    path: Path,
    geometry: Geometry,
    *,
    bad_pixels: NDArray[np.bool_],
    saturation: float,
    underload: float,
    images: Path,
    geometry_file: Path | None,
    gain: float,
) -> Path:
    """Write a geometry as DIALS's ``.expt`` or CrystFEL's ``.geom``, as the suffix says.

    Parameters
    ----------
    bad_pixels : (slow, fast) array
        Of a ``.geom`` a file beside it.
    images
        First file of the images; if it is not there any more, a ``.geom`` does not say where in a file
        the pixels are.
    geometry_file
        That stood in for the geometry of the images; of a ``.geom`` layout, groups and bandwidth are kept.
    gain
        Counts per photon.

    Raises
    ------
    GeometryError
        The suffix is another, the geometry cannot be said in such a file, or it cannot be written.
    """
    limits = {"saturation": saturation, "underload": underload, "gain": gain}
    if path.suffix == ".expt":
        return write_dials_geometry(geometry, path, **limits)
    if path.suffix != ".geom":
        raise GeometryError(f"{path}: name a file that ends in {' or '.join(SUFFIXES)}")
    given = _given(geometry_file, images)
    return write_crystfel_geometry(
        geometry,
        path,
        layout=given.layout if given and given.layout else data_layout(images),
        bad_pixels=bad_pixels,
        bandwidth=given.bandwidth if given else None,
        groups=given.groups if given else None,
        **limits,
    )


def _given(geometry_file: Path | None, images: Path) -> GeometryFile | None:
    """The file that stood in for the geometry of the images; None if there is none any more."""
    if geometry_file is None:
        return None
    try:
        return read_geometry(geometry_file, images if images.is_file() else None)
    except SsxError:
        return None
