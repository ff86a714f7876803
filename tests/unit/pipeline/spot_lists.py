"""Spot lists of simulated hits without their images: true positions with the noise of counting."""

from dataclasses import dataclass, replace

import numpy as np

from ssx_processing.kernels.geometry import panel_rectangles
from ssx_processing.models import Geometry, Panel, SpotList
from ssx_processing.settings import ProcessingSettings
from ssx_processing.simulation.chip_settings import ChipSettings
from ssx_processing.simulation.crystal import random_crystal
from ssx_processing.simulation.scene import Scene
from ssx_processing.simulation.still import _excite, _largest_turn, _near_ewald_sphere

LEAST_SNR = 5.0
BACKGROUND = 2.0
"""Photons per pixel."""


@dataclass(frozen=True)
class SimulatedHits:
    """Hits with one crystal each, and the true detector."""

    spots: list[SpotList]
    geometry: Geometry
    """The true one."""
    a_matrices: np.ndarray
    settings: ProcessingSettings

    @property
    def bad_pixels(self) -> np.ndarray:
        return np.zeros(self.geometry.image_shape, bool)

    def on(self, geometry: Geometry) -> list[SpotList]:
        """The same spots with the panels of another geometry."""
        return [replace(spots, panel=panels_of(geometry, spots)) for spots in self.spots]


def simulated_hits(n: int, seed: int = 5) -> SimulatedHits:
    """Hits of the standard population of crystals."""
    settings = ChipSettings()
    scene, rng = Scene(settings), np.random.default_rng(seed)
    optics, pixel = scene.optics, settings.detector.pixel_mm
    panel = Panel(
        (-optics.beam_x * pixel, optics.beam_y * pixel, -optics.distance_mm),
        (1, 0, 0), (0, -1, 0), (pixel, pixel), 0, 0, settings.detector.n_fast, settings.detector.n_slow,
    )  # fmt: skip
    geometry = Geometry(
        (panel,),
        (panel.n_slow, panel.n_fast),
        settings.beam.wavelength,
        sensor_thickness_mm=settings.detector.thickness_mm,
        sensor_absorption_per_mm=optics.absorption,
    )
    crystals = [random_crystal(settings.crystals, settings.beam, scene.median_scale, rng) for _ in range(n)]
    spots = [_spots_of(scene, crystal, geometry.image_shape, rng) for crystal in crystals]
    return SimulatedHits(
        spots,
        geometry,
        np.array([c.a_matrix for c in crystals]),
        ProcessingSettings(sample=settings.crystals.sample),
    )


def _spots_of(scene: Scene, crystal, shape: tuple[int, int], rng: np.random.Generator) -> SpotList:
    sphere, blocks = scene.sphere, crystal.blocks
    near = _near_ewald_sphere(sphere.hkl, crystal.a_matrix, 1.0, 4.0 / blocks.size_a, _largest_turn(crystal))
    table = _excite(
        sphere.hkl[near], crystal.scale * sphere.intensity[near], crystal.b_factor, crystal.a_matrix,
        blocks, scene.optics, 1.0,
    )  # fmt: skip
    photons = rng.poisson(table[:, 2])
    snr = photons / np.sqrt(photons + 9 * BACKGROUND)
    x, y = table[:, 0], table[:, 1]
    seen = (snr > LEAST_SNR) & (x > 1) & (x < shape[1] - 1) & (y > 1) & (y < shape[0] - 1)
    seen &= np.hypot(x - scene.optics.beam_x, y - scene.optics.beam_y) > 25  # the beam stop
    snr, photons, x, y = snr[seen], photons[seen].astype(np.float64), x[seen], y[seen]
    x, y = (v + rng.normal(0, 1, len(v)) * np.hypot(0.05, 1.2 / snr) for v in (x, y))
    zero = np.zeros(len(x))
    return SpotList(
        x_px=x, y_px=y, intensity=photons, snr=snr, peak_snr=snr, n_pixels=np.full(len(x), 9, np.int32),
        peak_value=0.3 * photons, background=zero + BACKGROUND,
        panel=zero.astype(np.int32), n_saturated=zero.astype(np.int32),
    )  # fmt: skip


def panels_of(geometry: Geometry, spots: SpotList) -> np.ndarray:
    """Panel of each spot."""
    panel = np.full(len(spots), -1, np.int32)
    for number, (fast, slow, n_fast, n_slow) in enumerate(panel_rectangles(geometry)):
        inside = (spots.x_px >= fast) & (spots.x_px < fast + n_fast)
        panel[inside & (spots.y_px >= slow) & (spots.y_px < slow + n_slow)] = number
    return panel


def tiled(geometry: Geometry, n_fast: int, n_slow: int) -> Geometry:
    """The same flat detector, cut into panels."""
    (whole,) = geometry.panels
    columns = np.linspace(0, whole.n_fast, n_fast + 1).astype(int)
    rows = np.linspace(0, whole.n_slow, n_slow + 1).astype(int)
    fast, slow = (
        np.array(axis) * size
        for axis, size in zip((whole.fast_axis, whole.slow_axis), whole.pixel_size_mm, strict=True)
    )
    panels = []
    for j in range(n_slow):
        for i in range(n_fast):
            x, y, z = np.array(whole.origin_mm) + columns[i] * fast + rows[j] * slow
            panels.append(
                replace(
                    whole,
                    origin_mm=(float(x), float(y), float(z)),
                    fast_start=int(columns[i]),
                    slow_start=int(rows[j]),
                    n_fast=int(columns[i + 1] - columns[i]),
                    n_slow=int(rows[j + 1] - rows[j]),
                    name=f"p{j}{i}",
                )
            )
    return replace(geometry, panels=tuple(panels))
