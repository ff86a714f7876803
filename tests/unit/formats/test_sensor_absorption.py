"""Absorption coefficients of sensors."""

import pytest

from ssx_processing.formats.sensor_absorption import absorption_per_mm


@pytest.mark.parametrize(
    ("material", "wavelength", "expected"),
    [
        # cctbx.eltbx.attenuation_coefficient, total attenuation, which is up to 10 % above absorption
        ("Si", 0.96859, 3.833),
        ("Silicon", 1.542, 14.85),
        ("CdTe", 0.6889, 17.67),
        ("GaAs", 1.0, 80.08),
    ],
)
def test_absorption_is_near_tabulated_attenuation(material: str, wavelength: float, expected: float):
    assert absorption_per_mm(material, wavelength) == pytest.approx(expected, rel=0.13)
    assert absorption_per_mm(material, wavelength) < expected


def test_unknown_material_absorbs_nothing():
    assert absorption_per_mm("unobtainium", 1.0) == 0.0
