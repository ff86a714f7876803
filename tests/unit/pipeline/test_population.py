"""What is learnt of crystals and beam, against values put in."""

from pathlib import Path

import numpy as np
import pytest

from ssx_processing.formats.geometry_model import GeometryFile
from ssx_processing.models import Geometry, Lattice, Panel, StillFit
from ssx_processing.pipeline.calibrate import panel_groups
from ssx_processing.pipeline.population import Population, Rocking, fit_rocking, learn_population


@pytest.mark.parametrize("true", [(4e-4, 1e-3, 0.0), (2e-4, 8e-4, 2.5e-3), (1e-4, 2e-3, 0.0)])
def test_rocking_width_is_split_into_its_parts(true, rng):
    q = rng.uniform(0.05, 0.5, 40_000)
    width = np.sqrt(true[0] ** 2 + (true[1] * q) ** 2 + (true[2] * q * q) ** 2)
    fitted = fit_rocking(
        np.column_stack([q, width * rng.normal(size=len(q))]), Rocking(per_q_squared=true[2])
    )
    assert (fitted.constant, fitted.per_q) == pytest.approx(true[:2], rel=0.25)
    assert fitted.per_q_squared == true[2]


def test_rocking_width_of_few_spots_is_the_expected_one(rng):
    expected = Rocking(3e-4, 5e-4)
    assert fit_rocking(rng.normal(0, 1e-3, (50, 2)), expected) == expected


def lattices(rng: np.random.Generator, n: int) -> list[Lattice]:
    """Strains of 0.1 +- 0.2 %, displacements of 10 um, fitted with errors as large as half of that."""
    out = []
    for _ in range(n):
        strain, displacement = rng.normal(1e-3, 2e-3, 2), rng.normal(0, 0.01, 2)
        errors = np.array([1e-4, 1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-4])
        fit = StillFit(
            rotation=np.eye(3),
            strain=strain + errors[3:5] * rng.normal(size=2),
            displacement_mm=displacement,
            residuals=np.column_stack([rng.normal(0, 0.1, (40, 2)), rng.normal(0, 4e-4, 40), np.ones(40)]),
            hkl=rng.integers(-9, 10, (40, 3)).astype(np.int16),
            widths=np.array([0.12, 1.0]),
            covariance=np.diag(errors**2),
        )
        a = np.diag([0.0126, 0.0126, 0.0264])
        out.append(Lattice(a, 40, -20.0, 0.15, 4e-4, np.arange(40, dtype=np.int32), fit))
    return out


def test_spread_of_crystals_is_that_between_them_without_errors_of_the_fits(rng):
    learnt, rocking = learn_population(lattices(rng, 2000), Population(), Rocking())
    assert learnt.strain_mean == pytest.approx((1e-3, 1e-3), rel=0.15)
    assert learnt.strain_sd == pytest.approx((2e-3, 2e-3), rel=0.1)
    assert learnt.displacement_sd_mm == pytest.approx(0.01, rel=0.1)
    assert learnt.position_error_px == pytest.approx(0.12)
    assert rocking.constant == pytest.approx(4e-4, rel=0.1)


def test_of_few_crystals_nothing_is_learnt(rng):
    assert learn_population(lattices(rng, 3), Population(), Rocking()) == (Population(), Rocking())


def panels(n: int) -> Geometry:
    return Geometry(
        tuple(
            Panel(
                (0.0, 0.0, -90.0), (1, 0, 0), (0, -1, 0), (0.1, 0.1), 10 * i, 0, 10, 10, f"m{i // 2}a{i % 2}"
            )
            for i in range(n)
        ),
        (10, 10 * n),
        1.0,
    )


def test_panels_move_in_the_smallest_groups_of_the_file_else_alone():
    geometry = panels(4)
    file = GeometryFile(
        Path("x.geom"),
        "",
        geometry,
        groups={"m0": ("m0a0", "m0a1"), "m1": ("m1a0", "m1a1"), "all": ("m0a0", "m0a1", "m1a0", "m1a1")},
    )
    assert panel_groups(geometry, file) == {"m0": (0, 1), "m1": (2, 3)}
    assert panel_groups(geometry, None) == {"m0a0": (0,), "m0a1": (1,), "m1a0": (2,), "m1a1": (3,)}
    assert panel_groups(panels(1), None) == {}
