"""Geometry files of any kind: CrystFEL's .geom and DIALS's .expt."""

from hashlib import sha256
from pathlib import Path

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_geometry import crystfel_mask_files, read_crystfel_geometry
from ssx_processing.formats.dials_geometry import read_dials_geometry
from ssx_processing.formats.geometry_model import GeometryFile
from ssx_processing.models import GeometryIdentity


def read_geometry(path: Path, data: Path | None = None) -> GeometryFile:
    """Read a geometry file, whose kind shows in its content.

    Parameters
    ----------
    data
        A file of the images it is used for. CrystFEL's files may leave the camera length, the
        photon energy and masks to it.

    Raises
    ------
    GeometryError
        The file is missing, of no known kind, or cannot be used; the message names line or field.
    """
    content = _content(path)
    if _is_json(content):
        return read_dials_geometry(path, content)
    return read_crystfel_geometry(path, content, data)


def geometry_identity(path: Path) -> GeometryIdentity:
    """Path of a geometry file, and hash of its content and of the masks that it names.

    Raises
    ------
    GeometryError
        It cannot be read.
    """
    digest = sha256(_content(path))
    for mask in mask_files_of(path):
        digest.update(_content(mask))
    return GeometryIdentity(path.resolve(), digest.hexdigest())


def mask_files_of(path: Path) -> tuple[Path, ...]:
    """Files of masks that a geometry file names, as far as they are there.

    Raises
    ------
    GeometryError
        It cannot be read.
    """
    content = _content(path)
    return () if _is_json(content) else crystfel_mask_files(path, content)


def _is_json(content: bytes) -> bool:
    """Whether it can be an experiment list: CrystFEL's lines never begin so."""
    return content.lstrip()[:1] in (b"{", b"[")


def _content(path: Path) -> bytes:
    """Content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise GeometryError(f"{path}: {error.strerror or error}; name a .geom or .expt file") from error
