"""One frame: find spots, decide hit, index, refine, predict, integrate.

A `FrameProcessor` holds all that does not change from frame to frame. What becomes of a frame
depends on its pixels and the calibration only, never on its neighbours or its chunk.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ssx_processing.kernels import geometry as geo
from ssx_processing.kernels.indexing import IndexedLattice, Indexer
from ssx_processing.kernels.integration import integrate_reflections
from ssx_processing.kernels.integration_table import INTENSITY, NOISE, SIGMA
from ssx_processing.kernels.lattice_score import index_distance, squared_deviations
from ssx_processing.kernels.prediction import predict_reflections, rocking_sigma
from ssx_processing.kernels.spot_mask import MASK_SIGMAS
from ssx_processing.kernels.spot_shape import expected_spread
from ssx_processing.kernels.unit_cell import real_space, search_lattice
from ssx_processing.models import FrameStatus, Geometry, Lattice, Misfit, SpotList
from ssx_processing.pipeline.frame_result import FrameResult, IndexedFrame
from ssx_processing.pipeline.hit_finding import HitFinder
from ssx_processing.pipeline.lattice_refinement import LatticeRefiner, spot_qualities
from ssx_processing.pipeline.population import Population, Rocking
from ssx_processing.pipeline.resolution import resolution_limit
from ssx_processing.settings import ProcessingSettings

OFFERED, OFFERED_DEVIATION = 0.25, 6.0
"""Spots this near a lattice point, in indices or in expected errors, are offered to the refinement."""
WIDTH_PRIOR_SPOTS = 20
"""The calibration's rocking width counts like so many spots of the lattice itself."""
SHELL_SIZE = 40
"""Reflections of a lattice that are alike in resolution; their errors are estimated together."""


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
        population: Population | None = None,
        spot_geometry: Geometry | None = None,
    ) -> None:
        """Make everything that no frame changes.

        Parameters
        ----------
        spot_geometry
            With which spots are sought, by default the same: their positions do not depend on it, only which
            pixels share a ring.
        """
        self.settings = settings
        self.bad_pixels = bad_pixels.copy()
        self.saturation = saturation
        self.rocking, self.population = rocking or Rocking(), population or Population()
        self.peak_radius_px = peak_radius_px
        self.mask_margin_px = (settings.integration.peak_radius_px or peak_radius_px) - peak_radius_px
        self.hits = HitFinder(
            spot_geometry or geometry, bad_pixels, settings.spots, saturation=saturation, underload=underload
        )
        self.set_geometry(geometry)
        self.owners = np.zeros(geometry.image_shape, np.uint8)
        group = settings.sample.gemmi_space_group.operations()
        self.centring = np.array([t for t in group.cen_ops if any(t)], np.int64).reshape(-1, 3)

    def set_geometry(self, geometry: Geometry) -> None:
        """Take another geometry for all that follows; the rings stay, which is near enough for them."""
        self.geometry = geometry
        self.rectangles, self.axes = geo.panel_rectangles(geometry), geo.panel_axes(geometry)
        self.s0, self.sensor = geo.incident_wave_vector(geometry), geo.sensor(geometry)
        self.indexer = self._make_indexer()
        self.refiner = self._make_refiner()
        in_view = geo.largest_q(geometry)
        d_min = self.settings.integration.d_min
        self.q_max = min(in_view, 1.0 / d_min) if d_min else in_view

    def set_population(self, population: Population, rocking: Rocking | None = None) -> None:
        """Expect other crystals from now on, and another rocking width if one is given."""
        self.population, self.rocking = population, rocking or self.rocking
        self.refiner = self._make_refiner()

    def _make_refiner(self) -> LatticeRefiner:
        return LatticeRefiner(
            self.geometry, self.indexer.lattice, self.settings, self.rocking, self.population
        )

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
            min_gap=s.min_runner_up_gap,
            max_spots=s.max_spots,
        )

    def process(self, image: np.ndarray) -> FrameResult:
        """Process one frame.

        Parameters
        ----------
        image : (slow, fast) array
            Raw pixels.
        """
        return self.process_spots(self.hits.find(image), self.hits.median_background, lambda: image)

    def process_spots(
        self, spots: SpotList, median_background: float, image: Callable[[], np.ndarray]
    ) -> FrameResult:
        """Process one frame whose spots are known.

        Parameters
        ----------
        image
            Gives the (slow, fast) array of raw pixels; called only where there is something to integrate.
        """
        found = (spots, median_background)
        spot_lattice = np.full(len(spots), -1, np.int16)
        if not self.hits.is_hit(spots):
            return FrameResult(FrameStatus.NO_HIT, *found, spot_lattice, (), (), (), ())
        indexed = self.index(spots)
        lattices = indexed.lattices
        if not lattices:
            return FrameResult(FrameStatus.NOT_INDEXED, *found, spot_lattice, (), (), (), (), indexed.misfit)
        for number, lattice in enumerate(lattices):
            spot_lattice[lattice.spot_index] = number
        q_length = np.linalg.norm(self.scattering_vectors(spots), axis=1)
        limits = tuple(resolution_limit(q_length[lattice.spot_index]) for lattice in lattices)
        predictions = tuple(self.predict(lattice, q_length) for lattice in lattices)
        integrated = self.integrate(image(), predictions)
        return FrameResult(
            FrameStatus.INTEGRATED, *found, spot_lattice, lattices, limits, predictions, integrated
        )

    def scattering_vectors(self, spots: SpotList) -> NDArray[np.float64]:
        """(n, 3) array of q in 1/Å."""
        return geo.pixel_to_q(
            spots.x_px, spots.y_px, spots.panel, self.rectangles, self.axes, self.s0, *self.sensor
        )

    def index(self, spots: SpotList) -> IndexedFrame:
        """Lattices of a frame, refined against all spots each explains best."""
        q = self.scattering_vectors(spots)
        proposals, misfit = self.indexer.index(q, spots.snr)
        return IndexedFrame((), misfit) if misfit else self._refined(proposals, q, spots)

    def refine_again(self, lattices: Sequence[Lattice], spots: SpotList) -> IndexedFrame:
        """The same lattices under the present geometry and population, without a new search."""
        to_primitive = self.refiner.from_conventional
        proposals = [
            IndexedLattice(
                one.a_matrix @ to_primitive,
                one.log10_e,
                one.n_indexed,
                len(spots),
                one.runner_up_gap,
                one.split_deg,
            )
            for one in lattices
        ]
        return self._refined(proposals, self.scattering_vectors(spots), spots)

    def _refined(
        self, proposals: list[IndexedLattice], q: NDArray[np.float64], spots: SpotList
    ) -> IndexedFrame:
        """Each proposal refined against the spots it explains better than the others."""
        if not proposals:
            return IndexedFrame(())
        matrices = [proposal.a_primitive for proposal in proposals]
        squares = np.array([squared_deviations(q, self.s0, a, self.indexer.errors)[0] for a in matrices])
        near = np.array([index_distance(q, real_space(a)) < OFFERED for a in matrices])
        squares[~near & (squares > OFFERED_DEVIATION**2)] = np.inf
        owner = np.where(np.isfinite(squares.min(axis=0)), squares.argmin(axis=0), -1)
        quality = spot_qualities(spots, q)
        refined = [
            self.refiner.refine(p, q, np.flatnonzero(owner == n), quality, spots)
            for n, p in enumerate(proposals)
        ]
        lattices = tuple(one for one in refined if isinstance(one, Lattice))
        misfits = [one for one in refined if isinstance(one, Misfit)]
        return IndexedFrame(lattices, None if lattices else misfits[0])

    def predict(self, lattice: Lattice, q_length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reflections of a lattice in diffracting condition, columns as `prediction.COLUMNS`.

        Parameters
        ----------
        q_length : (n,) array
            |q| of all spots of the frame, 1/Å.
        """
        s = self.settings.integration
        typical = float(np.median(q_length[lattice.spot_index]))
        expected = float(rocking_sigma(typical, self.rocking.parts()))
        n = lattice.n_indexed
        scale = np.sqrt(
            (n * (lattice.excitation_width / expected) ** 2 + WIDTH_PRIOR_SPOTS) / (n + WIDTH_PRIOR_SPOTS)
        )
        return predict_reflections(
            np.ascontiguousarray(lattice.a_matrix),
            self.s0,
            self.q_max,
            self.rocking.parts(float(scale)),
            s.max_excitation_sigma,
            self.centring,
            self.geometry.polarisation_fraction,
            self.rectangles,
            self._axes_seen_from(lattice),
            self.sensor,
        )

    def _axes_seen_from(self, lattice: Lattice) -> NDArray[np.float64]:
        """Panels relative to the crystal, which is a little off the middle of the beam."""
        axes = self.axes.copy()
        axes[:, 0, :2] -= lattice.fit.displacement_mm
        return axes

    def integrate(
        self, image: np.ndarray, predictions: tuple[NDArray[np.float64], ...]
    ) -> tuple[NDArray[np.float64], ...]:
        """Integrate all lattices together, so that each sees where the others' reflections lie."""
        s = self.settings.integration
        every = np.concatenate(predictions)
        x, y, panel = every[:, 3].copy(), every[:, 4].copy(), every[:, 5].astype(np.int64)
        q = geo.pixel_to_q(x, y, panel.astype(np.int32), self.rectangles, self.axes, self.s0, *self.sensor)
        result = integrate_reflections(
            image,
            self.bad_pixels,
            x,
            y,
            panel,
            self.rectangles,
            self._profiles(q, panel),
            _shells(np.linalg.norm(q, axis=1), [len(one) for one in predictions]),
            (self.mask_margin_px, s.gap_width_px, s.background_width_px),
            s.method == "profile",
            self.settings.spots.gain,
            self.saturation,
            s.min_profile_fraction,
            self.owners,
        )
        result[:, INTENSITY] /= every[:, 8]
        result[:, SIGMA] /= every[:, 8]
        result[:, NOISE] /= every[:, 8] ** 2
        return tuple(np.split(result, np.cumsum([len(p) for p in predictions])[:-1]))

    def _profiles(self, q: NDArray[np.float64], panel: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 3) covariance of each reflection's profile, px²: as calibrated, longer by the bandwidth."""
        covariance = expected_spread(q, panel, self.s0, self.rocking.parts(), self.axes, self.sensor)
        covariance[:, [0, 2]] += (self.peak_radius_px / MASK_SIGMAS) ** 2
        return covariance


def _shells(q_length: NDArray[np.float64], n_of_lattice: list[int]) -> NDArray[np.int64]:
    """(n,) number of each reflection's shell of |q|, of `SHELL_SIZE` reflections of its own lattice."""
    shell, first = np.empty(len(q_length), np.int64), 0
    for part in np.split(np.arange(len(q_length)), np.cumsum(n_of_lattice)[:-1]):
        n_shells = max(len(part) // SHELL_SIZE, 1)
        rank = np.empty(len(part), np.int64)
        rank[np.argsort(q_length[part])] = np.arange(len(part))
        shell[part] = first + rank * n_shells // max(len(part), 1)
        first += n_shells
    return shell
