"""Orientations of the lattices of a merge."""

import gemmi
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ssx_processing.errors import ChunkError
from ssx_processing.kernels.reindexing import reindexing_matrix
from ssx_processing.pipeline.chunk_columns import A_COLUMNS


def matrices_of_merge(lattices: pd.DataFrame) -> NDArray[np.float64]:
    """(n, 3, 3) A of the lattices as they were merged: reindexed, and turned by post-refinement.

    With hkl' = M hkl of the reindexing, A' = A M⁻¹; the turn acts on the laboratory's side.

    Raises
    ------
    ChunkError
        The table is from before A was kept.
    """
    missing = [name for name in A_COLUMNS if name not in lattices]
    if missing:
        raise ChunkError(f"the table of merged lattices has no {missing[0]}; run ssx merge again")
    matrices = lattices[list(A_COLUMNS)].to_numpy(np.float64).reshape(-1, 3, 3).copy()
    for triplet in lattices["reindexing"].unique():
        rows = (lattices["reindexing"] == triplet).to_numpy()
        # operators act on rows, hkl' = hkl R, so M is R transposed
        matrices[rows] = matrices[rows] @ np.linalg.inv(reindexing_matrix(triplet).T / gemmi.Op.DEN)
    return turns(lattices["turn_x"].to_numpy(), lattices["turn_y"].to_numpy()) @ matrices


def turns(turn_x: NDArray[np.float64], turn_y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) rotations by the vectors (turn_x, turn_y, 0), radians."""
    return Rotation.from_rotvec(np.column_stack([turn_x, turn_y, np.zeros(len(turn_x))])).as_matrix()
