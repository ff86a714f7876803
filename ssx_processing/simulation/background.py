"""Everything on a frame that is not Bragg diffraction of the sample.

Poisson noise on a million pixels is what costs: the expected image is rounded once to levels one
per cent apart, and each frame draws every pixel by table look-up in the exact distribution of its
level.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.simulation.detector import PixelMaps

LEVEL_RATIO = 1.01
LOWEST_MEAN = 1e-3
ICE_D = (3.90, 3.67, 3.44, 2.67, 2.25, 2.07, 1.95, 1.92)
"""Å, hexagonal ice."""
ICE_STRENGTH = (1.0, 0.6, 0.8, 0.3, 0.5, 0.4, 0.1, 0.5)
GUIDE_BITS = 7


@dataclass(frozen=True)
class BackgroundLevels:
    """The expected background of a median frame, rounded."""

    level: NDArray[np.uint16]
    """(n_slow, n_fast), index into ``mean``."""
    mean: NDArray[np.float64]
    """(n_levels,), photons per pixel."""

    @property
    def image(self) -> NDArray[np.float64]:
        """(n_slow, n_fast), expected photons per pixel."""
        return self.mean[self.level]


def expected_background(maps: PixelMaps, photons: float) -> BackgroundLevels:
    """Solvent ring, scatter of the air before the beam stop, and a flat incoherent part."""
    q, solvent_q = maps.q, 1 / 3.3
    width = np.where(q < solvent_q, 0.055, 0.085)  # the ring falls off more slowly outside
    solvent = np.exp(-0.5 * ((q - solvent_q) / width) ** 2)
    second_ring = 0.25 * np.exp(-0.5 * ((q - 0.47) / 0.06) ** 2)
    air = 0.012 / (q**2 + 0.06**2)
    seen = maps.polarisation * maps.cos_two_theta**3 * maps.efficiency / maps.efficiency.max()
    expected = photons * (solvent + second_ring + air + 0.12) * seen * maps.transmission
    return _rounded(np.maximum(expected, LOWEST_MEAN))


def _rounded(expected: NDArray[np.float64]) -> BackgroundLevels:
    index = np.rint(np.log(expected / LOWEST_MEAN) / np.log(LEVEL_RATIO)).astype(np.int64)
    used, level = np.unique(index, return_inverse=True)
    return BackgroundLevels(
        level.reshape(expected.shape).astype(np.uint16), LOWEST_MEAN * LEVEL_RATIO ** used.astype(float)
    )


def add_poisson_background(image: NDArray[np.uint32], levels: BackgroundLevels, factor: float, seed: int):
    """Add Poisson noise of mean ``factor * levels.image`` to ``image``, in place."""
    means = factor * levels.mean
    n_values = int(np.ceil(means.max() + 8 * np.sqrt(means.max()) + 12))
    cumulative, guide = _poisson_tables(means, n_values, GUIDE_BITS)
    _draw(image.reshape(-1), levels.level.reshape(-1), cumulative, guide, np.uint64(seed), GUIDE_BITS)


@njit(cache=True, nogil=True)
def _poisson_tables(means, n_values, guide_bits):  # pragma: no cover (compiled)
    """Cumulative distribution scaled to 2**32, and where to start in it for the highest bits."""
    n_guide = 1 << guide_bits
    cumulative = np.full((len(means), n_values), 0xFFFFFFFF, np.uint32)
    guide = np.empty((len(means), n_guide), np.uint16)
    for i in range(len(means)):
        term = np.exp(-means[i])
        total = term
        for value in range(n_values - 1):
            cumulative[i, value] = np.uint32(min(total * 4294967296.0, 4294967295.0))
            term *= means[i] / (value + 1)
            total += term
        value = 0
        for g in range(n_guide):
            while cumulative[i, value] < np.uint32(g << (32 - guide_bits)):
                value += 1
            guide[i, g] = value
    return cumulative, guide


@njit(cache=True, nogil=True)
def _draw(image, level, cumulative, guide, seed, guide_bits):  # pragma: no cover (compiled)
    """One look-up per pixel; SplitMix64 (Steele, Lea & Flood 2014) gives 32 bits for each of two."""
    shift = np.uint32(32 - guide_bits)
    state = seed
    bits = np.uint64(0)
    for i in range(len(image)):
        if i % 2 == 0:
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits ^= bits >> np.uint64(31)
        else:
            bits >>= np.uint64(32)
        uniform = np.uint32(bits & np.uint64(0xFFFFFFFF))
        row = level[i]
        value = guide[row, uniform >> shift]
        while cumulative[row, value] < uniform:
            value += 1
        image[i] += value


@dataclass(frozen=True)
class IceRing:
    """Pixels near one powder ring; every array has as many elements."""

    strength: float
    """Relative to the strongest ring."""
    pixel: NDArray[np.int64]
    """Index into the flattened image."""
    q_offset: NDArray[np.float64]
    """From the middle of the ring, 1/Å."""
    azimuth_bin: NDArray[np.int64]
    seen: NDArray[np.float64]
    """Fraction of the scattered photons that are counted."""


AZIMUTH_BINS = 1440


def ice_rings(maps: PixelMaps) -> list[IceRing]:
    """Rings of hexagonal ice on the detector."""
    beam_y, beam_x = np.unravel_index(int(np.argmin(maps.q)), maps.q.shape)
    seen = (maps.polarisation * maps.cos_two_theta**3 * maps.transmission).reshape(-1)
    rings = []
    for d, strength in zip(ICE_D, ICE_STRENGTH, strict=True):
        pixel = np.flatnonzero(np.abs(maps.q - 1 / d) < 0.01)
        row, column = np.divmod(pixel, maps.q.shape[1])
        turn = np.arctan2(row - beam_y, column - beam_x) / (2 * np.pi) + 0.5
        azimuth_bin = np.minimum((turn * AZIMUTH_BINS).astype(np.int64), AZIMUTH_BINS - 1)
        rings.append(IceRing(strength, pixel, maps.q.reshape(-1)[pixel] - 1 / d, azimuth_bin, seen[pixel]))
    return rings


def add_ice(
    image: NDArray[np.uint32], rings: list[IceRing], peak_photons: float, rng: np.random.Generator
) -> None:
    """Add ice, even powder and coarse grains, whose strongest ring has ``peak_photons`` per pixel."""
    flat = image.reshape(-1)
    for ring in rings:
        profile = np.exp(-0.5 * (ring.q_offset / rng.uniform(0.002, 0.0035)) ** 2)
        expected = peak_photons * ring.strength * profile * ring.seen * _texture(rng)[ring.azimuth_bin]
        flat[ring.pixel] += rng.poisson(expected).astype(np.uint32)


def _texture(rng: np.random.Generator) -> NDArray[np.float64]:
    """(AZIMUTH_BINS,) relative intensity along a ring: half of it even, the rest in grains."""
    azimuth = np.linspace(0, 2 * np.pi, AZIMUTH_BINS, endpoint=False)
    texture = np.full(AZIMUTH_BINS, 0.5)
    for centre in rng.uniform(0, 2 * np.pi, size=30):
        turn = np.abs(azimuth - centre)
        turn = np.minimum(turn, 2 * np.pi - turn)
        texture += 0.5 * rng.exponential() * np.exp(-0.5 * (turn / rng.uniform(0.02, 0.1)) ** 2)
    return texture
