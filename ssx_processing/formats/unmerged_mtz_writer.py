"""Scaled, unmerged observations as a multi-record MTZ file: one batch per lattice.

For CCP4 (Pointless, Aimless), DIALS, iotbx, reciprocalspaceship and careless. Layout of the batch
headers: CCP4's mtzlib documentation, "Orientation block data".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import SettingsError
from ssx_processing.formats.whole_file import whole_file
from ssx_processing.models import UnitCell

MAX_BATCHES = 999_999
"""A batch number has six digits in the header."""

# The laboratory frame (x along fast, y up, beam along -z) to CCP4's Cambridge frame: X along the beam,
# Z where a spindle along the laboratory's x would point.
TO_CAMBRIDGE = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])

_COLUMNS = (
    ("M/ISYM", "Y"),
    ("BATCH", "B"),
    ("I", "J"),
    ("SIGI", "Q"),
    ("IRAW", "R"),  # as "J" it would make programs ask which intensities are meant
    ("SIGIRAW", "R"),
    ("SCALEUSED", "R"),
    ("FRACTIONCALC", "R"),
    ("XDET", "R"),
    ("YDET", "R"),
    ("ROT", "R"),
    ("EWALD_OFFSET", "R"),
)
# places in a batch header: of the 29 integers, and of the 156 reals
_DATA_TYPE, _N_GONIOMETER, _N_DETECTORS = 14, 17, 19
_U_MATRIX, _SPINDLE, _SOURCE, _BEAM, _WAVELENGTH, _DETECTOR_LIMITS = 6, 59, 80, 83, 86, 113
_TWO_DIMENSIONAL = 1


@dataclass(frozen=True)
class BatchLattice:
    """What a batch header tells of a lattice."""

    a_matrix: NDArray[np.float64]
    """(3, 3), columns a*, b*, c* in 1/Å, laboratory frame, in the setting of the merge."""
    title: str
    """Where it comes from; cut at 70 characters."""


@dataclass(frozen=True)
class UnmergedIntensities:
    """Observations; arrays of n elements."""

    hkl: NDArray[np.integer]
    """(n, 3) as indexed, in the setting of the merge."""
    lattice: NDArray[np.integer]
    """Place in the list of lattices; its batch has this number plus 1."""
    intensity: NDArray[np.float64]
    """On the merged scale."""
    sigma: NDArray[np.float64]
    raw_intensity: NDArray[np.float64]
    """As integrated, photons."""
    raw_sigma: NDArray[np.float64]
    scale: NDArray[np.float64]
    """intensity / raw_intensity."""
    partiality: NDArray[np.float64]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    excitation_error: NDArray[np.float64]
    """1/Å."""


def write_unmerged_mtz(
    path: Path,
    observations: UnmergedIntensities,
    lattices: Sequence[BatchLattice],
    *,
    unit_cell: UnitCell,
    space_group: str,
    wavelength: float,
    image_shape: tuple[int, int],
    history: Sequence[str] = (),
) -> None:
    """Write I, SIGI on the merged scale and IRAW, SIGIRAW as integrated, sorted as CCP4 wants it.

    Parameters
    ----------
    unit_cell
        Mean of the crystals, for the file's header; each batch has that of its lattice.
    image_shape
        Pixels along slow and fast.
    history
        Lines for the header, newest first, cut at 80 characters.

    Raises
    ------
    SettingsError
        There are more lattices than batch numbers.
    """
    if len(lattices) > MAX_BATCHES:
        raise SettingsError(
            f"{path}: an unmerged MTZ holds {MAX_BATCHES} batches at most, got {len(lattices)} lattices; "
            "export a part of the data, or another format"
        )
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(space_group)
    mtz.title = "Scaled serial still intensities"
    dataset = mtz.add_dataset("ssx")
    for each in mtz.datasets:  # also the base: some readers take the first
        each.wavelength = wavelength
    mtz.set_cell_for_all(gemmi.UnitCell(*unit_cell))
    for label, kind in _COLUMNS:
        mtz.add_column(label, kind, dataset_id=dataset.id)
    mtz.history = [line[:80] for line in history]
    for number, lattice in enumerate(lattices, start=1):
        mtz.batches.append(_batch(number, lattice, dataset.id, wavelength, image_shape))
    mtz.set_data(_rows(observations, gemmi.SpaceGroup(space_group)))
    mtz.sort(5)
    with whole_file(path) as temporary:
        temporary.write_bytes(mtz.write_to_bytes())  # gemmi's own file says nothing of a full disk


def _rows(found: UnmergedIntensities, group: gemmi.SpaceGroup) -> NDArray[np.float32]:
    """One row per observation, columns as in the file."""
    hkl, isym = in_asymmetric_unit(found.hkl, group)
    columns = (
        isym,
        found.lattice + 1,
        found.intensity,
        found.sigma,
        found.raw_intensity,
        found.raw_sigma,
        found.scale,
        found.partiality,
        found.x_px,
        found.y_px,
        np.zeros(len(hkl)),
        found.excitation_error,
    )
    return np.column_stack([hkl, *columns]).astype(np.float32)


def in_asymmetric_unit(
    hkl: NDArray[np.integer], group: gemmi.SpaceGroup
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Equivalent indices in CCP4's asymmetric unit, (n, 3), and ISYM, (n,).

    ISYM is 2 i - 1 where operator i, counted from 1, leads from hkl there, 2 i where its Friedel mate does.

    Examples
    --------
    >>> hkl, isym = in_asymmetric_unit(np.array([[3, 1, 2], [-3, -1, -2]]), gemmi.SpaceGroup("P 43 21 2"))
    >>> hkl.tolist(), isym.tolist()
    ([[3, 1, 2], [3, 1, 2]], [1, 2])
    """
    asu, operations = gemmi.ReciprocalAsu(group), group.operations()
    different, place = np.unique(hkl, axis=0, return_inverse=True)
    moved = [asu.to_asu(indices, operations) for indices in different.tolist()]
    indices = np.array([index for index, _ in moved], np.int32).reshape(-1, 3)
    isym = np.array([number for _, number in moved], np.int32)
    return indices[place.ravel()], isym[place.ravel()]


