"""Where the detector truly is: refined against the spots of many stills at once.

Every still has parameters of its own (turns, strains, displacement), and all share those of the
detector and the mean strain of the crystals. The own ones are eliminated still by still (Schur
complement), so a sum over stills is all that is kept and sums over chunks can be added (the idea
of Millepede: Blobel 2006). A turn of the whole detector about the beam is left out: it cannot be
told from a turn of all crystals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.geometry import panel_axes
from ssx_processing.kernels.prediction import rocking_sigma
from ssx_processing.kernels.refinement import solve_positive
from ssx_processing.kernels.still_model import model_spot
from ssx_processing.models import Geometry

DETECTOR = ("x", "y", "z", "tilt_x", "tilt_y")
"""Shift of the whole detector in the laboratory, mm, and turns about x and y through the beam's spot, rad."""
OF_GROUP = 6
"""Shifts (mm) and turns (rad) about x, y, z of one group of panels, through its middle."""


@dataclass(frozen=True)
class DetectorNormal:
    """Normal equations of the shared parameters, summed over stills.

    Their order: `DETECTOR`, mean strains, `OF_GROUP` for each group.
    """

    matrix: NDArray[np.float64]
    """(g, g) sum of Schur complements."""
    rhs: NDArray[np.float64]
    """(g,)."""
    chi2: float = 0.0
    n_spots: int = 0
    n_lattices: int = 0

    def __add__(self, other: "DetectorNormal") -> "DetectorNormal":
        """Sum of two, of the same parameters about the same geometry."""
        return DetectorNormal(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass(frozen=True)
class DetectorParts:
    """What of a detector moves, and about which points it turns."""

    pivot: NDArray[np.float64]
    """(3,) where the beam meets the detector, mm."""
    group_of_panel: NDArray[np.int64]
    """(p,) group to which each panel belongs; -1: it moves with the whole detector only."""
    centres: NDArray[np.float64]
    """(g, 3) middle of each group, mm."""

    @property
    def n_groups(self) -> int:
        """Groups that move on their own."""
        return len(self.centres)


def detector_parts(geometry: Geometry, groups: Sequence[Sequence[int]] = ()) -> DetectorParts:
    """The parts of a detector.

    Parameters
    ----------
    groups
        Panels of each group that is to move on its own.
    """
    axes = panel_axes(geometry)
    middles = np.array(
        [
            o + 0.5 * p.n_fast * f + 0.5 * p.n_slow * s
            for (o, f, s), p in zip(axes, geometry.panels, strict=True)
        ]
    )
    beam = np.array(geometry.beam_direction, np.float64)
    nearest = int(np.argmax(middles @ beam / np.linalg.norm(middles, axis=1)))
    normal = np.cross(axes[nearest, 1], axes[nearest, 2])
    pivot = beam * float(axes[nearest, 0] @ normal) / float(beam @ normal)
    group_of_panel = np.full(len(middles), -1, np.int64)
    for number, panels in enumerate(groups):
        group_of_panel[list(panels)] = number
    centres = np.array([middles[list(panels)].mean(axis=0) for panels in groups]).reshape(-1, 3)
    return DetectorParts(pivot, group_of_panel, centres)


def moved_detector(
    geometry: Geometry,
    parts: DetectorParts,
    shift: NDArray[np.float64],
    of_groups: NDArray[np.float64] | None = None,
) -> Geometry:
    """The detector after the groups have moved on their own, then all of it.

    Parameters
    ----------
    shift : (5,) array
        As in `DETECTOR`.
    of_groups : (g, 6) array
        As in `OF_GROUP`.
    """
    panels = []
    whole = np.array([shift[3], shift[4], 0.0])
    for panel, group in zip(geometry.panels, parts.group_of_panel, strict=True):
        origin, fast, slow = (
            np.array(v, np.float64) for v in (panel.origin_mm, panel.fast_axis, panel.slow_axis)
        )
        if of_groups is not None and group >= 0:
            turn, centre = _rotation(of_groups[group, 3:]), parts.centres[group]
            origin = centre + turn @ (origin - centre) + of_groups[group, :3]
            fast, slow = turn @ fast, turn @ slow
        turn = _rotation(whole)
        origin = parts.pivot + turn @ (origin - parts.pivot) + shift[:3]
        panels.append(
            replace(
                panel,
                origin_mm=_triple(origin),
                fast_axis=_triple(turn @ fast),
                slow_axis=_triple(turn @ slow),
            )
        )
    return replace(geometry, panels=tuple(panels))


def _rotation(omega: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(omega))
    if angle < 1e-15:
        return np.eye(3)
    x, y, z = omega / angle
    k = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * k @ k


def _triple(v: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])


