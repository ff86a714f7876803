"""Of the ways to index a lattice the one whose cell is nearest to the expected cell.

Where a is near b, half of the crystals come with both swapped; compared as they are, their cells look
like two crystal forms. Where a cell does not tell, intensities do (`indexing_setting`).
"""

from collections.abc import Sequence
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.reindexing import IDENTITY, product_table, reindexed, reindexing_matrix
from ssx_processing.kernels.symmetry import indexing_ambiguity_operators, symmetrised_cell
from ssx_processing.models import UnitCell
from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.merge_input import MergeInput
from ssx_processing.pipeline.setting_resolution import SettingResolution
from ssx_processing.pipeline.stored_observations import lattices_of, parts_of
from ssx_processing.settings import ProcessingSettings

_RELATIVE_LENGTH, _ANGLE_DEG = 0.01, 1.0  # what counts alike
_WORTH_CHANGING = 1e-6


def with_nearest_cells(
    data: MergeInput, settings: ProcessingSettings
) -> tuple[MergeInput, tuple[str, ...], NDArray[np.int64]]:
    """The same lattices, each indexed so that its cell is nearest to the expected one.

    Returns
    -------
    data
        With other cells and hkl.
    operators
        Triplets that act on hkl, "h,k,l" first.
    chosen : (n_lattices,) array
        Which of them was applied; 0 where none gives a nearer cell.
    """
    sample = settings.sample
    expected = symmetrised_cell(sample.unit_cell, sample.space_group)
    operators = (
        IDENTITY,
        *indexing_ambiguity_operators(expected, sample.space_group, settings.merging.max_obliquity_deg),
    )
    cells = data.lattices[CELL_COLUMNS].to_numpy(np.float64)
    images = np.stack([reindexed_cells(cells, operator) for operator in operators], axis=1)
    chosen = nearest_image(images, expected)
    if not chosen.any():
        return data, operators, chosen
    lattices = data.lattices.copy()
    lattices[CELL_COLUMNS] = images[np.arange(len(cells)), chosen]
    return (
        replace(data, lattices=lattices, hkl=reindexed_observations(data, chosen, operators)),
        operators,
        chosen,
    )


def reindexed_observations(
    data: MergeInput, chosen: NDArray[np.int64], operators: Sequence[str]
) -> NDArray[np.int16]:
    """(n_observations, 3) indices after the operator that was chosen for each lattice."""
    hkl = data.observations.array(np.int16, 3)
    offsets = data.observations.offsets
    for part in parts_of(offsets):
        own, of_observation = np.array(data.hkl[part]), chosen[lattices_of(offsets, part)]
        for k in range(1, len(operators)):
            which = of_observation == k
            own[which] = reindexed(own[which].astype(np.int32), operators[k])
        hkl[part] = own
    return hkl


def nearest_image(images: NDArray[np.float64], expected: UnitCell) -> NDArray[np.int64]:
    """(n,) which of the (n, K, 6) cells is nearest to the expected one; the first if none is nearer."""
    unit = np.array([*(_RELATIVE_LENGTH * np.array(expected[:3])), *[_ANGLE_DEG] * 3])
    distance = np.linalg.norm((images - np.array(expected)) / unit, axis=2)
    distance[:, 0] -= _WORTH_CHANGING
    return np.argmin(distance, axis=1).astype(np.int64)


def reindexed_cells(cells: NDArray[np.float64], operator: str) -> NDArray[np.float64]:
    """(n, 6) cells whose hkl are those of the (n, 6) given ones under an operator.

    Examples
    --------
    >>> reindexed_cells(np.array([[50.0, 51.0, 70.0, 90.0, 90.0, 91.0]]), "k,h,-l").round(6).tolist()
    [[51.0, 50.0, 70.0, 90.0, 90.0, 91.0]]
    """
    matrix = reindexing_matrix(operator) / gemmi.Op.DEN
    lengths = cells[:, :3]
    alpha, beta, gamma = np.cos(np.deg2rad(cells[:, 3:])).T
    one = np.ones(len(cells))
    cosines = np.array([[one, gamma, beta], [gamma, one, alpha], [beta, alpha, one]])
    metric = lengths[:, :, None] * lengths[:, None, :] * cosines.transpose(2, 0, 1)
    turned = np.einsum("ji,njk,kl->nil", matrix, metric, matrix)
    new = np.sqrt(np.einsum("nii->ni", turned))
    cosine = turned / (new[:, :, None] * new[:, None, :])
    angles = np.rad2deg(np.arccos(np.clip([cosine[:, 1, 2], cosine[:, 0, 2], cosine[:, 0, 1]], -1, 1)))
    return np.concatenate([new, angles.T], axis=1)


def after_nearest_cells(
    resolution: SettingResolution, operators: Sequence[str], chosen: NDArray[np.int64], space_group: str
) -> SettingResolution:
    """The resolution with operators that act on hkl as indexed, not on those of the nearest cell."""
    if not chosen.any():
        return resolution
    both = resolution.operators if len(resolution.operators) >= len(operators) else tuple(operators)
    table = product_table(operators, resolution.operators, both, space_group)
    return replace(resolution, operators=both, setting=table[chosen, resolution.setting])
