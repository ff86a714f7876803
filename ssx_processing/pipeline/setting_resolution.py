"""What became of an indexing ambiguity: the setting of each lattice, and words for people."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.setting_reference import SettingReferenceTable
from ssx_processing.kernels.normalised_amplitudes import FallOff

NOT_CERTAIN = "setting not certain"
"""Why a lattice is left out whose margin is smaller than asked for."""
CERTAIN_Z = 2.0
"""A setting is called certain if its margin is so many standard deviations: 98 in 100 are right."""


@dataclass(frozen=True)
class SettingBasis:
    """What `follow_resolution` compares lattices with."""

    sums: NDArray[np.float64]
    """(n_unique, 2), as in `ssx_processing.kernels.ambiguity.SettingReference`."""
    fall_off: FallOff


@dataclass(frozen=True)
class SettingResolution:
    """The setting of each lattice; arrays of n_lattices elements."""

    operators: tuple[str, ...]
    """Triplets that act on hkl, "h,k,l" first; that alone if there is one way to index."""
    setting: NDArray[np.int64]
    """Which operator is applied; 0 where there is nothing to tell."""
    margin: NDArray[np.float64]
    """Correlation with all others less that in the next best setting; nan where there is none."""
    margin_z: NDArray[np.float64]
    """The same in standard deviations."""
    resolved: bool
    significance: float
    """Standard deviations by which the settings are better on reflections they were not chosen with."""
    agreement: float
    """Fraction of lattices whose setting these reflections alone confirm."""
    followed: str
    """Key of the reference whose setting was taken; empty if none."""
    reference: SettingReferenceTable | None
    """What these lattices say; None if there is nothing to tell, or it was not resolved."""
    notices: tuple[str, ...] = ()
    """What a person should know of the reference."""
    basis: SettingBasis | None = None
    """What settles the setting of more lattices; None if it was not resolved."""

    @property
    def reindexing(self) -> NDArray[np.str_]:
        """Triplet of each lattice."""
        return np.array(self.operators)[self.setting]

    def details(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "operators": list(self.operators),
            "resolved": self.resolved,
            "significance": self.significance,
            "agreement": self.agreement,
            "in_setting_of": self.followed,
        }

    def words(self, merged: NDArray[np.bool_]) -> list[str]:
        """Sentences on what was resolved, for the lattices that are merged; none if there was nothing."""
        if len(self.operators) == 1:
            return []
        ways = "; ".join(self.operators[1:])
        if not self.resolved:
            return [
                *self.notices,
                f"the lattice can be indexed in {len(self.operators)} ways that the symmetry tells apart "
                f"({ways}); the intensities do not tell them apart, so all lattices are merged as indexed: "
                "they are too few or too weak, or the crystals are twinned, or their symmetry is higher",
            ]
        counts = np.bincount(self.setting[merged], minlength=len(self.operators))
        parts = [f"{counts[0]} as indexed"]
        parts += [
            f"{n} reindexed by {name}" for n, name in zip(counts[1:], self.operators[1:], strict=True) if n
        ]
        uncertain = int((merged & ~(self.margin_z >= CERTAIN_Z)).sum())
        like = f", in the setting of {self.followed}" if self.followed else ""
        return [
            *self.notices,
            f"indexing ambiguity resolved{like}: {counts.sum()} lattices: {', '.join(parts)}; "
            f"{uncertain} not certain",
        ]


def unresolved_setting(operators: tuple[str, ...], n_lattices: int) -> SettingResolution:
    """All lattices stay as they were indexed."""
    nothing = np.full(n_lattices, np.nan)
    setting = np.zeros(n_lattices, np.int64)
    return SettingResolution(operators, setting, nothing, nothing, False, 0.0, 0.0, "", None)
