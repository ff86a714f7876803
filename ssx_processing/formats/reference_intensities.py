"""Intensities to compare with: from an MTZ, a structure factor mmCIF, or a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ReferenceFileError
from ssx_processing.models import UnitCell

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
_CIF_COLUMNS = (
    ("intensity_meas", 1),
    ("F_squared_meas", 1),
    ("F_meas_au", 2),
    ("F_meas", 2),
    ("pdbx_I_plus", 1),
    ("F_calc_au", 2),
    ("F_calc", 2),
)
"""Tags of _refln in order of preference, and the power that makes an intensity of them."""


@dataclass(frozen=True)
class ReferenceIntensities:
    """Merged intensities of somebody else."""

    source: str
    """Column and file, for people."""
    unit_cell: UnitCell
    space_group: str
    """Hermann-Mauguin symbol with setting, as gemmi's ``xhm``."""
    hkl: NDArray[np.int32]
    """(n, 3) in any asymmetric unit."""
    intensity: NDArray[np.float64]
    """(n,)."""


def read_reference(path: Path) -> ReferenceIntensities | gemmi.Structure:
    """Read intensities, or the model from which they can be calculated.

    Raises
    ------
    ReferenceFileError
        The file is none of an MTZ, a structure factor mmCIF or a model, or holds nothing to compare with.
    """
    if not path.is_file():
        raise ReferenceFileError(f"{path}: no such file; merging.reference must be an MTZ, mmCIF or PDB file")
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".mtz"):
            return _read_mtz(path)
        if not name.endswith(MODEL_SUFFIXES):
            raise ReferenceFileError(f"{path}: expected .mtz, {', '.join(MODEL_SUFFIXES)}")
        if name.endswith((".cif", ".mmcif")):
            document = gemmi.cif.read(str(path))
            if any(block.find_loop("_refln.index_h") for block in document):
                return _read_cif(path, document)
        return _read_model(path)
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ReferenceFileError):
            raise
        raise ReferenceFileError(f"{path}: cannot be read ({error})") from error


def _read_mtz(path: Path) -> ReferenceIntensities:
    mtz = gemmi.read_mtz_file(str(path))
    if mtz.batches:
        raise ReferenceFileError(f"{path}: unmerged, {len(mtz.batches)} batches; a reference must be merged")
    label, power = _mtz_column(path, mtz)
    column = mtz.column_with_label(label)
    cell = mtz.get_cell(-1 if column is None else column.dataset_id)
    return _checked(
        path,
        f"{label} of {path.name}",
        cell,
        mtz.spacegroup,
        np.asarray(mtz.make_miller_array(), np.int32),
        np.array(column, np.float64) ** power,
    )


def _mtz_column(path: Path, mtz: gemmi.Mtz) -> tuple[str, int]:
    """Label of the best column, and the power that makes intensities of it."""
    intensities = [c.label for c in mtz.columns if c.type == "J"]
    amplitudes = [c.label for c in mtz.columns if c.type == "F"]
    measured = [label for label in amplitudes if not label.upper().startswith(("FC", "FWT", "DELFWT", "PHI"))]
    calculated = [label for label in amplitudes if label.upper().startswith("FC")]
    for labels, power in ((intensities, 1), (measured, 2), (calculated, 2)):
        if labels:
            return labels[0], power
    found = ", ".join(f"{c.label} ({c.type})" for c in mtz.columns)
    raise ReferenceFileError(f"{path}: no intensities (type J) or amplitudes (type F); got {found}")


def _read_cif(path: Path, document: gemmi.cif.Document) -> ReferenceIntensities:
    for block in gemmi.as_refln_blocks(document):
        labels = block.column_labels()
        for tag, power in _CIF_COLUMNS:
            if tag in labels:
                values = np.array(block.make_float_array(tag), np.float64) ** power
                hkl = np.asarray(block.make_miller_array(), np.int32)
                return _checked(path, f"{tag} of {path.name}", block.cell, block.spacegroup, hkl, values)
    expected = ", ".join(tag for tag, _ in _CIF_COLUMNS)
    raise ReferenceFileError(f"{path}: _refln has no column to compare with; expected one of {expected}")


def _read_model(path: Path) -> gemmi.Structure:
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    if not len(structure) or not structure[0].count_atom_sites():
        raise ReferenceFileError(f"{path}: neither a model with atoms nor structure factors (_refln)")
    if not structure.cell.is_crystal() or structure.find_spacegroup() is None:
        raise ReferenceFileError(f"{path}: a model needs a unit cell and a space group that gemmi knows")
    structure.name = path.name
    return structure


def _checked(
    path: Path,
    source: str,
    cell: gemmi.UnitCell,
    group: gemmi.SpaceGroup | None,
    hkl: NDArray[np.int32],
    intensity: NDArray[np.float64],
) -> ReferenceIntensities:
    if group is None or not cell.is_crystal():
        raise ReferenceFileError(f"{path}: no unit cell, or no space group that gemmi knows")
    good = np.isfinite(intensity)
    if not good.any():
        raise ReferenceFileError(f"{path}: {source} has no value in any of {len(good)} rows")
    return ReferenceIntensities(source, _six(cell.parameters), group.xhm(), hkl[good], intensity[good])


def _six(values: Sequence[float]) -> UnitCell:
    a, b, c, alpha, beta, gamma = (float(value) for value in values)
    return a, b, c, alpha, beta, gamma
