"""Sums over refined lattices from which the detector's place follows: of a calibration, or of a chunk."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.detector_refinement import (
    DETECTOR,
    OF_GROUP,
    DetectorNormal,
    DetectorParts,
    add_still,
    detector_parts,
)
from ssx_processing.kernels.still_model import surface_positions
from ssx_processing.models import Geometry, Lattice, SpotList
from ssx_processing.pipeline.lattice_refinement import LatticeRefiner, spot_qualities
from ssx_processing.settings import CalibrationSettings

STRONG_SNR = 12.0
"""Signal-to-noise ratio from which on spots count for the detector.

At wide angles the centroids of weak spots are drawn towards the beam: the long side of their
slanting profile in the sensor drowns in the background. In simulations (0.45 mm of silicon, 85 mm
away) that amounts to 0.05 % of the distance, with strong spots alone to less than 0.015 %.
"""
RIGID = 1e6
"""By how much the common move of all groups is restrained more than that of each."""
STRONG_SHARE = 75.0
"""Percentile of all signal-to-noise ratios that serves where it is lower: some spots must count."""


class NormalsCollector:
    """Adds up lattices that were refined with one geometry."""

    def __init__(
        self,
        geometry: Geometry,
        refiner: LatticeRefiner,
        groups: Sequence[Sequence[int]] = (),
        min_snr: float = STRONG_SNR,
    ) -> None:
        self.geometry, self.refiner, self.min_snr = geometry, refiner, min_snr
        self.parts: DetectorParts = detector_parts(geometry, groups)
        self.axes, self.rectangles = geo.panel_axes(geometry), geo.panel_rectangles(geometry)
        n_shared = len(DETECTOR) + len(refiner.lattice.strains) + OF_GROUP * self.parts.n_groups
        self.matrix, self.rhs = np.zeros((n_shared, n_shared)), np.zeros(n_shared)
        self.chi2, self.n_spots, self.n_lattices = 0.0, 0, 0
        self.spots_of_panel = np.zeros(len(geometry.panels), np.int64)

    def add(self, lattices: Sequence[Lattice], spots: SpotList) -> None:
        """Add the lattices of one frame."""
        if not lattices:
            return
        q = geo.pixel_to_q(
            spots.x_px,
            spots.y_px,
            spots.panel,
            self.rectangles,
            self.axes,
            self.refiner.s0,
            *geo.sensor(self.geometry),
        )
        quality = spot_qualities(spots, q)
        for lattice in lattices:
            self._add(lattice, q, quality, spots)

    def _add(
        self, lattice: Lattice, q: NDArray[np.float64], quality: NDArray[np.float64], spots: SpotList
    ) -> None:
        fit, mine, r = lattice.fit, lattice.spot_index, self.refiner
        to_conventional = r.lattice.to_conventional
        generators = np.array([fit.rotation @ strain @ r.lattice.b for strain in r.lattice.strains])
        panel, weight = spots.panel[mine], fit.residuals[:, 3] * (spots.snr[mine] >= self.min_snr)
        self.chi2 += add_still(
            surface_positions(q[mine], r.s0, panel, r.inverses),
            panel,
            quality[mine],
            weight,
            np.rint(fit.hkl @ to_conventional.T).astype(np.float64),
            np.ascontiguousarray(lattice.a_matrix @ r.from_conventional),
            generators,
            np.concatenate([fit.strain, fit.displacement_mm]),
            r.mean,
            r.precision,
            fit.widths,
            r.s0,
            r.rocking.parts(),
            self.axes,
            r.inverses,
            self.parts.pivot,
            self.parts.group_of_panel,
            self.parts.centres,
            self.matrix,
            self.rhs,
        )
        self.n_lattices += 1
        self.n_spots += int((weight > 0).sum())
        self.spots_of_panel += np.bincount(panel[weight > 0], minlength=len(self.spots_of_panel))

    @property
    def total(self) -> DetectorNormal:
        """What was added up so far."""
        return DetectorNormal(self.matrix.copy(), self.rhs.copy(), self.chi2, self.n_spots, self.n_lattices)


def counting_snr(hits: Sequence[SpotList]) -> float:
    """Signal-to-noise ratio from which on spots count for the detector, in data with these spots."""
    snr = np.concatenate([spots.snr for spots in hits]) if hits else np.empty(0)
    return float(min(STRONG_SNR, np.percentile(snr, STRONG_SHARE))) if len(snr) else STRONG_SNR


def summed(normals: Sequence[DetectorNormal]) -> DetectorNormal:
    """Sum of at least one, of the same parameters about the same geometry."""
    return reduce(add, normals)


def solve_shared(
    normal: DetectorNormal,
    parts: DetectorParts,
    strain: NDArray[np.float64],
    of_groups: NDArray[np.float64],
    precision: NDArray[np.float64],
    settings: CalibrationSettings,
    held: Sequence[int] = (),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Step of the shared parameters and its covariance; what is held has zeros in both.

    Parameters
    ----------
    strain, of_groups
        Where mean strain and groups are now: they are restrained to zero.
    precision : (m, m) array
        Inverse covariance of the mean strain about that of the given cell.
    """
    n, n_strains = len(normal.rhs), len(strain)
    matrix, rhs = normal.matrix.copy(), normal.rhs.copy()
    strains = slice(5, 5 + n_strains)
    matrix[strains, strains] += precision
    rhs[strains] -= precision @ strain
    groups = np.arange(5 + n_strains, n)
    if len(groups):
        restraint = _group_restraint(parts, settings)
        matrix[np.ix_(groups, groups)] += restraint
        rhs[groups] -= restraint @ of_groups.ravel()
    free = np.setdiff1d(np.arange(n), held)
    step, covariance = np.zeros(n), np.zeros((n, n))
    inverse = np.linalg.inv(matrix[np.ix_(free, free)])
    step[free] = inverse @ rhs[free]
    covariance[np.ix_(free, free)] = inverse
    return step, covariance


def _group_restraint(parts: DetectorParts, settings: CalibrationSettings) -> NDArray[np.float64]:
    """(6 g, 6 g) inverse covariance that holds groups near their given places.

    What all groups do alike is the move of the whole detector, and its turn about the beam is that
    of the crystals: both are taken out of the groups' moves by a far stronger restraint.
    """
    sd = np.tile([settings.group_shift_mm] * 3 + [1e-3 * settings.group_turn_mrad] * 3, parts.n_groups)
    rigid = np.zeros((parts.n_groups, 6, 6))
    rigid[:] = np.eye(6)
    for g, centre in enumerate(parts.centres - parts.pivot):
        for axis in range(3):
            rigid[g, :3, 3 + axis] = np.cross(np.eye(3)[axis], centre)
    alike, _ = np.linalg.qr(rigid.reshape(-1, 6) / sd[:, None])
    return (np.eye(len(sd)) + RIGID * alike @ alike.T) / np.outer(sd, sd)
