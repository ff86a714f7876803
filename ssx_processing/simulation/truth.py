"""The known answer of a simulated chip, in one HDF5 file beside the images.

Groups ``frames``, ``crystals``, ``spots`` and ``reflections`` hold one array per field of
:class:`Truth`'s tables; the settings and the true beam centre are attributes of the file.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.simulation.chip_settings import ChipSettings

TRUTH_VERSION = 1
"""Raised whenever the same settings would give another chip."""


@dataclass(frozen=True)
class Table:
    """Arrays with one row per thing."""

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Rows of all parts, in order; at least one part."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def columns(self) -> dict[str, NDArray[Any]]:
        """Field name to array."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class TrueFrames(Table):
    """One row per frame."""

    is_hit: NDArray[np.bool_]
    n_crystals: NDArray[np.int32]
    well: NDArray[np.int32]
    """(n, 2), column and row of the chip's well."""
    background_factor: NDArray[np.float64]
    """Background relative to a median frame, ice not counted."""
    ice_photons: NDArray[np.float64]
    """Photons per pixel on the strongest ice ring; 0: no ice."""


@dataclass(frozen=True)
class TrueCrystals(Table):
    """One row per crystal."""

    frame: NDArray[np.int64]
    a_matrix: NDArray[np.float64]
    """(n, 3, 3), columns a*, b*, c*, 1/Å, dxtbx's laboratory frame."""
    unit_cell: NDArray[np.float64]
    """(n, 6), Å and degrees."""
    scale: NDArray[np.float64]
    """Relative to the median crystal."""
    b_factor: NDArray[np.float64]
    """Å², relative to the mean crystal."""
    block_size: NDArray[np.float64]
    """Å."""


@dataclass(frozen=True)
class TrueSpots(Table):
    """One row per Bragg spot that is strong enough to be listed and lands on live sensor."""

    frame: NDArray[np.int64]
    crystal: NDArray[np.int64]
    """Row of the crystal's table."""
    hkl: NDArray[np.int32]
    """(n, 3)."""
    x_px: NDArray[np.float64]
    """Expected centroid along fast, pixel centres at +0.5."""
    y_px: NDArray[np.float64]
    photons: NDArray[np.float64]
    """Expected number; behind the beam stop, what passes."""
    background: NDArray[np.float64]
    """Expected photons per pixel below it, ice not counted."""
    partiality: NDArray[np.float64]
    excitation_error: NDArray[np.float64]
    """1/Å, of the crystal's mean orientation."""


@dataclass(frozen=True)
class TrueIntensities(Table):
    """One row per unique reflection, to the corner of the detector, absences left out."""

    hkl: NDArray[np.int32]
    """(n, 3), in gemmi's reciprocal asymmetric unit."""
    intensity: NDArray[np.float64]
    """|F|², electrons²."""


@dataclass(frozen=True)
class Truth:
    """The known answer."""

    settings: ChipSettings
    beam_centre_px: tuple[float, float]
    """True one, fast then slow."""
    frames: TrueFrames
    crystals: TrueCrystals
    spots: TrueSpots
    reflections: TrueIntensities


TABLES = {
    "frames": TrueFrames,
    "crystals": TrueCrystals,
    "spots": TrueSpots,
    "reflections": TrueIntensities,
}


def write_truth(path: Path, truth: Truth) -> None:
    """Write under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}")
    with h5py.File(temporary, "w") as file:
        file.attrs["version"] = TRUTH_VERSION
        file.attrs["settings"] = truth.settings.model_dump_json()
        file.attrs["beam_centre_px"] = truth.beam_centre_px
        for name in TABLES:
            for column, values in getattr(truth, name).columns().items():
                file.create_dataset(f"{name}/{column}", data=values, compression="gzip", shuffle=True)
    temporary.replace(path)


def read_truth(path: Path) -> Truth:
    """Truth of a simulated chip.

    Raises
    ------
    ImageReadError
        If the file is not there or from another version of the simulation.
    """
    try:
        with h5py.File(path) as file:
            version = file.attrs.get("version")
            if version != TRUTH_VERSION:
                raise ImageReadError(
                    f"{path}: truth of version {version}, expected {TRUTH_VERSION}; simulate the chip again"
                )
            tables = {name: cls(**_columns(file[name])) for name, cls in TABLES.items()}
            x, y = np.asarray(file.attrs["beam_centre_px"], dtype=float)
            settings = ChipSettings.model_validate_json(str(file.attrs["settings"]))
    except (OSError, KeyError) as error:
        if isinstance(error, ImageReadError):
            raise
        raise ImageReadError(f"{path}: no truth of a simulated chip ({error}); simulate it again") from error
    return Truth(settings=settings, beam_centre_px=(float(x), float(y)), **tables)


def _columns(group: Any) -> dict[str, NDArray[Any]]:
    return {name: dataset[()] for name, dataset in group.items()}
