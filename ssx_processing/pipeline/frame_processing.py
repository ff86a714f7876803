"""One frame: find spots, decide hit, index, refine, predict, integrate.

A `FrameProcessor` holds all that does not change from frame to frame. What becomes of a frame
depends on its pixels and the calibration only, never on its neighbours or its chunk.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.indexing import IndexedLattice, Indexer
from ssx_processing.kernels.integration import INTENSITY, NOISE, SIGMA, integrate_reflections
from ssx_processing.kernels.lattice_score import index_distance
from ssx_processing.kernels.prediction import excitation_and_position, predict_reflections
from ssx_processing.kernels.refinement import compose, refine_lattice
from ssx_processing.kernels.unit_cell import cell_of, real_space, rotation_of, search_lattice
from ssx_processing.models import FrameStatus, Geometry, Lattice, Misfit, SpotList
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.settings import ProcessingSettings

FINAL_TOLERANCES = np.array([0.15, 0.12, 0.12])
"""Index distance up to which spots take part in the last refinement."""
INDEXED = 0.15
"""A spot this near a lattice point counts as explained by it."""
WIDTH_PRIOR_SPOTS = 20
"""The calibration's rocking width counts like so many spots of the lattice itself."""


@dataclass(frozen=True)
class Rocking:
    """How far from the Ewald sphere reflections are still seen."""

    constant: float = 4e-4
    """Standard deviation of excitation errors at |q| = 0, 1/Å."""
    per_q: float = 1e-3
    """Part proportional to |q|, radians: mosaic spread, divergence, bandwidth."""


@dataclass(frozen=True)
class FrameResult:
    """What became of one frame."""

    status: FrameStatus
    spots: SpotList
    spot_lattice: NDArray[np.int16]
    """Which lattice explains a spot; -1 for none."""
    lattices: tuple[Lattice, ...]
    resolution_limits: tuple[float, ...]
    """Å, of the indexed spots of each lattice."""
    predictions: tuple[NDArray[np.float64], ...]
    """Of each lattice, columns as `prediction.COLUMNS`."""
    integrated: tuple[NDArray[np.float64], ...]
    """Of each lattice, columns as in `integration`."""
    misfit: Misfit | None = None
    """Why a hit has no lattice; None for the others."""


