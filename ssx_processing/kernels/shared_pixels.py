"""Reflections of which some pixels are missing, or also in the mask of another.

Each pixel belongs to the reflection that is nearer, in units of its profile. The sum S_i over what
is left of mask i holds a part of every profile there: S_i = sum_j M_ij I_j, with M_ij the part of
profile j, normalised over its own mask, on these pixels. The few intensities of a group of
neighbours are solved for (Gauss-Seidel); alone, I = S / M. The profile is Gaussian, and not trusted
beyond a quarter of what it makes up for.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.integration_table import (
    AREA,
    BACKGROUND,
    EMPTY_REACH,
    FLAG_BACKGROUND,
    FLAG_BAD_PIXEL,
    FLAG_INCOMPLETE,
    FLAG_OVERLAP,
    FLAG_SATURATED,
    FLAG_SHARED,
    FLAGS,
    FOREIGN,
    FOREIGN_VARIANCE,
    FRACTION,
    INTENSITY,
    MODEL_ERROR,
    SIGNAL,
    SLOPE_X,
    SLOPE_Y,
)
from ssx_processing.kernels.spot_mask import MASK, MASK_HEIGHT, MASK_WIDTH, rows, span
from ssx_processing.kernels.spot_profile import MIDDLE, squared_deviation

MODEL_DOUBT = 0.25
"""Relative standard error of what the profile says."""
SWEEPS = 12
SOLVABLE = 0.3
"""With less of its profile a reflection's intensity is not known, nor that of neighbours it leaks into."""
LEAK = 0.02
"""Part of a profile below which it does not matter that its intensity is not known."""


@njit(cache=True, nogil=True)
def correct_incomplete(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    panel: NDArray[np.int64],
    rectangles: NDArray[np.int64],
    precision: NDArray[np.float64],
    outlines: NDArray[np.float64],
    min_fraction: float,
    out: NDArray[np.float64],
    known: NDArray[np.float64],
) -> None:
    """Give flagged reflections the intensity of their whole mask, or flag them as unusable.

    Parameters
    ----------
    image, bad_pixels, x_px, y_px, panel, rectangles, min_fraction
        As in `integration.integrate_reflections`.
    precision
        Of `spot_profile.profile_precisions`.
    outlines
        Of `spot_mask.mask_outlines`.
    out, known
        As in `integration`, intensities in counts; changed.
    """
    mine = np.empty(out.shape[0], np.int64)
    n = 0
    for i in range(out.shape[0]):
        if int(out[i, FLAGS]) & (FLAG_SHARED | FLAG_INCOMPLETE):
            mine[n] = i
            n += 1
    if n == 0:
        return
    mine = mine[:n]
    mine = mine[np.argsort(y_px[mine])]
    start, neighbours = _neighbours(mine, x_px, y_px, outlines)
    part = np.zeros(len(neighbours))
    sums, own, seen = np.zeros(n), np.zeros(n), np.zeros(n)
    for a in range(n):
        i = mine[a]
        sums[a], own[a], seen[a] = _share(
            image, bad_pixels, x_px, y_px, rectangles[panel[i]], precision, outlines[i], i,
            mine[neighbours[start[a] : start[a + 1]]], part[start[a] : start[a + 1]], out[i], known[i],
        )  # fmt: skip
    intensity = _solve(sums, own, start, neighbours, part)
    for a in range(n):
        _judge(a, mine, intensity, own, seen, start, neighbours, part, min_fraction, out, known)


