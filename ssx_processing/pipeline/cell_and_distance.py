"""Whether the data can tell the distance from the size of the cell, and what is done if they cannot.

Both change radii alike but for the curvature of the Ewald sphere.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.detector_refinement import DetectorNormal, DetectorParts
from ssx_processing.pipeline.detector_normals import solve_shared
from ssx_processing.settings import CalibrationSettings

CELL_FREE = 0.1
"""Standard deviation of the mean cell with which it is found out what the data alone know."""
CELL_HELD = 1e-6
"""That of its scale where the data do not know the distance."""


def trust_in_cell(
    normal: DetectorNormal,
    parts: DetectorParts,
    strain: NDArray[np.float64],
    of_groups: NDArray[np.float64],
    strains: NDArray[np.float64],
    settings: CalibrationSettings,
) -> tuple[NDArray[np.float64], str]:
    """Inverse covariance of the mean strain, and the words about distance and cell.

    With the cell quite free the standard deviation of the distance says whether the data know it. If
    not, only the scale of the cell is held: its shape the data do know.

    Parameters
    ----------
    strain, of_groups
        Where mean strain and groups are now.
    strains : (m, 3, 3) array
        Strains that the lattice allows.
    """
    n = len(normal.rhs)
    free = np.eye(len(strains)) / CELL_FREE**2
    groups = list(range(5 + len(strains), n))  # held: they blur the distance of all, not that of each
    _, covariance = solve_shared(normal, parts, strain, of_groups, free, settings, groups)
    distance = float(np.linalg.norm(parts.pivot))
    trace = np.trace(strains, axis1=1, axis2=2)  # the scale of the cell is a third of its strain's trace
    scale = np.zeros(len(covariance))
    scale[5 : 5 + len(strains)] = trace / 3.0
    sd = math.sqrt(covariance[2, 2]) / distance
    # A grows where the cell shrinks; a detector nearer to the source (z) is a shorter distance
    correlation = float(covariance[2] @ scale) / math.sqrt(
        covariance[2, 2] * float(scale @ covariance @ scale)
    )
    precision = np.eye(len(strains)) / settings.cell_trust**2
    if sd <= settings.max_distance_sd:
        return precision, (
            "distance and cell scale are told apart by these data: without any knowledge of the cell the "
            f"distance is known to {sd:.3%} (correlation {correlation:+.3f})"
        )
    return precision + np.outer(trace, trace) / float(trace @ trace) / CELL_HELD**2, (
        f"distance and cell scale cannot be told apart on these data (correlation {correlation:+.3f}, "
        f"distance known to {sd:.2%} only): the distance is the one with which the given "
        "cell fits"
    )
