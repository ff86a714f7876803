"""Diffraction of one still crystal into photons on pixels.

A reflection is excited by each mosaic block on its own: the block's reciprocal node is that of a
ball with a blurred surface, cut by the Ewald sphere of the one ray that meets the block. Partiality
is the mean over the blocks, and every photon comes from one block, in the direction that block
scatters to. No Gaussian in the excitation error, and no spot shape, is put in anywhere.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.simulation.chip_settings import SimulatedBeam, SimulatedDetector
from ssx_processing.simulation.crystal import Crystal
from ssx_processing.simulation.detector import silicon_absorption_per_mm, true_beam_centre_px
from ssx_processing.simulation.structure_factors import TrueReflections

REACH = 6.0
"""Excitation error, in 1/block diameter, beyond which a node is taken as dark."""
FEWEST_PHOTONS = 0.02
"""Reflections with fewer expected photons are left out."""


class Optics(NamedTuple):
    """Beam and detector as the compiled code wants them."""

    distance_mm: float
    pixel_mm: float
    beam_x: float
    beam_y: float
    absorption: float
    thickness_mm: float
    point_spread_px: float
    polarisation: float


@dataclass(frozen=True)
class BraggSpots:
    """Spots of one crystal on one frame; every array has n_spots rows."""

    hkl: NDArray[np.int32]
    """(n, 3)."""
    x_px: NDArray[np.float64]
    """Expected centroid along fast."""
    y_px: NDArray[np.float64]
    """Expected centroid along slow."""
    photons: NDArray[np.float64]
    """Expected number in the sensor, before the beam stop and module gaps take theirs."""
    partiality: NDArray[np.float64]
    """Mean excitation of the blocks, 1 if all are at their maximum."""
    excitation_error: NDArray[np.float64]
    """|s0 + q| - 1/wavelength of the mean orientation and beam, 1/Å."""


def make_optics(detector: SimulatedDetector, beam: SimulatedBeam) -> Optics:
    """Optics of the true detector position."""
    beam_x, beam_y = true_beam_centre_px(detector)
    return Optics(
        distance_mm=detector.distance_mm,
        pixel_mm=detector.pixel_mm,
        beam_x=beam_x,
        beam_y=beam_y,
        absorption=silicon_absorption_per_mm(beam.wavelength),
        thickness_mm=detector.thickness_mm,
        point_spread_px=detector.point_spread_px,
        polarisation=beam.polarisation_fraction,
    )


def add_diffraction(
    image: NDArray[np.uint32],
    crystal: Crystal,
    sphere: TrueReflections,
    *,
    optics: Optics,
    transmission: NDArray[np.float64],
    wavelength: float,
    rng: np.random.Generator,
) -> BraggSpots:
    """Add the crystal's photons to ``image`` in place; returns what was expected of each spot."""
    spots = expected_spots(crystal, sphere, optics, wavelength)
    n_photons = rng.poisson(spots.photons)
    _scatter(image, transmission, spots.hkl, n_photons, crystal.blocks, optics, node_radii(), rng)
    return spots


def expected_spots(
    crystal: Crystal, sphere: TrueReflections, optics: Optics, wavelength: float
) -> BraggSpots:
    """Reflections that the crystal excites, with expected photons and places."""
    strength = crystal.scale * sphere.intensity
    blocks = crystal.blocks
    candidates = _near_ewald_sphere(
        sphere.hkl, crystal.a_matrix, 1 / wavelength, REACH / blocks.size_a, _largest_turn(crystal)
    )
    table = _excite(
        sphere.hkl[candidates], strength[candidates], crystal.b_factor, crystal.a_matrix, blocks,
        optics, wavelength,
    )  # fmt: skip
    kept = table[:, 2] >= FEWEST_PHOTONS
    return BraggSpots(sphere.hkl[candidates[kept]], *np.ascontiguousarray(table[kept].T))


def _largest_turn(crystal: Crystal) -> float:
    """How far, relative to |q|, any block and ray may be from the mean crystal and beam."""
    blocks = crystal.blocks
    of_blocks = np.linalg.norm(blocks.a_matrix - crystal.a_matrix, axis=(1, 2)).max()
    rays = blocks.s0 / blocks.wavenumber[:, None] - [0.0, 0.0, -1.0]
    of_beam = np.linalg.norm(rays, axis=1).max() + np.ptp(blocks.wavenumber) / blocks.wavenumber.mean()
    return float(1.5 * of_blocks / np.linalg.norm(crystal.a_matrix) + of_beam)


