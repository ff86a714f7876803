"""What the crystals of a data set have in common: spread of cells and places, rocking width."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ssx_processing.models import Lattice

MIN_SPOTS_FOR_ROCKING = 100
Q_BINS = 8
MIN_LATTICES = 5
"""With fewer nothing is learnt of the population."""
MIN_STRAIN_SD = 2e-4
MIN_DISPLACEMENT_SD_MM = 0.003


@dataclass(frozen=True)
class Rocking:
    """How far from the Ewald sphere reflections are still seen."""

    constant: float = 4e-4
    """Standard deviation of excitation errors at |q| = 0, 1/Å."""
    per_q: float = 1e-3
    """Part proportional to |q|, radians: mosaic spread and divergence."""
    per_q_squared: float = 0.0
    """Part proportional to |q|², Å: relative bandwidth times half the wavelength."""
    divergence: float = 2e-4
    """Standard deviation of the beam's direction, radians: contained in ``per_q``."""

    @property
    def in_words(self) -> str:
        """The standard deviation as a formula, 1/Å."""
        parts = [f"({self.constant:.2e})²", f"({self.per_q:.2e} |q|)²"]
        if self.per_q_squared:
            parts.append(f"({self.per_q_squared:.2e} |q|²)²")
        return f"root of {' + '.join(parts)} 1/Å"

    def parts(self, scale: float = 1.0) -> tuple[float, float, float, float]:
        """As the kernels want it, see `prediction.rocking_sigma`, of a lattice ``scale`` times as wide."""
        return (
            scale * self.constant,
            scale * self.per_q,
            scale * self.per_q_squared,
            scale * self.divergence,
        )


@dataclass(frozen=True)
class Population:
    """What crystals are expected to be like, before their spots are looked at."""

    strain_mean: tuple[float, ...] | None = None
    """Of the strains that the lattice allows, relative to the given cell; None: zero."""
    strain_sd: tuple[float, ...] | None = None
    """Their standard deviations; None: `STRAIN_SD`."""
    displacement_sd_mm: float = 0.05
    """Of crystals across the beam, along each of x and y; so much a wrong beam centre may be, too."""
    position_error_px: float = 0.2
    """Standard deviation of a strong spot's centroid, along each direction."""

    def means(self, n_strains: int) -> NDArray[np.float64]:
        """(m + 2,) array for `refine_still`."""
        return np.array([*(self.strain_mean or (0.0,) * n_strains), 0.0, 0.0])

    def precision(self, n_strains: int) -> NDArray[np.float64]:
        """(m + 2, m + 2) array for `refine_still`."""
        sd = [*(self.strain_sd or (STRAIN_SD,) * n_strains), *[self.displacement_sd_mm] * 2]
        return np.diag(1.0 / np.square(sd))


STRAIN_SD = 0.01
"""How well a given cell is trusted for a single crystal."""


def learn_population(
    lattices: Sequence[Lattice],
    population: Population,
    rocking: Rocking,
    strain: NDArray[np.float64] | None = None,
    *,
    centred: bool = False,
) -> tuple[Population, Rocking]:
    """Population and rocking width of refined lattices; the given ones with too few.

    Standard deviations are those between crystals: the errors of the single fits are taken off.

    Parameters
    ----------
    strain : (m,) array
        Mean strain where it is known better than by the median.
    centred
        The beam centre is that of the crystals, or soon will be: their mean displacement is no spread.
    """
    fits = [lattice.fit for lattice in lattices]
    if len(fits) < MIN_LATTICES:
        return population, rocking
    strains = np.array([fit.strain for fit in fits])
    errors = np.array([np.diag(fit.covariance)[3:-2] for fit in fits])
    median = np.median(strains, axis=0)
    spread = np.array([robust_sigma(column) for column in (strains - median).T])
    sd = np.sqrt(np.maximum(spread**2 - np.median(errors, axis=0), MIN_STRAIN_SD**2))
    moves = np.array([fit.displacement_mm for fit in fits])
    about = np.median(moves, axis=0) if centred else np.zeros(2)
    displacement = max(robust_sigma((moves - about).ravel()), MIN_DISPLACEMENT_SD_MM)
    learnt = Population(
        strain_mean=tuple(map(float, median if strain is None else strain)),
        strain_sd=tuple(map(float, sd)),
        displacement_sd_mm=displacement,
        position_error_px=float(np.median([fit.widths[0] for fit in fits])),
    )
    return learnt, fit_rocking(_q_and_error(lattices), rocking)


def _q_and_error(lattices: Sequence[Lattice]) -> NDArray[np.float64]:
    """(n, 2) array: |q| and excitation error of all indexed spots."""
    parts = [
        np.column_stack([np.linalg.norm(x.fit.hkl @ x.a_matrix.T, axis=1), x.fit.residuals[:, 2]])
        for x in lattices
    ]
    return np.concatenate(parts)


def fit_rocking(q_and_error: NDArray[np.float64], default: Rocking) -> Rocking:
    """Rocking width from excitation errors of indexed spots; the default with too few.

    Bandwidth and divergence are those of the default: the widths seldom tell them from the rest.

    Parameters
    ----------
    q_and_error : (n, 2) array
        |q| and excitation error, 1/Å.
    """
    if len(q_and_error) < MIN_SPOTS_FOR_ROCKING:
        return default
    parts = np.array_split(q_and_error[np.argsort(q_and_error[:, 0])], Q_BINS)
    q = np.array([np.median(part[:, 0]) for part in parts])
    variance = np.array([robust_sigma(part[:, 1]) ** 2 for part in parts])
    # relative errors of the variances are alike, so each is weighed by its size
    columns = np.column_stack([np.ones_like(q), q**2, q**4])
    known = default.per_q_squared**2 * q**4
    variance = np.maximum(variance - known, 0.05 * variance)
    parts_squared, _ = nnls(columns[:, :2] / variance[:, None], np.ones_like(q))
    if parts_squared.sum() <= 0.0:
        return default
    constant, per_q = np.sqrt(parts_squared)
    return replace(default, constant=float(constant), per_q=float(per_q))


def robust_sigma(values: NDArray[np.float64]) -> float:
    """Standard deviation about zero from the median of absolute values (normal distribution)."""
    return float(1.4826 * np.median(np.abs(values))) if len(values) else float("nan")
