"""When a refined geometry is worse than the given one."""

import numpy as np
import pytest

from ssx_processing.models import Lattice, SpotList, StillFit
from ssx_processing.pipeline.fitted_hits import FittedHits, is_worse

NONE, NO_INTEGERS = np.empty(0), np.empty(0, np.int32)
NO_SPOTS = SpotList(NONE, NONE, NONE, NONE, NONE, NO_INTEGERS, NONE, NONE, NO_INTEGERS, NO_INTEGERS)
"""What the spots are does not matter here."""


def lattice(rmsd_px: float, n_spots: int) -> Lattice:
    """A lattice with residuals of this size; a tenth of its spots, far off, took no part."""
    residuals = np.zeros((n_spots, 4))
    residuals[:, 0], residuals[:, 3] = rmsd_px, 1.0
    residuals[: n_spots // 10, 0], residuals[: n_spots // 10, 3] = 50.0, 0.0
    two, hkl = np.zeros(2), np.zeros((n_spots, 3), np.int16)
    fit = StillFit(np.eye(3), two, two, residuals, hkl, np.ones(2), np.eye(7))
    return Lattice(np.eye(3), n_spots, -20.0, rmsd_px, 4e-4, np.arange(n_spots, dtype=np.int32), fit)


def hits(rmsd_px: float, n_spots: int, n_hits: int = 10) -> FittedHits:
    return FittedHits(
        [NO_SPOTS] * 10, [(lattice(rmsd_px, n_spots),) if i < n_hits else () for i in range(10)]
    )


def test_residuals_and_spots_are_those_that_took_part():
    fitted = hits(0.3, 100)
    assert fitted.rmsd_px == pytest.approx(0.3)
    assert fitted.n_used == 900


@pytest.mark.parametrize(
    ("after", "worse"),
    [
        (hits(0.2, 100), False),
        (hits(0.31, 110), False),
        (hits(0.6, 100), True),
        (hits(0.2, 80), True),
        (hits(0.2, 120, n_hits=8), True),
        (FittedHits([NO_SPOTS] * 10, [()] * 10), True),
    ],
)
def test_fewer_frames_fewer_spots_or_larger_residuals_are_worse(after: FittedHits, worse: bool):
    assert is_worse(hits(0.3, 100), after) == worse