def node_excitation(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intensity of a ball's reciprocal node in the plane at distance x / diameter, 1 at the centre.

    Integrated over the plane it is the Fourier transform of the ball's autocorrelation along the
    normal, 1 - 3t/2 + t³/2. The exponential blurs the ball's surface: no real block has it sharp.

    Examples
    --------
    >>> node_excitation(np.array([0.0, 0.5, 1.0, 2.0])).round(4)
    array([1.    , 0.5539, 0.0907, 0.0162])
    """
    u = np.maximum(2 * np.pi * np.abs(x), 1e-2)  # below, the terms cancel to noise
    ball = (1.5 - 3 * np.sin(u) / u + 3 * (1 - np.cos(u)) / u**2) / (0.375 * u**2)
    return ball * np.exp(-(x**2) / 9)


STEPS = 256
NODE_TABLE = node_excitation(np.arange(0, int((REACH + 2) * STEPS)) / STEPS)


@njit(cache=True, nogil=True)
def _excitation(x):  # pragma: no cover (compiled)
    """Interpolated node_excitation, 0 beyond the table."""
    position = abs(x) * STEPS
    step = int(position)
    if step >= len(NODE_TABLE) - 1:
        return 0.0
    return NODE_TABLE[step] + (position - step) * (NODE_TABLE[step + 1] - NODE_TABLE[step])


def node_radii(n: int = 1024) -> NDArray[np.float64]:
    """(n,) quantiles of the distance from the node's centre within its middle plane, in 1/diameter."""
    r = np.linspace(1e-6, 4.0, 4001)
    u = np.pi * r
    amplitude = 3 * (np.sin(u) - u * np.cos(u)) / u**3
    cumulative = np.cumsum(amplitude**2 * np.exp(-(r**2) / 9) * r)
    return np.interp((np.arange(n) + 0.5) / n, cumulative / cumulative[-1], r)


@njit(cache=True, nogil=True)
def _near_ewald_sphere(hkl, A, wavenumber, reach, spread):  # pragma: no cover (compiled)
    """Find the reflections that some block may excite; the beam travels along -z."""
    found = np.empty(len(hkl), np.int64)
    n = 0
    for i in range(len(hkl)):
        h, k, l = hkl[i]  # noqa: E741
        x = A[0, 0] * h + A[0, 1] * k + A[0, 2] * l
        y = A[1, 0] * h + A[1, 1] * k + A[1, 2] * l
        z = A[2, 0] * h + A[2, 1] * k + A[2, 2] * l
        q2 = x * x + y * y + z * z
        # to first order |s0 + q| - k = q² / 2k + s0.q / k
        if abs(0.5 * q2 / wavenumber - z) < reach + spread * np.sqrt(q2):
            found[n] = i
            n += 1
    return found[:n]


@njit(cache=True, nogil=True)
def _ray_of(block, h, k, l, blocks):  # noqa: E741  # pragma: no cover (compiled)
    """Direction of the ray that a block scatters and its excitation error."""
    A, s0 = blocks.a_matrix[block], blocks.s0[block]
    x = s0[0] + A[0, 0] * h + A[0, 1] * k + A[0, 2] * l
    y = s0[1] + A[1, 0] * h + A[1, 1] * k + A[1, 2] * l
    z = s0[2] + A[2, 0] * h + A[2, 1] * k + A[2, 2] * l
    length = np.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length, length - blocks.wavenumber[block]


@njit(cache=True, nogil=True)
def _on_detector(x, y, z, position, depth_mm, optics):  # pragma: no cover (compiled)
    """Pixel position of a ray absorbed after ``depth_mm`` in the sensor."""
    path = -(optics.distance_mm + position[2]) / z + depth_mm
    return (
        optics.beam_x + (position[0] + path * x) / optics.pixel_mm,
        optics.beam_y - (position[1] + path * y) / optics.pixel_mm,
    )


@njit(cache=True, nogil=True)
def _mean_depth(z, optics):  # pragma: no cover (compiled)
    """Mean path in the sensor of the photons it absorbs (mm), and the fraction it absorbs."""
    through = -optics.thickness_mm / z
    passed = np.exp(-optics.absorption * through)
    return 1 / optics.absorption - through * passed / (1 - passed), 1 - passed


@njit(cache=True, nogil=True)
def _excite(hkl, strength, b_factor, A, blocks, optics, wavelength):  # pragma: no cover (compiled)
    """(n, 5): centroid x, y, expected photons, partiality, excitation error of each reflection."""
    table = np.zeros((len(hkl), 5))
    for i in range(len(hkl)):
        h, k, l = hkl[i]  # noqa: E741
        x, y, z = A @ hkl[i].astype(np.float64)
        photons = strength[i] * np.exp(-0.5 * b_factor * (x * x + y * y + z * z))
        if photons < FEWEST_PHOTONS:
            continue
        z -= 1 / wavelength
        length = np.sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
        if z > -0.1:  # the detector is only in front
            continue
        depth, efficiency = _mean_depth(z, optics)
        polarised = 1 - optics.polarisation * x * x - (1 - optics.polarisation) * y * y
        partiality, table[i, 0], table[i, 1] = _mean_over_blocks(h, k, l, blocks, depth, optics)
        table[i, 2] = photons * partiality * efficiency * polarised
        table[i, 3] = partiality
        table[i, 4] = length - 1 / wavelength
    return table


@njit(cache=True, nogil=True)
def _mean_over_blocks(h, k, l, blocks, depth, optics):  # noqa: E741  # pragma: no cover (compiled)
    """Mean excitation, and the mean position weighted by it."""
    total = sum_x = sum_y = 0.0
    for block in range(len(blocks.wavenumber)):
        x, y, z, error = _ray_of(block, h, k, l, blocks)
        weight = _excitation(error * blocks.size_a)
        if weight < 1e-6:
            continue
        at_x, at_y = _on_detector(x, y, z, blocks.position_mm[block], depth, optics)
        total += weight
        sum_x += weight * at_x
        sum_y += weight * at_y
    if total == 0:
        return 0.0, 0.0, 0.0
    return total / len(blocks.wavenumber), sum_x / total, sum_y / total


@njit(cache=True, nogil=True)
def _scatter(image, transmission, hkl, n_photons, blocks, optics, radii, rng):  # pragma: no cover (compiled)
    """Send every photon on its way and count those that reach a pixel."""
    cumulative = np.empty(len(blocks.wavenumber))
    for i in range(len(hkl)):
        if n_photons[i] == 0:
            continue
        h, k, l = hkl[i]  # noqa: E741
        total = 0.0
        for block in range(len(cumulative)):
            _, _, _, error = _ray_of(block, h, k, l, blocks)
            total += _excitation(error * blocks.size_a)
            cumulative[block] = total
        for _ in range(n_photons[i]):
            block = min(np.searchsorted(cumulative, total * rng.random()), len(cumulative) - 1)
            fast, slow = _one_photon(block, h, k, l, blocks, optics, radii, rng)
            column, row = int(np.floor(fast)), int(np.floor(slow))
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                passes = transmission[row, column]
                if passes == 1 or rng.random() < passes:
                    image[row, column] += 1


@njit(cache=True, nogil=True)
def _one_photon(block, h, k, l, blocks, optics, radii, rng):  # noqa: E741  # pragma: no cover (compiled)
    """Where one photon of a block is recorded: direction within the node, depth, charge spread."""
    x, y, z, _ = _ray_of(block, h, k, l, blocks)
    radius = radii[int(rng.random() * len(radii))] / (blocks.size_a * blocks.wavenumber[block])
    angle = 2 * np.pi * rng.random()
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    # two directions at right angles to the ray: radial and tangential on the detector
    sine = max(np.sqrt(x * x + y * y), 1e-9)
    u, v = x / sine, y / sine
    x, y, z = x - along * z * u - across * v, y - along * z * v + across * u, z + along * sine
    through = -optics.thickness_mm / z
    absorbed = rng.random() * (1 - np.exp(-optics.absorption * through))
    depth = -np.log(1 - absorbed) / optics.absorption
    fast, slow = _on_detector(x, y, z, blocks.position_mm[block], depth, optics)
    spread = optics.point_spread_px
    return fast + spread * rng.standard_normal(), slow + spread * rng.standard_normal()
