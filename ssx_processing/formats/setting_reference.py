"""The file that settles what the ways of indexing a sample are called: normalised amplitudes by reflection.

Our own is a Parquet table; an MTZ of intensities or amplitudes serves as well.
"""

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ssx_processing.errors import MergeError
from ssx_processing.kernels.normalised_amplitudes import normalised_amplitudes
from ssx_processing.models import UnitCell

FILE_NAME = "indexing_reference.parquet"
_METADATA = b"indexing_reference"
_MTZ_WEIGHT = 10.0  # as if each reflection were known from ten good observations


@dataclass(frozen=True)
class SettingReferenceTable:
    """Reflections in the setting that lattices are brought into."""

    unit_cell: UnitCell
    space_group: str
    """Hermann-Mauguin symbol with setting, as gemmi's ``xhm``."""
    key: str
    """Of the merge that it comes from; the name of the file for an MTZ."""
    n_lattices: int
    """Merged in it; 0 if unknown."""
    hkl: NDArray[np.int32]
    """(n, 3)."""
    amplitude: NDArray[np.float64]
    """(n,) normalised amplitudes less their mean."""
    weight: NDArray[np.float64]
    """(n,) sum of the weights of the observations; at most 1 for each."""
    chunks: tuple[str, ...] = ()
    """Names of the chunks it was made from."""
    sha256: str = ""
    """Of the file it was read from."""


def write_setting_reference(path: Path, reference: SettingReferenceTable) -> None:
    """Write a Parquet table with h, k, l, amplitude and weight, and the rest in its metadata."""
    h, k, l = reference.hkl.astype(np.int16).T  # noqa: E741
    table = pd.DataFrame(
        {"h": h, "k": k, "l": l, "amplitude": reference.amplitude, "weight": reference.weight}
    )
    content = {
        "unit_cell": list(reference.unit_cell),
        "space_group": reference.space_group,
        "key": reference.key,
        "n_lattices": reference.n_lattices,
        "chunks": list(reference.chunks),
    }
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _METADATA: json.dumps(content).encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), path, compression="zstd")


def read_setting_reference(path: Path) -> SettingReferenceTable:
    """Read a reference: our own table, or an MTZ with intensities or amplitudes.

    Raises
    ------
    MergeError
        It is not there, damaged, or holds neither.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return _from_mtz(path, digest) if path.suffix.lower() == ".mtz" else _from_parquet(path, digest)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise MergeError(
            f"{path}: not readable as a reference for the indexing setting ({error}); expected "
            f"{FILE_NAME} of a merge or an MTZ with intensities; correct merging.setting_reference, or, if "
            "nobody named the file, delete it"
        ) from error


def keep_setting_reference(path: Path, reference: SettingReferenceTable) -> bool:
    """Store a reference unless there is one; False if there is one of another merge.

    Of two processes that do so at the same time one wins; the file is there as a whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        write_setting_reference(temporary, reference)
        os.link(temporary, path)  # fails if it exists, which a rename does not
    except FileExistsError:
        return read_setting_reference(path).key == reference.key
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _from_parquet(path: Path, digest: str) -> SettingReferenceTable:
    arrow = pq.read_table(path)
    content = json.loads((arrow.schema.metadata or {})[_METADATA])
    table = arrow.to_pandas()
    a, b, c, alpha, beta, gamma = (float(x) for x in content["unit_cell"])
    return SettingReferenceTable(
        unit_cell=(a, b, c, alpha, beta, gamma),
        space_group=content["space_group"],
        key=content["key"],
        n_lattices=content["n_lattices"],
        hkl=table[["h", "k", "l"]].to_numpy(np.int32),
        amplitude=table["amplitude"].to_numpy(np.float64),
        weight=table["weight"].to_numpy(np.float64),
        chunks=tuple(content["chunks"]),
        sha256=digest,
    )


def _from_mtz(path: Path, digest: str) -> SettingReferenceTable:
    mtz = gemmi.read_mtz_file(str(path))
    column, power = _measured(mtz)
    values = np.asarray(column.array, np.float64)
    known = np.isfinite(values)
    hkl = mtz.make_miller_array()[known].astype(np.int32)
    order = np.argsort(mtz.make_d_array()[known], kind="stable")
    hkl, intensity = hkl[order], values[known][order] ** power
    s_squared = 0.25 * np.asarray(mtz.cell.calculate_1_d2_array(hkl))
    whole = np.array([0, len(hkl)])
    amplitude, weight = normalised_amplitudes(
        whole, s_squared, intensity, np.zeros(len(hkl)), np.ones(len(hkl))
    )
    a, b, c, alpha, beta, gamma = mtz.cell.parameters
    return SettingReferenceTable(
        unit_cell=(a, b, c, alpha, beta, gamma),
        space_group=mtz.spacegroup.xhm() if mtz.spacegroup else "",
        key=path.name,
        n_lattices=0,
        hkl=hkl,
        amplitude=amplitude,
        weight=_MTZ_WEIGHT * weight,
        sha256=digest,
    )


def _measured(mtz: gemmi.Mtz) -> tuple[gemmi.Mtz.Column, int]:
    """The column of intensities, or of amplitudes, and the power that makes it intensities."""
    for column_type, power in (("J", 1), ("F", 2)):
        found = mtz.columns_with_type(column_type)
        if len(found):
            return found[0], power
    labels = " ".join(mtz.column_labels())
    raise ValueError(f"no column of intensities (type J) or amplitudes (F) among {labels}")
