"""What a geometry file of any kind says: the detector, its bad pixels, and where its pixels are stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssx_processing.models import Geometry, Panel

FRAME = "%"
"""Placeholder for what differs from frame to frame, in paths and among axes."""


@dataclass(frozen=True)
class Slab:
    """A two-dimensional part of an HDF5 dataset, and the rows of the image that it fills.

    Slabs are stacked below each other, all from the image's first column on.
    """

    dataset: str
    """Path of the dataset, with ``%`` where it differs from frame to frame."""
    axes: tuple[str | int, ...] = ("ss", "fs")
    """Meaning of each of its axes: ``%`` the frame, ``ss`` slow, ``fs`` fast, or a fixed index."""
    shape: tuple[int, int] = (0, 0)
    """Rows, columns."""
    slow_start: int = 0
    """First row of the image that belongs to it."""


@dataclass(frozen=True)
class GeometryFile:
    """A geometry file, read for one file of images."""

    path: Path
    sha256: str
    """Of its content."""
    geometry: Geometry
    bad_pixels: NDArray[np.bool_] | None = None
    """Shape (slow, fast), true where bad, beside those that the images' own file names; None: no more."""
    saturation: float = np.inf
    """A pixel with this value or more is saturated, or marked as no pixel; inf if not given."""
    underload: float = -np.inf
    """A pixel with a value below this is no count; -inf if not given."""
    gain: float | None = None
    """Counts per photon."""
    layout: tuple[Slab, ...] = ()
    """Where the panels are in an HDF5 file, from the top of the image down; empty if not given."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of panels that move as one, by name of the group."""
    collections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of groups that make up the detector together, by name of the collection."""
    bandwidth: float | None = None
    """Standard deviation of the wavelength over the wavelength."""


def replaced_panels(
    given: GeometryFile, places: Sequence[Panel], image_shape: tuple[int, int]
) -> GeometryFile:
    """Geometry file for an image in which the panels lie elsewhere.

    Parameters
    ----------
    places
        Where: one panel of the same size for each panel of ``given``, in the same order.
    image_shape
        Rows (slow), columns (fast) of that image.
    """
    bad = np.ones(image_shape, bool)
    panels: list[Panel] = []
    for panel, place in zip(given.geometry.panels, places, strict=True):
        panels.append(replace(panel, fast_start=place.fast_start, slow_start=place.slow_start))
        bad[_pixels(panels[-1])] = False if given.bad_pixels is None else given.bad_pixels[_pixels(panel)]
    geometry = replace(given.geometry, panels=tuple(panels), image_shape=image_shape)
    return replace(given, geometry=geometry, bad_pixels=bad)


def _pixels(panel: Panel) -> tuple[slice, slice]:
    """Pixels of a panel in its image."""
    rows = slice(panel.slow_start, panel.slow_start + panel.n_slow)
    return rows, slice(panel.fast_start, panel.fast_start + panel.n_fast)


def below_saturation(saturation: float) -> float:
    """Limit between the last good count and the first saturated one, for files whose limits may be good.

    Whole counts are told apart right, whichever way a program takes a value equal to its limit; writing
    what was read leaves the limit where it is.

    Examples
    --------
    >>> below_saturation(65535.0), below_saturation(65534.5)
    (65534.5, 65534.5)
    """
    return math.ceil(saturation) - 0.5


def from_underload(underload: float) -> float:
    """Limit between the last value that is no count and the lowest count, as `below_saturation`.

    Examples
    --------
    >>> from_underload(0.0), from_underload(-0.5)
    (-0.5, -0.5)
    """
    return math.ceil(underload) - 0.5
