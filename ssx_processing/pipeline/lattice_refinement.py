"""A proposed lattice, refined against its own spots, or why it does not fit then."""

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.indexing import IndexedLattice
from ssx_processing.kernels.still_model import panel_inverses, spot_quality, surface_positions
from ssx_processing.kernels.still_refinement import refine_still
from ssx_processing.kernels.unit_cell import SearchLattice, cell_of, real_space, rotation_of
from ssx_processing.models import Geometry, Lattice, Misfit, SpotList, StillFit
from ssx_processing.pipeline.population import Population, Rocking, robust_sigma
from ssx_processing.settings import ProcessingSettings


class LatticeRefiner:
    """Refines the lattices of all frames of one experiment."""

    def __init__(
        self,
        geometry: Geometry,
        lattice: SearchLattice,
        settings: ProcessingSettings,
        rocking: Rocking,
        population: Population,
    ) -> None:
        self.lattice, self.settings, self.rocking, self.population = lattice, settings, rocking, population
        self.s0 = geo.incident_wave_vector(geometry)
        self.inverses = panel_inverses(geo.panel_axes(geometry))
        self.to_crystal = real_space(lattice.b)
        self.from_conventional = np.linalg.inv(lattice.to_conventional)
        n_strains = len(lattice.strains)
        self.mean, self.precision = population.means(n_strains), population.precision(n_strains)
        self.expected = np.array([population.position_error_px, 1.0])

    def refine(
        self,
        proposal: IndexedLattice,
        q: NDArray[np.float64],
        mine: NDArray[np.int64],
        quality: NDArray[np.float64],
        spots: SpotList,
    ) -> Lattice | Misfit:
        """Refine a proposal against its own spots, or say why it does not fit then.

        Parameters
        ----------
        q : (n, 3) array
            Of all spots of the frame, 1/Å.
        mine : (k,) array
            Which spots it explains best.
        quality : (n, 2) array
            From `spot_qualities`.
        """
        least = self.settings.indexing.min_spots
        if len(mine) < least:
            return Misfit.DIVERGED
        lattice, n_free = self.lattice, 5 + len(self.lattice.strains)
        rotation = rotation_of(proposal.a_primitive, lattice.b)
        strain_tensor = rotation.T @ proposal.a_primitive @ self.to_crystal - np.eye(3)
        strain = np.einsum("mij,ij->m", lattice.strains, strain_tensor)
        displacement, a, widths = np.zeros(2), np.empty((3, 3)), np.empty(2)
        residuals, covariance = np.empty((len(mine), 7)), np.empty((n_free, n_free))
        own, panel = q[mine], spots.panel[mine]
        n_used = refine_still(
            own,
            surface_positions(own, self.s0, panel, self.inverses),
            panel,
            quality[mine],
            self.s0,
            self.inverses,
            self.rocking.parts(),
            self.expected,
            lattice.b,
            lattice.strains,
            self.mean,
            self.precision,
            rotation,
            strain,
            displacement,
            a,
            residuals,
            widths,
            covariance,
        )
        if n_used < least:
            return Misfit.DIVERGED
        took_part = residuals[:, 3] > 0.0
        residuals, mine = residuals[took_part], mine[took_part]
        rmsd = float(np.sqrt(np.mean(np.sum(residuals[:, :2] ** 2, axis=1))))
        if rmsd > self.settings.indexing.max_rmsd_px:
            return Misfit.DIVERGED
        conventional = a @ lattice.to_conventional
        if not self._cell_is_near(conventional):
            return Misfit.CELL_DIFFERS
        hkl = np.rint(residuals[:, 4:] @ self.from_conventional.T).astype(np.int16)
        fit = StillFit(rotation, strain, displacement, residuals[:, :4], hkl, widths, covariance)
        return Lattice(
            a_matrix=conventional,
            n_indexed=len(mine),
            log10_e=proposal.log10_e,
            rmsd_px=rmsd,
            excitation_width=robust_sigma(residuals[:, 2]),
            spot_index=mine.astype(np.int32),
            fit=fit,
            runner_up_gap=proposal.runner_up_gap,
            split_deg=proposal.split_deg,
        )

    def _cell_is_near(self, a_matrix: NDArray[np.float64]) -> bool:
        s, expected = self.settings.indexing, self.settings.sample.unit_cell
        cell = cell_of(a_matrix)
        lengths = all(
            abs(x / e - 1.0) <= s.cell_tolerance for x, e in zip(cell[:3], expected[:3], strict=True)
        )
        return lengths and all(
            abs(x - e) <= s.angle_tolerance_deg for x, e in zip(cell[3:], expected[3:], strict=True)
        )


def spot_qualities(spots: SpotList, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) array: expected errors of positions and excitations of the spots, see `spot_quality`."""
    return spot_quality(spots.snr, spots.intensity, np.linalg.norm(q, axis=1))
