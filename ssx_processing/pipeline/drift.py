"""How the detector moves against the beam while data are collected, chunk by chunk.

Each chunk leaves the normal equations of its lattices about the calibration's geometry in its
summary; they add up, so the move over any range of chunks follows without looking at frames again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssx_processing.kernels.detector_refinement import DETECTOR, DetectorNormal
from ssx_processing.models import Geometry
from ssx_processing.pipeline.detector_normals import NormalsCollector, summed
from ssx_processing.pipeline.geometry_record import detector_in_words

MIN_LATTICES = 8
"""A chunk with fewer says nothing of the detector."""
LIMIT_PX = 0.2
LIMIT_DISTANCE = 0.1
"""Per cent."""
SIGNIFICANT = 4.0
"""Standard deviations."""


@dataclass(frozen=True)
class DriftPoint:
    """Move of the detector against the calibration's geometry, over some lattices."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    shifts: tuple[float, ...]
    sds: tuple[float, ...]
    n_lattices: int

    def is_drift(self) -> bool:
        """Significant, and large enough to matter."""
        for shift, sd, unit in zip(self.shifts[:3], self.sds[:3], self.units[:3], strict=True):
            limit = LIMIT_PX if unit == "px" else LIMIT_DISTANCE
            if abs(shift) > max(limit, SIGNIFICANT * sd):
                return True
        return False


def drift_content(collector: NormalsCollector) -> dict[str, Any]:
    """What a chunk keeps of its lattices: normal equations of the whole detector, the cell held."""
    n, total = len(DETECTOR), collector.total
    return {
        "matrix": total.matrix[:n, :n].tolist(),
        "rhs": total.rhs[:n].tolist(),
        "chi2": total.chi2,
        "n_spots": total.n_spots,
        "n_lattices": total.n_lattices,
    }


def read_drift(content: Mapping[str, Any] | None) -> DetectorNormal | None:
    """Normal equations from the summary of a chunk; None where it has none."""
    if not content:
        return None
    return DetectorNormal(
        np.array(content["matrix"]),
        np.array(content["rhs"]),
        content["chi2"],
        content["n_spots"],
        content["n_lattices"],
    )


def drift_of(normals: Sequence[DetectorNormal], geometry: Geometry) -> DriftPoint | None:
    """Move over some chunks together; None with too few lattices.

    Parameters
    ----------
    geometry
        Of the calibration that the chunks were processed with.
    """
    if not normals:
        return None
    total = summed(normals)
    if total.n_lattices < MIN_LATTICES:
        return None
    names, units, rows = detector_in_words(geometry)
    try:
        covariance = np.linalg.inv(total.matrix)
    except np.linalg.LinAlgError:
        return None
    variances = np.diag(rows @ covariance @ rows.T)
    if not np.all(variances > 0):
        return None
    shifts = rows @ covariance @ total.rhs
    return DriftPoint(
        names, units, tuple(map(float, shifts)), tuple(map(float, np.sqrt(variances))), total.n_lattices
    )