@njit(cache=True, nogil=True)
def add_still(
    observed: NDArray[np.float64],
    panel: NDArray[np.int32],
    quality: NDArray[np.float64],
    weight: NDArray[np.float64],
    hkl: NDArray[np.float64],
    a: NDArray[np.float64],
    generators: NDArray[np.float64],
    rest: NDArray[np.float64],
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
    widths: NDArray[np.float64],
    s0: NDArray[np.float64],
    rocking: tuple[float, float, float, float],
    axes: NDArray[np.float64],
    inverses: NDArray[np.float64],
    pivot: NDArray[np.float64],
    group_of_panel: NDArray[np.int64],
    centres: NDArray[np.float64],
    matrix: NDArray[np.float64],
    rhs: NDArray[np.float64],
) -> float:
    """Add the Schur complement of one refined still to ``matrix`` and ``rhs``; return its chi2.

    Parameters
    ----------
    weight : (n,) array
        Robust weights; spots of weight 0 take no part.
    hkl : (n, 3) array
        Indices in the setting of ``a``.
    generators : (m, 3, 3) array
        How A changes with each strain.
    rest : (m + 2,) array
        Strains and displacement of the still.
    mean, precision
        Of the population, see `still_refinement.refine_still`.
    axes : (p, 3, 3) array
        From `geometry.panel_axes`.
    matrix, rhs : (g, g), (g,) array
        In place.
    """
    n_strains, n_own, n_shared = generators.shape[0], rest.shape[0] + 3, rhs.shape[0]
    own, own_rhs = np.zeros((n_own, n_own)), np.zeros(n_own)
    mixed = np.zeros((n_shared, n_own))
    value, jacobian, shared = np.empty(4), np.empty((n_own, 3)), np.empty((5 + OF_GROUP, 2))
    columns, residual = np.empty(5 + OF_GROUP, np.int64), np.empty(3)
    chi2 = 0.0
    for i in range(observed.shape[0]):
        if weight[i] <= 0.0:
            continue
        p = panel[i]
        model_spot(hkl[i], a, generators, rest[n_strains:], s0, rocking, inverses[p], value, jacobian)
        n_columns = _shared_gradient(
            observed[i],
            axes[p],
            inverses[p],
            pivot,
            int(group_of_panel[p]),
            centres,
            n_strains,
            shared,
            columns,
        )
        w_px = weight[i] / (widths[0] * quality[i, 0]) ** 2
        w_error = weight[i] / (widths[1] * quality[i, 1] * rocking_sigma(value[3], rocking)) ** 2
        residual[0], residual[1] = observed[i, 0] - value[0], observed[i, 1] - value[1]
        residual[2] = -value[2]
        chi2 += w_px * (residual[0] ** 2 + residual[1] ** 2) + w_error * residual[2] ** 2
        for j in range(n_own):
            gx, gy, gz = w_px * jacobian[j, 0], w_px * jacobian[j, 1], w_error * jacobian[j, 2]
            own_rhs[j] += gx * residual[0] + gy * residual[1] + gz * residual[2]
            for k in range(n_own):
                own[j, k] += gx * jacobian[k, 0] + gy * jacobian[k, 1] + gz * jacobian[k, 2]
            for k in range(n_columns):
                mixed[columns[k], j] += gx * shared[k, 0] + gy * shared[k, 1]
        for j in range(n_columns):
            gx, gy = w_px * shared[j, 0], w_px * shared[j, 1]
            rhs[columns[j]] += gx * residual[0] + gy * residual[1]
            for k in range(n_columns):
                matrix[columns[j], columns[k]] += gx * shared[k, 0] + gy * shared[k, 1]
    for j in range(rest.shape[0]):
        for k in range(rest.shape[0]):
            pull = precision[j, k] * (rest[k] - mean[k])
            own[3 + j, 3 + k] += precision[j, k]
            own_rhs[3 + j] -= pull
            if j < n_strains:  # the mean strain is shared
                rhs[5 + j] += pull
                mixed[5 + j, 3 + k] -= precision[j, k]
                if k < n_strains:
                    matrix[5 + j, 5 + k] += precision[j, k]
    _eliminate(own, own_rhs, mixed, matrix, rhs)
    return chi2


