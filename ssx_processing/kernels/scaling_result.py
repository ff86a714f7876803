"""What scaling is asked for and what it gives."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.merging import Reference, Scales
from ssx_processing.kernels.observation_model import ObservationModel


class ScalingModel(StrEnum):
    """What is made of an observation's distance from the Ewald sphere; each goes on from those before."""

    MEAN = "mean"
    """Monte Carlo: neither scaled nor corrected."""
    SCALE = "scale"
    """Scale and B of each lattice; partialities are left to average out."""
    GAUSSIAN = "gaussian"
    """Also the partiality of Gaussian rocking curves with the stated widths."""
    PARTIALITY = "partiality"
    """Also partiality and its spread as the observations themselves show them."""
    POSTREFINEMENT = "postrefinement"
    """Also two turns and a rocking width of each lattice from its intensities."""


@dataclass(frozen=True)
class Scaling:
    """What `scale_lattices` found."""

    model: ScalingModel
    scales: Scales
    reference: Reference
    """Merged intensities at these scales, without outliers."""
    outlier: NDArray[np.bool_]
    """(n_observations,) further than OUTLIER_SIGMA from all others."""
    observation_model: ObservationModel
    n_cycles: int
    """Cycles that were run."""
    converged: bool
    """The last cycle moved ln g by less than 0.02 (with partialities 0.05), root mean square."""
    turn_sd: float
    """Standard deviation of the turns about each axis, radians, which they are restrained by."""
    width_sd: float
    """That of ln rocking width."""


@dataclass(frozen=True)
class Start:
    """Where an alternation may begin, or how far it has come; arrays as in `still_sweep.State`."""

    parameters: NDArray[np.float64]
    verdict: NDArray[np.uint8]
    observation_model: ObservationModel
    turn_sd: float = 2e-4
    width_sd: float = 0.1
    is_guess: bool = False
    """The parameters are guesses: one cycle of scales and B comes first."""