def _batch(
    number: int, lattice: BatchLattice, dataset_id: int, wavelength: float, image_shape: tuple[int, int]
) -> gemmi.Mtz.Batch:
    """Header of a still: cell, orientation, beam, detector limits; no rotation."""
    u_matrix, cell = orientation_and_cell(TO_CAMBRIDGE @ lattice.a_matrix)
    batch = gemmi.Mtz.Batch()
    batch.number, batch.title = number, lattice.title[:70]
    batch.dataset_id, batch.cell, batch.wavelength = dataset_id, gemmi.UnitCell(*cell), wavelength
    batch.axes = ["PHI"]
    integers = {_DATA_TYPE: _TWO_DIMENSIONAL, _N_GONIOMETER: 1, _N_DETECTORS: 1}
    for place, value in integers.items():
        batch.ints[place] = value
    limits = (0.0, image_shape[1], 0.0, image_shape[0])
    reals = {
        _U_MATRIX: u_matrix.T.ravel(),  # Fortran's order
        _SPINDLE: (0.0, 0.0, 1.0),
        _SOURCE: (-1.0, 0.0, 0.0),
        _BEAM: (-1.0, 0.0, 0.0),
        _WAVELENGTH: (wavelength,),
        _DETECTOR_LIMITS: limits,
    }
    for start, values in reals.items():
        for place, value in enumerate(values, start=start):
            batch.floats[place] = float(value)
    return batch


def orientation_and_cell(a_matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], UnitCell]:
    """U and cell of A = U B, B as Busing & Levy (1967): a* along x, b* in the plane of x and y.

    Examples
    --------
    >>> u, cell = orientation_and_cell(np.diag([1 / 40, 1 / 50, 1 / 60]))
    >>> np.allclose(u, np.eye(3)), tuple(round(value, 6) for value in cell)
    (True, (40.0, 50.0, 60.0, 90.0, 90.0, 90.0))
    """
    u_matrix, b_matrix = np.linalg.qr(a_matrix)
    u_matrix = u_matrix * np.sign(np.diag(b_matrix))
    axes = np.linalg.inv(a_matrix)  # rows a, b, c
    a, b, c = (float(value) for value in np.linalg.norm(axes, axis=1))
    alpha, beta, gamma = (
        float(np.rad2deg(np.arccos(axes[i] @ axes[j] / np.linalg.norm(axes[i]) / np.linalg.norm(axes[j]))))
        for i, j in ((1, 2), (0, 2), (0, 1))
    )
    return u_matrix, (a, b, c, alpha, beta, gamma)
