"""Partial still observations with a known answer: what integration would hand to merging, without pixels.

Three physical models of partiality, none of which merging assumes. What is handed on knows the
crystals as well as indexing and refinement do: orientation and rocking width are a little wrong.
"""

from dataclasses import dataclass
from typing import Literal

import gemmi
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.merging import Observations
from ssx_processing.kernels.symmetry import AsymmetricUnit, asymmetric_unit
from ssx_processing.kernels.turn_slopes import write_turn_slopes
from ssx_processing.models import UnitCell

PARTIALITY_MODELS = ("blocks", "sphere", "lorentzian")
REACH = 1.7
"""Reflections are handed on while the excitation error is below so many stated standard deviations."""
_BLOCKS = 48
_SHELLS = 9


@dataclass(frozen=True)
class StillExperiment:
    """What is simulated."""

    n_lattices: int = 500
    strength: float = 300.0
    """Mean photons of a full reflection at low resolution, in the median crystal."""
    model: Literal["blocks", "sphere", "lorentzian"] = "blocks"
    mosaicity_deg: float = 0.05
    """Standard deviation of the blocks' orientations."""
    bandwidth: float = 5e-4
    """Standard deviation of the wavelength over the wavelength."""
    node: float = 3e-4
    """Radius of the reciprocal lattice node, 1/Å."""
    misorientation_deg: float = 0.012
    """Standard deviation of the error of the orientation handed on, about each axis."""
    cell_error: float = 4e-4
    """Relative standard deviation of the error of its scale."""
    scale_variation: float = 0.6
    """Standard deviation of ln scale."""
    b_variation: float = 4.0
    """Å²."""
    background: float = 40.0
    """Photons below a reflection."""
    minority: float = 0.0
    """Share of lattices of another structure, whose intensities correlate by 0.7."""
    unit_cell: UnitCell = (60.0, 60.0, 46.0, 90.0, 90.0, 90.0)
    space_group: str = "P 43 21 2"
    d_min: float = 2.0
    wilson_b: float = 20.0
    wavelength: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class StillObservations:
    """Observations sorted by lattice; arrays of n_observations unless said otherwise."""

    experiment: StillExperiment
    unit: AsymmetricUnit
    truth: NDArray[np.float64]
    """(n_unique,) full intensities of the majority."""
    a_matrices: NDArray[np.float64]
    """(n_lattices, 3, 3), as handed on, 1/Å."""
    log_g: NDArray[np.float64]
    """(n_lattices,) true ln scale."""
    b_factor: NDArray[np.float64]
    """(n_lattices,) true relative B, Å²."""
    is_minority: NDArray[np.bool_]
    """(n_lattices,)."""
    lattice: NDArray[np.int64]
    hkl: NDArray[np.int32]
    """(n, 3)."""
    uid: NDArray[np.int32]
    friedel_minus: NDArray[np.uint8]
    intensity: NDArray[np.float64]
    """Photons."""
    sigma: NDArray[np.float64]
    noise_variance: NDArray[np.float64]
    excitation_error: NDArray[np.float64]
    """Of the orientation handed on, 1/Å."""
    excitation_sigma: NDArray[np.float64]
    """Of the width handed on, 1/Å."""
    partiality: NDArray[np.float64]
    """True one."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(n_lattices + 1,)."""
        n = np.bincount(self.lattice, minlength=len(self.log_g))
        return np.concatenate([[0], np.cumsum(n)]).astype(np.int64)

    def observations(self) -> Observations:
        """As scaling and merging want them."""
        slopes = np.empty((len(self.uid), 2), np.float32)
        wavelength = np.full(len(self.log_g), self.experiment.wavelength)
        hkl = self.hkl.astype(np.int16)
        write_turn_slopes(self.offsets, hkl, self.a_matrices, wavelength, slopes)
        return Observations(
            offsets=self.offsets,
            uid=self.uid,
            intensity=self.intensity.astype(np.float32),
            noise_variance=self.noise_variance.astype(np.float32),
            excitation_error=self.excitation_error.astype(np.float32),
            excitation_sigma=self.excitation_sigma.astype(np.float32),
            turn_slopes=slopes,
        )

    def cc_to_truth(self, merged: NDArray[np.float64]) -> float:
        """Correlation of merged intensities with the truth, nan left out."""
        seen = np.isfinite(merged)
        return float(np.corrcoef(merged[seen], self.truth[seen])[0, 1])

    def shell_cc_to_truth(self, merged: NDArray[np.float64]) -> float:
        """Mean correlation in ten shells of equally many reflections: no strong one dominates it."""
        seen = np.flatnonzero(np.isfinite(merged))
        shells = np.array_split(seen[np.argsort(self.unit.s_squared[seen], kind="stable")], 10)
        return float(np.mean([np.corrcoef(merged[shell], self.truth[shell])[0, 1] for shell in shells]))

    def r_to_truth(self, merged: NDArray[np.float64]) -> float:
        """Sum |k I - truth| / sum truth at the best k, nan left out."""
        seen = np.isfinite(merged)
        x, y = merged[seen], self.truth[seen]
        scales = (x @ y) / (x @ x) * np.linspace(0.8, 1.2, 81)
        return float(min(np.abs(k * x - y).sum() for k in scales) / y.sum())


