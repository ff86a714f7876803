"""The simulated detector as it truly is: positions, absorption, shadow, mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from ssx_processing.simulation.chip_settings import SimulatedBeam, SimulatedDetector

HC_KEV_A = 12.398419843320026
SILICON_G_PER_CM3 = 2.33
SILICON_KEV = (6.0, 8.0, 10.0, 15.0, 20.0, 30.0)
SILICON_CM2_PER_G = (147.0, 64.68, 33.89, 10.34, 4.464, 1.436)
"""Mass attenuation coefficients, NIST XCOM (Hubbell & Seltzer 1995)."""


def silicon_absorption_per_mm(wavelength: float) -> float:
    """Linear absorption coefficient of silicon, log-log between tabulated energies (6-30 keV).

    Examples
    --------
    >>> round(silicon_absorption_per_mm(12.398419843320026 / 10), 3)
    7.896
    """
    log_energy = np.log(HC_KEV_A / wavelength)
    log_mass = np.interp(log_energy, np.log(SILICON_KEV), np.log(SILICON_CM2_PER_G))
    return float(np.exp(log_mass)) * SILICON_G_PER_CM3 / 10


@dataclass(frozen=True)
class PixelMaps:
    """What one pixel sees; every array is (n_slow, n_fast)."""

    q: NDArray[np.float64]
    """1/d at the pixel's centre, 1/Å."""
    cos_two_theta: NDArray[np.float64]
    polarisation: NDArray[np.float64]
    """Factor on scattered intensity."""
    efficiency: NDArray[np.float64]
    """Fraction of photons absorbed in the sensor."""
    transmission: NDArray[np.float64]
    """Fraction of photons that pass the beam stop and its holder; 0 in module gaps."""
    gap: NDArray[np.bool_]


def true_beam_centre_px(detector: SimulatedDetector) -> tuple[float, float]:
    """Where the direct beam hits, fast then slow; the file states another place."""
    stated, error = detector.stated_beam_centre_px, detector.beam_centre_error_px
    return stated[0] + error[0], stated[1] + error[1]


def pixel_maps(detector: SimulatedDetector, beam: SimulatedBeam) -> PixelMaps:
    """Pixel maps of the detector in its true position."""
    beam_x, beam_y = true_beam_centre_px(detector)
    x = (np.arange(detector.n_fast) + 0.5 - beam_x)[None, :] * detector.pixel_mm
    y = (beam_y - np.arange(detector.n_slow) - 0.5)[:, None] * detector.pixel_mm
    length = np.sqrt(x**2 + y**2 + detector.distance_mm**2)
    cos_two_theta = detector.distance_mm / length
    fraction = beam.polarisation_fraction
    absorption = silicon_absorption_per_mm(beam.wavelength)
    gap = gap_mask(detector)
    return PixelMaps(
        q=np.sqrt(2 - 2 * cos_two_theta) / beam.wavelength,
        cos_two_theta=cos_two_theta,
        polarisation=1 - fraction * (x / length) ** 2 - (1 - fraction) * (y / length) ** 2,
        efficiency=1 - np.exp(-absorption * detector.thickness_mm / cos_two_theta),
        transmission=np.where(gap, 0.0, beam_stop_transmission(x, y, beam.beam_stop_radius_mm)),
        gap=gap,
    )


def gap_mask(detector: SimulatedDetector) -> NDArray[np.bool_]:
    """Pixels without sensor, (n_slow, n_fast)."""
    gap = np.zeros((detector.n_slow, detector.n_fast), bool)
    for start, stop in detector.gap_rows:
        gap[start:stop] = True
    return gap


def beam_stop_transmission(
    x_mm: NDArray[np.floating], y_mm: NDArray[np.floating], radius_mm: float
) -> NDArray[np.float64]:
    """Fraction that passes a round stop on a thin holder that comes from the left, with soft edges."""
    if radius_mm == 0:
        return np.ones(np.broadcast(x_mm, y_mm).shape)
    penumbra = 0.12 * radius_mm
    r = np.hypot(x_mm, y_mm)
    disc = 0.5 + 0.5 * erf((r - radius_mm) / penumbra)
    across = 0.5 + 0.5 * erf((np.abs(y_mm) - 0.15 * radius_mm) / penumbra)
    along = 0.5 + 0.5 * erf(x_mm / penumbra)
    holder = 1 - 0.7 * (1 - across) * (1 - along)  # a thin capillary: it does not stop everything
    return disc * holder
