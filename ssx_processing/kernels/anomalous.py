"""Statistics of the differences between Friedel mates."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels.agreement import cc_half


@dataclass(frozen=True)
class AnomalousHalves:
    """What is known of the Friedel mates of each unique reflection; arrays of n_unique elements."""

    acentric: NDArray[np.bool_]
    """Those that can have an anomalous difference."""
    paired: NDArray[np.bool_]
    """Acentric, and both mates measured."""
    difference_1: NDArray[np.float64]
    """I(+) - I(-) in one half of the lattices; nan where there is none."""
    difference_2: NDArray[np.float64]
    """The same in the other half."""

    def inside(self, inside: NDArray[np.bool_]) -> "AnomalousHalves":
        """Those of some reflections."""
        return AnomalousHalves(
            self.acentric[inside], self.paired[inside], self.difference_1[inside], self.difference_2[inside]
        )

    def followed_by(self, n: int) -> "AnomalousHalves":
        """The same and ``n`` reflections that count for nothing: mates listed as reflections of their own."""
        no, none = np.zeros(n, np.bool_), np.full(n, np.nan)
        return AnomalousHalves(
            np.concatenate([self.acentric, no]),
            np.concatenate([self.paired, no]),
            np.concatenate([self.difference_1, none]),
            np.concatenate([self.difference_2, none]),
        )

    @property
    def cc(self) -> float:
        """Correlation of the differences of the two halves; nan with fewer than 3 of them."""
        return cc_half(self.difference_1, self.difference_2)

    @property
    def completeness(self) -> float:
        """Share of the acentric reflections that are pairs; nan without any."""
        n = int(self.acentric.sum())
        return int(self.paired.sum()) / n if n else math.nan


def anomalous_halves(
    halves: NDArray[np.float64], measured: NDArray[np.bool_], centric: NDArray[np.bool_]
) -> AnomalousHalves:
    """Differences of the half sets.

    Parameters
    ----------
    halves : (n_unique, 2, 2) array
        Intensities by Friedel sign and half; nan where there is none.
    measured : (n_unique, 2) array
        Whether each mate was measured in either half.
    centric : (n_unique,) array
        Reflections that are their own mates.
    """
    difference = np.where(centric[:, None], np.nan, halves[:, 0] - halves[:, 1])
    return AnomalousHalves(~centric, ~centric & measured.all(axis=1), difference[:, 0], difference[:, 1])
