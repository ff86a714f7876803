"""Chains of NXtransformations: where an axis of the detector puts what it carries, McStas's frame."""

import h5py
import numpy as np
import nxmx
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.hdf5_files import group_at

MALFORMED = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    IndexError,
    OSError,
    RuntimeError,
)
"""What nxmx, pint and h5py raise when a field is absent or not as the standard says."""


def placing(axis: h5py.Dataset) -> NDArray[np.float64]:
    """Product of the transformations from ``axis`` down to the laboratory, at the first frame.

    Returns
    -------
    (4, 4), for points (x, y, z, 1) in mm.

    Raises
    ------
    GeometryError
        A transformation is not as the standard says, or the chain leads nowhere or back to itself.
    """
    matrix, passed = np.identity(4), []
    while True:
        where = (axis.file.filename, axis.name)
        if where in passed:
            raise GeometryError(f"depends_on of {passed[-1][1]} leads back to {axis.name}: a circle")
        passed.append(where)
        matrix = _at_first_frame(axis) @ matrix
        below = depends_on(axis)
        if below is None:
            return matrix
        axis = below


def depends_on(carried: h5py.Dataset | h5py.Group) -> h5py.Dataset | None:
    """Axis on which an axis (attribute) or a detector (field) depends; None for the laboratory.

    Raises
    ------
    GeometryError
        It leads nowhere.
    """
    try:
        if isinstance(carried, h5py.Group):
            base, field = carried, carried.get("depends_on")
            value = nxmx.h5scalar(field).item() if isinstance(field, h5py.Dataset) else None
        else:
            base, value = group_at(carried.file, str(carried.parent.name)), carried.attrs.get("depends_on")
        path = nxmx.h5str(value)
    except MALFORMED as error:
        raise GeometryError(f"depends_on of {carried.name} is no path ({error})") from error
    if not path or path == ".":
        return None
    try:
        found = base[path]
    except (KeyError, OSError, RuntimeError, ValueError):
        found = None
    if not isinstance(found, h5py.Dataset):
        raise GeometryError(f"{carried.name} depends on {path}, which is not there")
    return found


def _at_first_frame(axis: h5py.Dataset) -> NDArray[np.float64]:
    """Matrix of one transformation."""
    try:
        # R and o, or t + o, with units converted, for each frame where the axis moves
        matrix = np.asarray(nxmx.NXtransformationsAxis(axis).matrix[0], float)
    except MALFORMED as error:
        raise GeometryError(f"{axis.name} is no transformation ({type(error).__name__}: {error})") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(f"{axis.name} is no transformation: its value is {axis[()]}, expected numbers")
    return matrix