@njit(cache=True, nogil=True)
def _shared_gradient(
    observed: NDArray[np.float64],
    axes: NDArray[np.float64],
    inverse_axes: NDArray[np.float64],
    pivot: NDArray[np.float64],
    group: int,
    centres: NDArray[np.float64],
    n_strains: int,
    shared: NDArray[np.float64],
    columns: NDArray[np.int64],
) -> int:
    """Write how column and row of a spot change with the shared parameters; return how many do matter.

    A point of the detector that moves by d moves the spot as if the crystal moved by -d.
    """
    v, at, gradient = inverse_axes, np.empty(3), np.empty((2, 3))
    for c in range(3):
        at[c] = axes[0, c] + observed[0] * axes[1, c] + observed[1] * axes[2, c]
        gradient[0, c] = v[0, c] * observed[0] - v[1, c]
        gradient[1, c] = v[0, c] * observed[1] - v[2, c]
    n = 0
    for whole in range(2 if group >= 0 else 1):
        for j in range(5 if whole == 0 else OF_GROUP):
            if j < 3:
                dx, dy, dz = 1.0 if j == 0 else 0.0, 1.0 if j == 1 else 0.0, 1.0 if j == 2 else 0.0
            else:
                ox, oy, oz = 0.0, 0.0, 0.0
                if whole == 0:
                    ox, oy, oz = pivot[0], pivot[1], pivot[2]
                else:
                    ox, oy, oz = centres[group, 0], centres[group, 1], centres[group, 2]
                x, y, z = at[0] - ox, at[1] - oy, at[2] - oz
                if j == 3:
                    dx, dy, dz = 0.0, -z, y
                elif j == 4:
                    dx, dy, dz = z, 0.0, -x
                else:
                    dx, dy, dz = -y, x, 0.0
            shared[n, 0] = gradient[0, 0] * dx + gradient[0, 1] * dy + gradient[0, 2] * dz
            shared[n, 1] = gradient[1, 0] * dx + gradient[1, 1] * dy + gradient[1, 2] * dz
            columns[n] = j if whole == 0 else 5 + n_strains + OF_GROUP * group + j
            n += 1
    return n


@njit(cache=True, nogil=True)
def _eliminate(
    own: NDArray[np.float64],
    own_rhs: NDArray[np.float64],
    mixed: NDArray[np.float64],
    matrix: NDArray[np.float64],
    rhs: NDArray[np.float64],
) -> None:
    """Subtract what the own parameters of a still explain: C L^-1 C^T and C L^-1 rhs."""
    n_shared, n_own = mixed.shape
    solved, work = np.empty(n_own), np.empty((n_own, n_own))
    for j in range(n_shared):
        solved[:] = mixed[j]
        if not np.any(solved != 0.0):
            continue
        work[:] = own
        if not solve_positive(work, solved):
            return
        for k in range(n_shared):
            total = 0.0
            for i in range(n_own):
                total += mixed[k, i] * solved[i]
            matrix[k, j] -= total
        for i in range(n_own):
            rhs[j] -= solved[i] * own_rhs[i]
