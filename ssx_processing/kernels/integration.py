"""Summed intensity, background and standard error of each predicted reflection.

An ellipse around the predicted position is summed, a ring around it gives the background; between
them a gap belongs to neither. Predicted positions are not re-centred: that would bias weak
reflections upwards, and negative intensities are kept for the same reason.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.integration_noise import set_noise
from ssx_processing.kernels.integration_table import (
    AREA,
    BACKGROUND,
    EMPTY_REACH,
    FLAG_BACKGROUND,
    FLAG_INCOMPLETE,
    FLAG_SATURATED,
    FLAG_SHARED,
    FLAGS,
    FRACTION,
    INTENSITY,
    LEVERAGE,
    N_KNOWN,
    N_RING,
    PEAK,
    SIGNAL,
    SLOPE_X,
    SLOPE_Y,
    SPREAD,
)
from ssx_processing.kernels.shared_pixels import correct_incomplete
from ssx_processing.kernels.spot_background import background_of_ring
from ssx_processing.kernels.spot_mask import HEIGHT, MASK, MASK_HEIGHT, WIDTH, mask_outlines, rows, span
from ssx_processing.kernels.spot_profile import fit_profiles, profile_precisions


@njit(cache=True, nogil=True)
def integrate_reflections(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    panel: NDArray[np.int64],
    rectangles: NDArray[np.int64],
    covariance: NDArray[np.float64],
    shell: NDArray[np.int64],
    widths: tuple[float, float, float],
    fit: bool,
    gain: float,
    saturation: float,
    min_fraction: float,
    owners: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Integrate by summation or profile fitting, with the full variance.

    Where pixels of a mask are bad or also in another's, the rest is summed and the Gaussian profile
    makes up for what is missing, see `shared_pixels`. Errors: see `integration_noise`.

    Parameters
    ----------
    image : (slow, fast) array
        Raw pixels.
    bad_pixels : (slow, fast) array
        True where a pixel is never to be used.
    x_px, y_px, panel : (n,) array
        Predicted positions.
    rectangles : (p, 4) array
        Panels.
    covariance : (n, 3) array
        Expected profile: xx, xy, yy, px². The mask is its ellipse of `spot_mask.MASK_SIGMAS`.
    shell : (n,) array
        Number of the shell of resolution, from 0: reflections that are expected to be alike.
    widths
        Of what the mask is larger than that, of the gap around it, and of the background ring, pixels.
    fit
        Fit the profile instead of summing, where neither a pixel is missing nor shared.
    gain
        Counts per photon.
    saturation
        A pixel at or above it is saturated, counts.
    min_fraction
        Smallest part of the profile that must be seen unshared.
    owners : (slow, fast) array
        Scratch, zero before and after: how many masks cover a pixel.

    Returns
    -------
    (n, 7) array
        Intensity and sigma in photons, background in photons per pixel, largest pixel of the mask
        in counts, flags, the variance in photons² that an empty reflection would have there, and
        the part of the profile that was summed, 1 where it is whole. The noise knows nothing of the
        reflection's own intensity, as weights must not: those whose pixels fluctuated down would
        weigh more, and weak intensities be merged too low.
    """
    n = x_px.shape[0]
    out, known = np.zeros((n, 7)), np.zeros((n, N_KNOWN))
    outlines = mask_outlines(covariance, widths)
    largest = 1
    for i in range(n):
        _stamp(owners, x_px[i], y_px[i], rectangles[panel[i]], outlines[i], True)
        largest = max(largest, int((2 * outlines[i, WIDTH] + 2) * (2 * outlines[i, HEIGHT] + 2)))
    ring = np.empty(largest)
    for i in range(n):
        _sum_one(
            image, bad_pixels, x_px[i], y_px[i], rectangles[panel[i]], outlines[i], gain, saturation, owners,
            ring, out[i], known[i],
        )  # fmt: skip
    precision = profile_precisions(covariance)
    correct_incomplete(
        image, bad_pixels, x_px, y_px, panel, rectangles, precision, outlines, min_fraction, out, known
    )
    if fit:
        fit_profiles(image, x_px, y_px, precision, outlines, gain, out, known)
    for i in range(n):
        _stamp(owners, x_px[i], y_px[i], rectangles[panel[i]], outlines[i], False)
    set_noise(out, known, shell, gain)
    out[:, INTENSITY] /= gain
    out[:, BACKGROUND] /= gain
    return out


@njit(cache=True, nogil=True)
def _stamp(
    owners: NDArray[np.uint8],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    outline: NDArray[np.float64],
    add: bool,
) -> None:
    """Count one more mask on its pixels, or clear them."""
    first, end = rows(outline, MASK_HEIGHT, y)
    for yy in range(max(first, rectangle[1]), min(end, rectangle[1] + rectangle[3])):
        left, right = span(outline, MASK, x, yy + 0.5 - y)
        for xx in range(max(left, rectangle[0]), min(right, rectangle[0] + rectangle[2])):
            owners[yy, xx] = min(owners[yy, xx] + 1, 255) if add else 0


@njit(cache=True, nogil=True)
def _sum_one(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    outline: NDArray[np.float64],
    gain: float,
    saturation: float,
    owners: NDArray[np.uint8],
    ring: NDArray[np.float64],
    row: NDArray[np.float64],
    known: NDArray[np.float64],
) -> None:
    """Sum one reflection over the good pixels of its mask, and find its background."""
    flags, n = 0, 0
    total, highest = 0.0, -1e30
    x_end, y_end = rectangle[0] + rectangle[2], rectangle[1] + rectangle[3]
    first, end = rows(outline, MASK_HEIGHT, y)
    for yy in range(first, end):
        left, right = span(outline, MASK, x, yy + 0.5 - y)
        if left < right and (left < rectangle[0] or right > x_end or yy < rectangle[1] or yy >= y_end):
            flags |= FLAG_INCOMPLETE
            left, right = max(left, rectangle[0]), min(right, x_end)
            if yy < rectangle[1] or yy >= y_end:
                continue
        for xx in range(left, right):
            if bad_pixels[yy, xx]:
                flags |= FLAG_INCOMPLETE
                continue
            v = float(image[yy, xx])
            n += 1
            total += v
            highest = max(highest, v)
            if owners[yy, xx] > 1:
                flags |= FLAG_SHARED
    if highest >= saturation:
        flags |= FLAG_SATURATED
    row[PEAK], row[FRACTION] = highest, 1.0
    background = background_of_ring(image, bad_pixels, x, y, rectangle, outline, gain, owners, ring)
    known[N_RING], known[SPREAD], known[LEVERAGE], known[SLOPE_X], known[SLOPE_Y] = background[1:]
    row[FLAGS] = flags if background[1] > 0.0 else FLAG_BACKGROUND
    row[BACKGROUND] = background[0]
    row[INTENSITY] = total - n * background[0]
    known[AREA : EMPTY_REACH + 1] = n
    known[SIGNAL] = 1.0
