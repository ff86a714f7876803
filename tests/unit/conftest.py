"""Partial still observations with a known answer, for scaling, merging and the pipeline's merge."""

from collections.abc import Callable
from dataclasses import dataclass

import gemmi
import numpy as np
import pytest
from numpy.typing import NDArray

from ssx_processing.kernels.merging import Observations
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit

BEAM = np.array([0.0, 0.0, 1.0])
"""At a wavelength of 1 Å."""


@dataclass(frozen=True)
class PartialStills:
    """Observations of all lattices, one after the other, and the truth behind them."""

    unit: AsymmetricUnit
    truth: NDArray[np.float64]
    """(n_unique,) full intensities."""
    log_g: NDArray[np.float64]
    b_factor: NDArray[np.float64]
    lattice: NDArray[np.int64]
    hkl: NDArray[np.int32]
    intensity: NDArray[np.float64]
    sigma: NDArray[np.float64]
    excitation_error: NDArray[np.float64]
    excitation_sigma: NDArray[np.float64]

    @property
    def uid(self) -> NDArray[np.int32]:
        return self.unit.find(*self.hkl.T)[0]

    def observations(self) -> Observations:
        n = np.bincount(self.lattice, minlength=len(self.log_g))
        return Observations(
            offsets=np.concatenate([[0], np.cumsum(n)]).astype(np.int64),
            uid=self.uid,
            intensity=self.intensity.copy(),
            noise_variance=np.maximum(self.sigma**2 - np.maximum(self.intensity, 0), 1.0),
            factor=np.exp(-0.5 * (self.excitation_error / self.excitation_sigma) ** 2),
        )

    def cc_to_truth(self, merged: NDArray[np.float64]) -> float:
        seen = np.isfinite(merged)
        return float(np.corrcoef(merged[seen], self.truth[seen])[0, 1])


def simulate_partial_stills(
    rng: np.random.Generator, *, n_lattices: int = 250, strength: float = 2000.0, d_min: float = 2.5
) -> PartialStills:
    """Random orientations; Lorentzian-like partiality with a heavy-tailed factor that nothing predicts.

    The excitation errors handed on are those of an orientation that is 0.02 degrees wrong.
    """
    cell = (50.0, 50.0, 62.0, 90.0, 90.0, 90.0)
    unit = asymmetric_unit(cell, "P 43 21 2", d_min)
    n = len(unit)
    wilson = np.where(unit.centric, rng.chisquare(1, n), rng.exponential(1.0, n)) * unit.epsilon
    truth = (strength * wilson * np.exp(-2 * 20.0 * unit.s_squared)).astype(np.float64)
    hkl = gemmi.make_miller_array(
        gemmi.UnitCell(*cell), gemmi.SpaceGroup(unit.space_group), d_min, unique=False
    )
    q = hkl / np.array(cell[:3])
    log_g, b_factor = rng.normal(0, 0.6, n_lattices), rng.normal(0, 5.0, n_lattices)
    uid = unit.find(*hkl.T)[0]
    parts = []
    for f in range(n_lattices):
        turned = q @ _random_rotation(rng).T
        width = np.hypot(4e-4, 8e-4 * np.linalg.norm(q, axis=1)) * np.exp(0.2 * rng.normal())
        wrong = turned + np.cross(rng.normal(0, np.deg2rad(0.02), 3), turned)
        error = np.linalg.norm(wrong + BEAM, axis=1) - 1.0
        keep = np.abs(error) < 1.7 * width
        real = (np.linalg.norm(turned + BEAM, axis=1) - 1.0)[keep] / width[keep]
        partiality = (1 + real**2) ** -1.5 * np.exp(rng.normal(0, 0.4, len(real)))
        s_squared = unit.s_squared[uid[keep]]
        scale = np.exp(log_g[f] - 2 * b_factor[f] * s_squared)
        expected = scale * partiality * truth[uid[keep]]
        background = np.full(len(real), 40.0)
        counted = rng.poisson(expected + background)
        estimated = background + rng.normal(size=len(real)) * np.sqrt(background / 2)
        sigma = np.sqrt(np.maximum(counted, 0) + background / 2)
        parts.append((np.full(len(real), f), hkl[keep], counted - estimated, sigma, error[keep], width[keep]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return PartialStills(unit, truth, log_g, b_factor, columns[0], columns[1].astype(np.int32), *columns[2:])


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = q * np.sign(np.diag(r))
    return turned * np.linalg.det(turned)


@pytest.fixture(scope="session")
def partial_stills() -> PartialStills:
    return simulate_partial_stills(np.random.default_rng(7))


@pytest.fixture(scope="session")
def simulate_stills() -> Callable[..., PartialStills]:
    return simulate_partial_stills
