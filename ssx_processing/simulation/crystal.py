"""One crystal: an orientation, a cell, and the mosaic blocks that truly scatter."""

from dataclasses import dataclass
from typing import NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ssx_processing.models import UnitCell
from ssx_processing.simulation.chip_settings import SimulatedBeam, SimulatedCrystals


class Blocks(NamedTuple):
    """Samples over mosaic blocks and beam; one ray of the beam meets one block."""

    a_matrix: NDArray[np.float64]
    """(n, 3, 3), columns a*, b*, c*, 1/Å."""
    s0: NDArray[np.float64]
    """(n, 3), wave vector of the ray, 1/Å."""
    wavenumber: NDArray[np.float64]
    """(n,), |s0|."""
    position_mm: NDArray[np.float64]
    """(n, 3), of the block, from where the detector's distance is measured."""
    size_a: float
    """Diameter, Å."""


@dataclass(frozen=True)
class Crystal:
    """A crystal in the beam."""

    a_matrix: NDArray[np.float64]
    """(3, 3), columns a*, b*, c*, 1/Å, laboratory frame; the mean over the blocks."""
    unit_cell: UnitCell
    scale: float
    """Photons per electron² at full excitation."""
    b_factor: float
    """Å², on top of that of the atoms."""
    blocks: Blocks


def random_crystal(
    crystals: SimulatedCrystals, beam: SimulatedBeam, median_scale: float, rng: np.random.Generator
) -> Crystal:
    """One crystal of the population in a random orientation."""
    cell = random_cell(crystals, rng)
    orientation = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    a_matrix = orientation @ reciprocal_basis(cell)
    return Crystal(
        a_matrix=a_matrix,
        unit_cell=cell,
        scale=median_scale * float(np.exp(rng.normal(0, crystals.scale_variation))),
        b_factor=float(rng.normal(0, crystals.b_variation)),
        blocks=random_blocks(crystals, beam, a_matrix, orientation, rng),
    )


def random_cell(crystals: SimulatedCrystals, rng: np.random.Generator) -> UnitCell:
    """Mean cell with each free length changed at random."""
    system = crystals.sample.gemmi_space_group.crystal_system_str()
    strain = rng.normal(0, crystals.cell_variation, size=3)
    if system in ("tetragonal", "trigonal", "hexagonal"):
        strain[1] = strain[0]
    if system == "cubic" or (system == "trigonal" and crystals.unit_cell[3] != 90):  # rhombohedral
        strain[:] = strain[0]
    a, b, c = (float(v) for v in np.array(crystals.unit_cell[:3]) * (1 + strain))
    return a, b, c, *crystals.unit_cell[3:]


def reciprocal_basis(cell: UnitCell) -> NDArray[np.float64]:
    """Columns a*, b*, c* of an unrotated crystal, 1/Å."""
    return np.array(gemmi.UnitCell(*cell).frac.mat.tolist()).T


def random_blocks(
    crystals: SimulatedCrystals,
    beam: SimulatedBeam,
    a_matrix: NDArray[np.float64],
    orientation: NDArray[np.float64],
    rng: np.random.Generator,
) -> Blocks:
    """Blocks of a few domains: neighbours in the crystal are also neighbours in orientation."""
    n, n_domains = crystals.n_blocks, int(rng.integers(1, 5))
    domain = rng.integers(0, n_domains, size=n)
    spread = np.deg2rad(crystals.mosaic_spread_deg)
    tilt = spread * (0.8 * rng.normal(size=(n_domains, 3))[domain] + 0.6 * rng.normal(size=(n, 3)))
    tilt -= tilt.mean(axis=0)  # the mean orientation is the crystal's
    strain = 1 + 2e-4 * rng.normal(size=(n, 1, 1))
    edges = crystals.size_mm * np.exp(rng.normal(0, 0.3, size=3))
    inside = (domain[:, None] == np.arange(n_domains)) @ rng.uniform(-0.3, 0.3, (n_domains, 3))
    inside += rng.uniform(-0.2, 0.2, (n, 3))
    off_focus = rng.normal(0, 0.25 * crystals.size_mm, size=3)
    wavenumber = 1 / (beam.wavelength * (1 + beam.bandwidth * rng.normal(size=n)))
    return Blocks(
        a_matrix=Rotation.from_rotvec(tilt).as_matrix() @ a_matrix * strain,
        s0=_rays(beam, n, rng) * wavenumber[:, None],
        wavenumber=wavenumber,
        position_mm=(inside * edges) @ orientation.T + off_focus,
        size_a=float(crystals.block_size_a * np.exp(rng.normal(0, 0.15))),
    )


def _rays(beam: SimulatedBeam, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n, 3) unit vectors about the beam's direction -z."""
    rays = np.empty((n, 3))
    rays[:, :2] = 1e-3 * beam.divergence_mrad * rng.normal(size=(n, 2))
    rays[:, 2] = -np.sqrt(1 - (rays[:, :2] ** 2).sum(axis=1))
    return rays
