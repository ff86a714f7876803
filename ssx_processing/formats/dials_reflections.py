"""DIALS's reflection tables (.refl) and experiment lists with crystals (.expt), written without DIALS.

A reflection table is a msgpack list of its name, its version and a map of columns: each a type in the words
of DIALS's C++, a number of rows and their bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import msgpack
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ChunkError

NAME, VERSION = "dials::af::reflection_table", 1
INT, SIZE, DOUBLE, BOOL = "int", "std::size_t", "double", "bool"
VECTOR, MILLER = "vec3<double>", "cctbx::miller::index<>"
_STORED = {
    INT: np.dtype("<i4"), SIZE: np.dtype("<u8"), DOUBLE: np.dtype("<f8"), BOOL: np.dtype("?"),
    VECTOR: np.dtype("<f8"), MILLER: np.dtype("<i4"),
}  # fmt: skip
PREDICTED, INTEGRATED_SUM = 1 << 0, 1 << 8
OUTLIER_IN_SCALING, SCALED = 1 << 23, 1 << 26
"""Flags, as DIALS numbers them."""


@dataclass(frozen=True)
class Column:
    """A column of a reflection table."""

    kind: str
    """Type in DIALS's words."""
    values: NDArray[Any]
    """(n,) array, or (n, 3) for vectors and indices."""


def write_refl(path: Path, columns: Mapping[str, Column], identifiers: Mapping[int, str]) -> Path:
    """Write a reflection table.

    Parameters
    ----------
    identifiers
        Of the experiments, by their ``id``.
    """
    lengths = {len(column.values) for column in columns.values()}
    if len(lengths) != 1:
        raise ChunkError(f"{path}: columns of {sorted(lengths)} rows, expected as many in all")
    data = {
        name: [column.kind, [len(column.values), _bytes(column)]] for name, column in sorted(columns.items())
    }
    content = {"identifiers": dict(identifiers), "nrows": lengths.pop(), "data": data}
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        msgpack.pack([NAME, VERSION, content], file)
    temporary.replace(path)
    return path


def _bytes(column: Column) -> bytes:
    return np.ascontiguousarray(column.values, _STORED[column.kind]).tobytes()


def read_refl(path: Path) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """Columns of known types, and the experiments' identifiers by their ``id``.

    Raises
    ------
    ChunkError
        It is no reflection table of this version.
    """
    try:
        name, version, content = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    except (OSError, ValueError, msgpack.UnpackException) as error:
        raise ChunkError(f"{path}: is no reflection table of DIALS ({error})") from error
    if (name, version) != (NAME, VERSION):
        raise ChunkError(f"{path}: holds {name} {version}, expected {NAME} {VERSION}")
    columns = {}
    for key, (kind, (n, data)) in content["data"].items():
        if kind in _STORED:
            shape = (n, 3) if kind in (VECTOR, MILLER) else (n,)
            columns[key] = np.frombuffer(data, _STORED[kind]).reshape(shape)
    return columns, content["identifiers"]


@dataclass(frozen=True)
class StillExperiment:
    """One lattice on one frame; models by their place in the lists of `write_expt`."""

    identifier: str
    crystal: dict[str, Any]
    beam: int
    detector: int
    imageset: int | None


def crystal_model(a_matrix: NDArray[np.float64], group: gemmi.SpaceGroup) -> dict[str, Any]:
    """Crystal as in an experiment list.

    Parameters
    ----------
    a_matrix : (3, 3) array
        Columns a*, b*, c* in 1/Å, laboratory frame, which is DIALS's.
    """
    a, b, c = np.linalg.inv(a_matrix).tolist()
    return {
        "__id__": "crystal",
        "real_space_a": a,
        "real_space_b": b,
        "real_space_c": c,
        "space_group_hall_symbol": f" {group.hall}",
    }


def imageset_model(file: str, index: int | None) -> dict[str, Any]:
    """Image of one still, as in an experiment list.

    Parameters
    ----------
    index
        Of the frame within the file; None for files of one frame.
    """
    place = {} if index is None else {"single_file_indices": [index]}
    return {"__id__": "ImageSet", "images": [file], "mask": "", "gain": "", "pedestal": "", **place}


def write_expt(
    path: Path,
    experiments: Sequence[StillExperiment],
    *,
    beams: Sequence[dict[str, Any]],
    detectors: Sequence[dict[str, Any]],
    imagesets: Sequence[dict[str, Any]],
) -> Path:
    """Write an experiment list of stills: no goniometer, no scan."""
    listed = []
    for number, experiment in enumerate(experiments):
        models = {"beam": experiment.beam, "detector": experiment.detector, "crystal": number}
        if experiment.imageset is not None:
            models["imageset"] = experiment.imageset
        listed.append({"__id__": "Experiment", "identifier": experiment.identifier, **models})
    content = {
        "__id__": "ExperimentList",
        "experiment": listed,
        "imageset": list(imagesets),
        "beam": list(beams),
        "detector": list(detectors),
        "crystal": [experiment.crystal for experiment in experiments],
        **{name: [] for name in ("goniometer", "scan", "profile", "scaling_model")},
    }
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)
    return path