@njit(cache=True, nogil=True)
def _neighbours(
    mine: NDArray[np.int64],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    outlines: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs whose masks may touch: where each reflection's neighbours start, and the neighbours."""
    n = mine.shape[0]
    tallest = 0.0
    for i in mine:
        tallest = max(tallest, outlines[i, MASK_HEIGHT])
    start = np.zeros(n + 1, np.int64)
    found = np.empty(8 * n, np.int64)
    n_found = 0
    first = 0
    for a in range(n):
        i = mine[a]
        while y_px[i] - y_px[mine[first]] > outlines[i, MASK_HEIGHT] + tallest:
            first += 1
        for b in range(first, n):
            j = mine[b]
            if y_px[j] - y_px[i] > outlines[i, MASK_HEIGHT] + tallest:
                break
            if (
                a != b
                and abs(y_px[j] - y_px[i]) <= outlines[i, MASK_HEIGHT] + outlines[j, MASK_HEIGHT]
                and abs(x_px[j] - x_px[i]) <= outlines[i, MASK_WIDTH] + outlines[j, MASK_WIDTH]
            ):
                if n_found == found.shape[0]:
                    larger = np.empty(2 * n_found, np.int64)
                    larger[:n_found] = found
                    found = larger
                found[n_found] = b
                n_found += 1
        start[a + 1] = n_found
    return start, found[:n_found]


@njit(cache=True, nogil=True)
def _share(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    rectangle: NDArray[np.int64],
    precision: NDArray[np.float64],
    outline: NDArray[np.float64],
    i: int,
    others: NDArray[np.int64],
    part: NDArray[np.float64],
    row: NDArray[np.float64],
    known: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Sum over the pixels of mask i that are nobody else's, and the profiles on them.

    Returns the sum above background, the part of profile i on these pixels and that on all good
    pixels of the mask; writes those of the others into ``part`` and the number of pixels.
    """
    x, y = x_px[i], y_px[i]
    total = whole = own = good = 0.0
    n = 0
    first, end = rows(outline, MASK_HEIGHT, y)
    for yy in range(first, end):
        dy = yy + 0.5 - y
        left, right = span(outline, MASK, x, dy)
        for xx in range(left, right):
            dx = xx + 0.5 - x
            square = squared_deviation(precision[i], dx, dy)
            density = math.exp(-0.5 * square)
            whole += density
            if (
                xx < rectangle[0]
                or xx >= rectangle[0] + rectangle[2]
                or yy < rectangle[1]
                or yy >= rectangle[1] + rectangle[3]
                or bad_pixels[yy, xx]
            ):
                continue
            good += density
            nearest = True
            for j in others:
                if (
                    squared_deviation(precision[j], xx + 0.5 - float(x_px[j]), yy + 0.5 - float(y_px[j]))
                    < square
                ):
                    nearest = False
            if not nearest:
                continue
            n += 1
            own += density
            total += image[yy, xx] - row[BACKGROUND] - dx * known[SLOPE_X] - dy * known[SLOPE_Y]
            for m in range(others.shape[0]):
                j = others[m]
                square = squared_deviation(precision[j], xx + 0.5 - float(x_px[j]), yy + 0.5 - float(y_px[j]))
                part[m] += precision[j, MIDDLE] * math.exp(-0.5 * square)
    known[AREA : EMPTY_REACH + 1] = n
    known[SIGNAL] = 1.0
    return total, own / max(whole, 1e-12), good / max(whole, 1e-12)


@njit(cache=True, nogil=True)
def _solve(
    sums: NDArray[np.float64],
    own: NDArray[np.float64],
    start: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    part: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intensities from the sums, counts."""
    intensity = np.zeros(sums.shape[0])
    for _ in range(SWEEPS):
        for a in range(sums.shape[0]):
            left = sums[a]
            for m in range(start[a], start[a + 1]):
                left -= part[m] * intensity[neighbours[m]]
            intensity[a] = left / max(own[a], SOLVABLE)
    return intensity


@njit(cache=True, nogil=True)
def _judge(
    a: int,
    mine: NDArray[np.int64],
    intensity: NDArray[np.float64],
    own: NDArray[np.float64],
    seen: NDArray[np.float64],
    start: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    part: NDArray[np.float64],
    min_fraction: float,
    out: NDArray[np.float64],
    known: NDArray[np.float64],
) -> None:
    """Write the corrected intensity of one reflection, its flags and what its error depends on."""
    i = mine[a]
    flags = int(out[i, FLAGS])
    foreign = doubt = 0.0
    unknown = False
    for m in range(start[a], start[a + 1]):
        b = neighbours[m]
        lost = int(out[mine[b], FLAGS]) & (FLAG_SATURATED | FLAG_BACKGROUND) != 0 or own[b] < SOLVABLE
        unknown = unknown or (lost and part[m] > LEAK)
        there = part[m] * max(intensity[b], 0.0)
        foreign += there
        doubt += (MODEL_DOUBT * there) ** 2
    if seen[a] < min_fraction:
        flags |= FLAG_BAD_PIXEL
    elif own[a] < min_fraction or unknown:
        flags |= FLAG_OVERLAP
    fraction = max(own[a], SOLVABLE)
    out[i, FLAGS], out[i, FRACTION], out[i, INTENSITY] = flags, fraction, intensity[a]
    known[i, FOREIGN] = foreign
    known[i, FOREIGN_VARIANCE] = doubt / fraction**2
    known[i, MODEL_ERROR] = MODEL_DOUBT * (1.0 - fraction) / fraction
