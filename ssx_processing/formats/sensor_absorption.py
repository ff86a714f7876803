"""Absorption of X-rays in detector sensors."""

import math

import gemmi

CLASSICAL_ELECTRON_RADIUS = 2.8179403e-5
"""Å."""

_ATOMS_PER_CUBIC_ANGSTROM = 0.602214
"""Times density in g/cm³ over molar mass in g/mol."""

SENSOR_MATERIALS: dict[str, tuple[float, tuple[str, ...]]] = {
    "si": (2.329, ("Si",)),
    "silicon": (2.329, ("Si",)),
    "cdte": (5.85, ("Cd", "Te")),
    "gaas": (5.3176, ("Ga", "As")),
}
"""Material, in lower case, to density in g/cm³ and one formula unit."""


def absorption_per_mm(material: str, wavelength: float) -> float:
    """Linear absorption coefficient 2 r_e λ n f'' of a sensor; 0 for an unknown material.

    Photoelectric absorption only, which is what stops a photon of these energies in a sensor.

    Parameters
    ----------
    material
        As NXmx's ``sensor_material``: Si, Silicon, CdTe, GaAs.
    wavelength
        Å.

    >>> round(absorption_per_mm("Si", 1.0), 1)
    4.0
    """
    density, atoms = SENSOR_MATERIALS.get(material.strip().lower(), (0.0, ()))
    if not atoms:
        return 0.0
    elements = [gemmi.Element(name) for name in atoms]
    units = _ATOMS_PER_CUBIC_ANGSTROM * density / sum(element.weight for element in elements)
    energy = gemmi.hc / wavelength
    f_double_prime = sum(gemmi.cromer_liberman(element.atomic_number, energy)[1] for element in elements)
    per_angstrom = 2 * CLASSICAL_ELECTRON_RADIUS * wavelength * units * f_double_prime
    return per_angstrom * 1e7


def material_of(absorption: float, wavelength: float) -> str:
    """Material with a linear absorption coefficient, within 10 %; empty if it is none of those known.

    Parameters
    ----------
    absorption
        1/mm.
    wavelength
        Å.

    >>> material_of(3.6, 0.968), material_of(0.0, 0.968)
    ('Si', '')
    """
    for material in ("Si", "CdTe", "GaAs"):
        expected = absorption_per_mm(material, wavelength)
        if math.isclose(absorption, expected, rel_tol=0.1):
            return material
    return ""
