"""Partial observations of lattices that were each indexed in one of several ways, with the truth.

Tables only, no images: for what comes after integration.
"""

from dataclasses import dataclass

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.reindexing import inverse_reindexed
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit, indexing_ambiguity_operators
from ssx_processing.models import UnitCell

WILSON_B = 20.0
"""Å²; how intensities fall off with resolution."""
WAVELENGTH = 1.0
"""Å."""
BACKGROUND = 40.0
"""Photons below a spot."""


@dataclass(frozen=True)
class AmbiguousStills:
    """Observations sorted by lattice; arrays of n_observations unless said otherwise."""

    unit: AsymmetricUnit
    operators: tuple[str, ...]
    """The ways of indexing, "h,k,l" first."""
    truth: NDArray[np.float64]
    """(n_unique,) full intensities in the setting "h,k,l"."""
    setting: NDArray[np.int64]
    """(n_lattices,) the operator that brings a lattice's indices into that setting."""
    offsets: NDArray[np.int64]
    """n_lattices + 1: lattice f owns the observations offsets[f] to offsets[f + 1] - 1."""
    hkl: NDArray[np.int32]
    """(n_observations, 3), as indexed."""
    intensity: NDArray[np.float64]
    """Photons."""
    noise_variance: NDArray[np.float64]
    """Variance at zero intensity."""
    factor: NDArray[np.float64]
    """How near to the Ewald sphere a reflection is believed to be, at most 1."""


def ambiguous_stills(
    rng: np.random.Generator,
    *,
    unit_cell: UnitCell,
    space_group: str,
    n_lattices: int,
    strength: float = 1000.0,
    n_observations: int = 300,
    d_min: float = 2.5,
    max_obliquity_deg: float = 1.0,
    shares: tuple[float, ...] | None = None,
    truth: NDArray[np.float64] | None = None,
) -> AmbiguousStills:
    """Lattices in random orientations, each indexed in a random one of the ways there are.

    Partialities are Lorentzian-like, times a lognormal factor that nothing predicts; scales have a
    standard deviation of 60 %, relative B factors one of 5 Å².

    Parameters
    ----------
    strength
        Photons of a full reflection at low resolution, on average.
    n_observations
        Of each lattice, at most; a random choice.
    shares
        Fractions of lattices indexed in each way; by default equal.
    truth : (n_unique,) array
        Full intensities, photons; by default new ones with Wilson's statistics.
    """
    unit = asymmetric_unit(unit_cell, space_group, d_min)
    operators = ("h,k,l", *indexing_ambiguity_operators(unit_cell, space_group, max_obliquity_deg))
    if truth is None:
        truth = wilson_intensities(rng, unit, strength)
    crystal = gemmi.UnitCell(*unit_cell)
    hkl = gemmi.make_miller_array(crystal, gemmi.SpaceGroup(unit.space_group), d_min, unique=False)
    hkl = np.ascontiguousarray(hkl, np.int32)
    uid = unit.find(*hkl.T)[0]
    hkl, uid = hkl[uid >= 0], uid[uid >= 0]
    q = hkl @ np.array(crystal.frac.mat.tolist())
    setting = rng.choice(len(operators), n_lattices, p=shares)
    parts = []
    for f in range(n_lattices):
        which, error, width = _on_the_sphere(q, _random_rotation(rng), np.exp(0.2 * rng.normal()), WAVELENGTH)
        if len(which) > n_observations:
            some = np.sort(rng.choice(len(which), n_observations, replace=False))
            which, error, width = which[some], error[some], width[some]
        n, u = len(which), uid[which]
        partiality = (1 + (error / width) ** 2) ** -1.5 * np.exp(rng.normal(0, 0.4, n))
        scale = np.exp(rng.normal(0, 0.6) - 2 * rng.normal(0, 5.0) * unit.s_squared[u])
        counted = rng.poisson(scale * partiality * truth[u] + BACKGROUND)
        estimated = BACKGROUND + rng.normal(0, np.sqrt(BACKGROUND / 2), n)
        believed = error / width + rng.normal(0, 0.3, n)
        indexed = inverse_reindexed(hkl[which], operators[setting[f]])
        parts.append((indexed, counted - estimated, np.exp(-0.5 * believed**2)))
    observed, intensity, factor = (np.concatenate(part) for part in zip(*parts, strict=True))
    sizes = [len(part[0]) for part in parts]
    return AmbiguousStills(
        unit=unit,
        operators=operators,
        truth=truth,
        setting=setting,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        hkl=observed,
        intensity=intensity,
        noise_variance=np.full(len(intensity), 1.5 * BACKGROUND),
        factor=factor,
    )


def wilson_intensities(
    rng: np.random.Generator, unit: AsymmetricUnit, strength: float
) -> NDArray[np.float64]:
    """(n_unique,) intensities with Wilson's statistics that fall off with resolution."""
    n = len(unit)
    normalised = np.where(unit.centric, rng.chisquare(1, n), rng.exponential(1.0, n)) * unit.epsilon
    return (strength * normalised * np.exp(-2 * WILSON_B * unit.s_squared)).astype(np.float64)


@njit(cache=True, nogil=True)
def _on_the_sphere(q, rotation, width_factor, wavelength):
    """Reflections that diffract, their excitation errors and rocking widths in 1/Å."""
    n = 0
    which, errors, widths = np.empty(len(q), np.int64), np.empty(len(q)), np.empty(len(q))
    for i in range(len(q)):
        x = rotation[0, 0] * q[i, 0] + rotation[0, 1] * q[i, 1] + rotation[0, 2] * q[i, 2]
        y = rotation[1, 0] * q[i, 0] + rotation[1, 1] * q[i, 1] + rotation[1, 2] * q[i, 2]
        z = rotation[2, 0] * q[i, 0] + rotation[2, 1] * q[i, 1] + rotation[2, 2] * q[i, 2]
        length = np.sqrt(x * x + y * y + z * z)
        error = np.sqrt(x * x + y * y + (z - 1 / wavelength) ** 2) - 1 / wavelength
        width = np.hypot(4e-4, 8e-4 * length) * width_factor
        if abs(error) < 1.7 * width:
            which[n], errors[n], widths[n] = i, error, width
            n += 1
    return which[:n], errors[:n], widths[:n]


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = q * np.sign(np.diag(r))
    return turned * np.linalg.det(turned)