def simulate_still_observations(
    experiment: StillExperiment, other: NDArray[np.bool_] | None = None
) -> StillObservations:
    """Observations of crystals in random orientations.

    Parameters
    ----------
    other : (n_lattices,) array
        Which have the other structure; by default as many as the experiment says, at random.
    """
    e, rng = experiment, np.random.default_rng(experiment.seed)
    cell = gemmi.UnitCell(*e.unit_cell)
    unit = asymmetric_unit(e.unit_cell, e.space_group, e.d_min)
    hkl = np.ascontiguousarray(
        gemmi.make_miller_array(cell, gemmi.SpaceGroup(unit.space_group), e.d_min, unique=False), np.int32
    )
    uid, minus = unit.find(*hkl.T)
    truth = _wilson(unit, e, rng)
    of_others = 0.7 * truth + np.sqrt(1 - 0.7**2) * _wilson(unit, e, rng)
    basis = np.array(cell.frac.mat.tolist()).T
    log_g, b_factor = (
        rng.normal(0, e.scale_variation, e.n_lattices),
        rng.normal(0, e.b_variation, e.n_lattices),
    )
    is_minority = rng.random(e.n_lattices) < e.minority if other is None else other
    parts, matrices = [], np.empty((e.n_lattices, 3, 3))
    for f in range(e.n_lattices):
        a = Rotation.from_quat(rng.normal(size=4)).as_matrix() @ basis
        turn = rng.normal(0, np.deg2rad(e.misorientation_deg), 3)
        matrices[f] = Rotation.from_rotvec(turn).as_matrix() @ a * (1 + rng.normal(0, e.cell_error))
        near, error, width = _predicted(hkl, matrices[f], e, np.exp(rng.normal(0, 0.15)))
        partiality = _partialities(hkl[near] @ a.T, e, rng)
        full = (of_others if is_minority[f] else truth)[uid[near]]
        scale = np.exp(log_g[f] - 2 * b_factor[f] * unit.s_squared[uid[near]])
        n, n_background = len(near), 3.0  # the ring holds three times the disc's pixels
        counted = rng.poisson(scale * partiality * full + e.background)
        background = rng.poisson(n_background * e.background, n) / n_background
        noise = np.full(n, e.background * (1 + 1 / n_background))
        sigma = np.sqrt(np.maximum(counted, 1) + background / n_background)
        parts.append((np.full(n, f), near, counted - background, sigma, noise, error, width, partiality))
    lattice, rows, *columns = (np.concatenate(c) for c in zip(*parts, strict=True))
    return StillObservations(
        e, unit, truth, matrices, log_g, b_factor, is_minority,
        lattice, hkl[rows], uid[rows], minus[rows], *columns,
    )  # fmt: skip


def _wilson(unit: AsymmetricUnit, e: StillExperiment, rng: np.random.Generator) -> NDArray[np.float64]:
    n = len(unit)
    normalised = np.where(unit.centric, rng.chisquare(1, n), rng.exponential(1.0, n)) * unit.epsilon
    return np.asarray(e.strength * normalised * np.exp(-2 * e.wilson_b * unit.s_squared), np.float64)


def _stated_sigma(q: NDArray[np.float64], e: StillExperiment) -> NDArray[np.float64]:
    """Standard deviation of the rocking curve that a calibration would learn."""
    mosaic, band = np.deg2rad(e.mosaicity_deg) * q, 0.5 * e.bandwidth * e.wavelength * q**2
    return np.asarray(np.sqrt((0.5 * e.node) ** 2 + mosaic**2 + band**2), np.float64)