class FrameProcessor:
    """Processes the frames of one experiment, one after the other."""

    def __init__(
        self,
        geometry: Geometry,
        bad_pixels: NDArray[np.bool_],
        saturation: float,
        settings: ProcessingSettings,
        rocking: Rocking | None = None,
        peak_radius_px: float = 3.0,
        *,
        underload: float = -math.inf,
    ) -> None:
        self.settings = settings
        self.bad_pixels = bad_pixels.copy()
        self.saturation = saturation
        self.rocking = rocking or Rocking()
        self.peak_radius_px = settings.integration.peak_radius_px or peak_radius_px
        self.hits = HitFinder(
            geometry, bad_pixels, settings.spots, saturation=saturation, underload=underload
        )
        self._set_geometry(geometry)
        self.owners = np.zeros(geometry.image_shape, np.uint8)
        group = settings.sample.gemmi_space_group.operations()
        self.centring = np.array([t for t in group.cen_ops if any(t)], np.int64).reshape(-1, 3)

    def _set_geometry(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.rectangles, self.axes = geo.panel_rectangles(geometry), geo.panel_axes(geometry)
        self.s0, self.sensor = geo.incident_wave_vector(geometry), geo.sensor(geometry)
        self.indexer = self._make_indexer()
        in_view = float(np.nanmax(self.hits.q_map))
        d_min = self.settings.integration.d_min
        self.q_max = min(in_view, 1.0 / d_min) if d_min else in_view

    def move_detector(self, by_mm: NDArray[np.float64]) -> None:
        """Move all panels by a (3,) vector; the rings stay, which is near enough for them."""
        self._set_geometry(geo.moved(self.geometry, by_mm))

    def mask(self, pixels: NDArray[np.integer]) -> None:
        """Never use these pixels again: (n, 2) array, row and column of each."""
        self.bad_pixels[pixels[:, 0], pixels[:, 1]] = True
        self.hits.mask(pixels)

    def _make_indexer(self) -> Indexer:
        s, sample = self.settings.indexing, self.settings.sample
        panel = self.geometry.panels[0]
        origin = np.array(panel.origin_mm)
        distance = abs(float(origin @ np.cross(panel.fast_axis, panel.slow_axis)))
        return Indexer(
            search_lattice(sample.unit_cell, sample.gemmi_space_group),
            self.s0,
            s.spot_error_px * panel.pixel_size_mm[0] / distance / self.geometry.wavelength,
            max_lattices=s.max_lattices,
            min_spots=s.min_spots,
            min_fraction=s.min_fraction,
            min_significance=s.min_significance,
            max_spots=s.max_spots,
        )

    def process(self, image: np.ndarray) -> FrameResult:
        """Process one frame.

        Parameters
        ----------
        image : (slow, fast) array
            Raw pixels.
        """
        spots = self.hits.find(image)
        spot_lattice = np.full(len(spots), -1, np.int16)
        if not self.hits.is_hit(spots):
            return FrameResult(FrameStatus.NO_HIT, spots, spot_lattice, (), (), (), ())
        lattices, misfit = self.index(spots)
        if not lattices:
            return FrameResult(FrameStatus.NOT_INDEXED, spots, spot_lattice, (), (), (), (), misfit)
        for number, lattice in enumerate(lattices):
            spot_lattice[lattice.spot_index] = number
        q_length = np.linalg.norm(self.scattering_vectors(spots), axis=1)
        limits = tuple(resolution_limit(q_length[lattice.spot_index]) for lattice in lattices)
        predictions = tuple(self.predict(lattice, q_length) for lattice in lattices)
        integrated = self.integrate(image, predictions)
        return FrameResult(
            FrameStatus.INTEGRATED, spots, spot_lattice, lattices, limits, predictions, integrated
        )

    def scattering_vectors(self, spots: SpotList) -> NDArray[np.float64]:
        """(n, 3) array of q in 1/Å."""
        return geo.pixel_to_q(
            spots.x_px, spots.y_px, spots.panel, self.rectangles, self.axes, self.s0, *self.sensor
        )

    def index(self, spots: SpotList) -> tuple[tuple[Lattice, ...], Misfit | None]:
        """Lattices of a frame, refined against all spots each explains best; why there is none."""
        q = self.scattering_vectors(spots)
        proposals, misfit = self.indexer.index(q, spots.snr)
        if not proposals:
            return (), misfit
        distance = np.array([index_distance(q, real_space(p.a_primitive)) for p in proposals])
        owner = np.where(distance.min(axis=0) < INDEXED, distance.argmin(axis=0), -1)
        refined = [self._refine(p, q, np.flatnonzero(owner == n), spots) for n, p in enumerate(proposals)]
        lattices = tuple(lattice for lattice in refined if isinstance(lattice, Lattice))
        misfits = [misfit for misfit in refined if isinstance(misfit, Misfit)]
        return lattices, None if lattices else misfits[0]

    def _refine(
        self, proposal: IndexedLattice, q: NDArray[np.float64], mine: NDArray[np.int64], spots: SpotList
    ) -> Lattice | Misfit:
        """Refine a proposal against its own spots, or say why it does not fit then."""
        lattice = self.indexer.lattice
        if len(mine) < self.settings.indexing.min_spots:
            return Misfit.DIVERGED
        rotation = rotation_of(proposal.a_primitive, lattice.b)
        strain_tensor = rotation.T @ proposal.a_primitive @ real_space(lattice.b) - np.eye(3)
        strain = np.einsum("mij,ij->m", lattice.strains, strain_tensor)
        a = np.empty((3, 3))
        compose(rotation, strain, lattice.strains, lattice.b, a)
        sigma = self.indexer.sigma_q
        refine_lattice(
            q[mine], self.s0, lattice.b, lattice.strains, rotation, strain, sigma, FINAL_TOLERANCES, 0, a
        )
        fit = self._predicted(a, q[mine])
        close = (index_distance(q[mine], real_space(a)) < INDEXED) & (fit[:, 2] >= 0)
        mine, fit = mine[close], fit[close]
        residuals = np.column_stack([spots.x_px[mine] - fit[:, 0], spots.y_px[mine] - fit[:, 1], fit[:, 3]])
        rmsd = float(np.sqrt(np.mean(np.sum(residuals[:, :2] ** 2, axis=1)))) if len(mine) else math.inf
        if len(mine) < self.settings.indexing.min_spots or rmsd > self.settings.indexing.max_rmsd_px:
            return Misfit.DIVERGED
        conventional = a @ lattice.to_conventional
        if not self._cell_is_near(conventional):
            return Misfit.CELL_DIFFERS
        return Lattice(
            a_matrix=conventional,
            n_indexed=len(mine),
            log10_e=proposal.log10_e,
            rmsd_px=rmsd,
            excitation_width=robust_sigma(fit[:, 3]),
            spot_index=mine.astype(np.int32),
            hkl=np.rint(q[mine] @ real_space(conventional).T).astype(np.int32),
            residuals=residuals,
        )

    def _predicted(self, a_matrix: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 4) array: x, y, panel and excitation error of the lattice points nearest to spots."""
        hkl = np.rint(q @ real_space(a_matrix).T)
        fit = np.empty((len(q), 4))
        excitation_and_position(hkl, a_matrix, self.s0, self.rectangles, self.axes, self.sensor, fit)
        return fit

    def _cell_is_near(self, a_matrix: NDArray[np.float64]) -> bool:
        s, expected = self.settings.indexing, self.settings.sample.unit_cell
        cell = cell_of(a_matrix)
        lengths = all(
            abs(x / e - 1.0) <= s.cell_tolerance for x, e in zip(cell[:3], expected[:3], strict=True)
        )
        return lengths and all(
            abs(x - e) <= s.angle_tolerance_deg for x, e in zip(cell[3:], expected[3:], strict=True)
        )

    def residuals(self, lattice: Lattice, spots: SpotList) -> NDArray[np.float64]:
        """(n, 5) array: observed minus predicted position (laboratory, mm), |q|, excitation error."""
        mine = lattice.spot_index
        q = self.scattering_vectors(spots)[mine]
        fit = self._predicted(lattice.a_matrix, q)
        off_px = np.column_stack([spots.x_px[mine], spots.y_px[mine]]) - fit[:, :2]
        off_mm = np.einsum("ij,ijk->ik", off_px, self.axes[spots.panel[mine], 1:])
        return np.column_stack([off_mm, np.linalg.norm(q, axis=1), fit[:, 3]])

    def predict(self, lattice: Lattice, q_length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reflections of a lattice in diffracting condition, columns as `prediction.COLUMNS`.

        Parameters
        ----------
        q_length : (n,) array
            |q| of all spots of the frame, 1/Å.
        """
        s = self.settings.integration
        typical = float(np.median(q_length[lattice.spot_index]))
        expected = float(np.hypot(self.rocking.constant, self.rocking.per_q * typical))
        n = lattice.n_indexed
        scale = np.sqrt(
            (n * (lattice.excitation_width / expected) ** 2 + WIDTH_PRIOR_SPOTS) / (n + WIDTH_PRIOR_SPOTS)
        )
        return predict_reflections(
            np.ascontiguousarray(lattice.a_matrix),
            self.s0,
            self.q_max,
            (self.rocking.constant * scale, self.rocking.per_q * scale),
            s.max_excitation_sigma,
            self.centring,
            self.geometry.polarisation_fraction,
            self.rectangles,
            self.axes,
            self.sensor,
        )

    def integrate(
        self, image: np.ndarray, predictions: tuple[NDArray[np.float64], ...]
    ) -> tuple[NDArray[np.float64], ...]:
        """Integrate all lattices together, so that each sees where the others' reflections lie.

        The image is that of the last search for spots: its ring means are the expected background.
        """
        s = self.settings.integration
        every = np.concatenate(predictions)
        finder = self.hits.finder
        ring = finder.rings.ring.reshape(image.shape)[every[:, 4].astype(int), every[:, 3].astype(int)]
        expected = np.append(finder.mean, 0.0)[ring].astype(np.float64)
        inner = self.peak_radius_px + s.gap_width_px
        result = integrate_reflections(
            image,
            self.bad_pixels,
            np.ascontiguousarray(every[:, 3]),
            np.ascontiguousarray(every[:, 4]),
            every[:, 5].astype(np.int64),
            self.rectangles,
            expected,
            (self.peak_radius_px, inner, inner + s.background_width_px),
            self.settings.spots.gain,
            self.saturation,
            self.owners,
        )
        result[:, [INTENSITY, SIGMA]] /= every[:, 8:9]
        result[:, NOISE] /= every[:, 8] ** 2
        return tuple(np.split(result, np.cumsum([len(p) for p in predictions])[:-1]))


def resolution_limit(q_length: NDArray[np.float64]) -> float:
    """Å: 1/|q| of the spot of rank n - max(2, n/50), which a few stray spots do not move; nan without spots.

    Examples
    --------
    >>> resolution_limit(np.array([0.1, 0.2, 0.25, 0.5, 0.9]))
    4.0
    """
    n = len(q_length)
    if n == 0:
        return float("nan")
    return float(1.0 / np.sort(q_length)[max(0, n - 1 - max(2, n // 50))])


def robust_sigma(values: NDArray[np.float64]) -> float:
    """Standard deviation about zero from the median of absolute values (normal distribution)."""
    return float(1.4826 * np.median(np.abs(values))) if len(values) else float("nan")
