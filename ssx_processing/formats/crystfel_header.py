"""Values that a CrystFEL geometry file leaves to the data file: camera length, photon energy, shifts."""

import logging
from collections.abc import Mapping

import h5py
import numpy as np

from ssx_processing.formats.crystfel_values import Quantity, Values
from ssx_processing.formats.hdf5_placeholders import placeholder_values, substituted

logger = logging.getLogger(__name__)

MOST_VALUES = 500
"""Of a value that every frame has in a group of its own, so many are read for the median."""
NOTABLE_SPREAD = 0.005
"""Relative; more than this within a file is worth a warning, since one value stands for all."""


class Header:
    """Values of one data file; the median where every frame has its own, since a geometry has one."""

    def __init__(self, file: h5py.File | None, known: Mapping[str, float] | None = None) -> None:
        """Take values from ``file``; None for images that are in no HDF5 file, or for none at all.

        Values that are ``known`` by their place in the file are not sought there.
        """
        self._file = file
        self._known: dict[str, float] = dict(known or {})

    def value(self, values: Values, name: str, quantity: Quantity) -> float:
        """Value of the field ``name``, read from the data file where it is there.

        Raises
        ------
        GeometryError
            It is not there, or no number.
        """
        location = quantity.location
        if location is not None and location not in self._known:
            self._known[location] = self._read(values, name, location)
        return quantity.value(self._known)

    def _read(self, values: Values, name: str, location: str) -> float:
        """Median of what the data file has at ``location``."""
        if self._file is None:
            raise values.error(name, "is in the HDF5 file of the images, but there is no such file")
        places = placeholder_values(self._file, location)
        if not places:
            raise values.error(name, f"{self._file.filename} has no such dataset")
        some = places[:: max(1, len(places) // MOST_VALUES)]
        parts = [np.ravel(self._file[substituted(location, place)]) for place in some]  # pyright: ignore[reportArgumentType, reportCallIssue]
        found = np.concatenate(parts)
        if found.dtype.kind not in "iuf" or not np.isfinite(found).any():
            raise values.error(name, f"{self._file.filename} has {found[:1]} there, expected a number")
        found = found[np.isfinite(found)].astype(float)
        median = float(np.median(found))
        if np.ptp(found) > NOTABLE_SPREAD * abs(median):
            logger.warning(
                "%s: %s varies from %g to %g; all its frames are processed with %g",
                self._file.filename, location, found.min(), found.max(), median,
            )  # fmt: skip
        return median