def _predicted(
    hkl: NDArray[np.int32], a: NDArray[np.float64], e: StillExperiment, width: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows of the reflections near the Ewald sphere, their excitation errors and stated widths."""
    error, q = _excitation(hkl, a, 1 / e.wavelength)
    sigma = width * _stated_sigma(q, e)
    near = np.flatnonzero(np.abs(error) < REACH * sigma)
    return near, error[near], sigma[near]


@njit(cache=True, nogil=True)
def _excitation(hkl, a, k):  # pragma: no cover (compiled)
    """Excitation error and |q| of all reflections, beam along -z."""
    error, length = np.empty(len(hkl)), np.empty(len(hkl))
    for i in range(len(hkl)):
        h = hkl[i]
        x = a[0, 0] * h[0] + a[0, 1] * h[1] + a[0, 2] * h[2]
        y = a[1, 0] * h[0] + a[1, 1] * h[1] + a[1, 2] * h[2]
        z = a[2, 0] * h[0] + a[2, 1] * h[1] + a[2, 2] * h[2]
        length[i] = np.sqrt(x * x + y * y + z * z)
        error[i] = np.sqrt(x * x + y * y + (z - k) ** 2) - k
    return error, length


def _partialities(
    q: NDArray[np.float64], e: StillExperiment, rng: np.random.Generator
) -> NDArray[np.float64]:
    """True partiality of each reflection at the (n, 3) points q of the mean crystal.

    What a node holds in all is spread over its width: the wider, the less is in the cut.
    """
    if e.model == "blocks":
        return _of_blocks(q, e, rng)
    k = 1 / e.wavelength
    length = np.linalg.norm(q, axis=1)
    error = np.linalg.norm(q - [0, 0, k], axis=1) - k
    mosaic = np.deg2rad(e.mosaicity_deg) * length
    if e.model == "lorentzian":
        band = 0.5 * e.bandwidth * e.wavelength * length**2
        half_width = 1.18 * np.sqrt((0.5 * e.node) ** 2 + mosaic**2 + band**2) * np.exp(rng.normal(0, 0.1))
        scatter = np.exp(rng.normal(0, 0.25, len(q)))
        return 0.5 * e.node / half_width * scatter / (1 + (error / half_width) ** 2) ** 1.5
    radius = np.hypot(e.node, 2.2 * mosaic)  # of a ball of uniform density
    offsets = np.linspace(-1.7, 1.7, _SHELLS) * 0.5 * e.bandwidth * e.wavelength * length[:, None] ** 2
    inside = 1 - ((error[:, None] + offsets) / radius[:, None]) ** 2  # area of the cut, relative
    return np.asarray(e.node / radius * np.maximum(inside, 0).mean(axis=1), np.float64)


def _of_blocks(q: NDArray[np.float64], e: StillExperiment, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mean over blocks of a few domains, each with its ray, of the node of a ball with a blurred surface."""
    n_domains, spread = int(rng.integers(1, 5)), np.deg2rad(e.mosaicity_deg)
    domain = rng.integers(0, n_domains, _BLOCKS)
    tilt = spread * (0.8 * rng.normal(size=(n_domains, 3))[domain] + 0.6 * rng.normal(size=(_BLOCKS, 3)))
    tilt -= tilt.mean(axis=0)
    k = (1 + e.bandwidth * rng.normal(size=_BLOCKS)) / e.wavelength
    return _mean_over_blocks(q, tilt, k, 1.6 / e.node)


@njit(cache=True, nogil=True)
def _mean_over_blocks(q, tilt, k, size):  # pragma: no cover (compiled)
    """Mean of (sin u / u)² like excitations, u of the excitation error times the block's size."""
    out = np.zeros(len(q))
    for i in range(len(q)):
        x, y, z = q[i]
        for b in range(len(tilt)):
            u, v, w = tilt[b]
            dx, dy, dz = x + v * z - w * y, y + w * x - u * z, z + u * y - v * x
            error = np.sqrt(dx * dx + dy * dy + (dz - k[b]) ** 2) - k[b]
            t = 2.0 * error * size
            out[i] += 1.0 / (1.0 + t * t / 3.0 + t * t * t * t / 12.0)
        out[i] /= len(tilt)
    return out
