"""Summed intensity, background and standard error of each predicted reflection.

A disc around the predicted position is summed, a ring around it gives the background; between
them a gap belongs to neither. Predicted positions are not re-centred: that would bias weak
reflections upwards.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

FLAG_OVERLAP = 1
"""The disc shares pixels with that of another reflection."""
FLAG_BAD_PIXEL = 2
"""A pixel of the disc is masked or outside the panel: the intensity is not known."""
FLAG_SATURATED = 4
"""A pixel of the disc is saturated."""
FLAG_BACKGROUND = 8
"""Too few background pixels: the intensity is not known."""
MIN_BACKGROUND_PIXELS = 12
CLIP_SIGMAS = 5.0

LEAST_BACKGROUND = 0.02
"""Photons per pixel below which the expected background is not believed."""

INTENSITY, SIGMA, BACKGROUND, PEAK, FLAGS, NOISE = range(6)
"""Columns of the result."""


@njit(cache=True, nogil=True)
def integrate_reflections(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x_px: NDArray[np.float64],
    y_px: NDArray[np.float64],
    panel: NDArray[np.int64],
    rectangles: NDArray[np.int64],
    expected_background: NDArray[np.float64],
    radii: tuple[float, float, float],
    gain: float,
    saturation: float,
    owners: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Integrate by summation, with the full variance.

    sigma² = gain * P + n_peak² var_b / n_b, where P is the disc's sum including background, in
    counts, and var_b the larger of the sample variance and that of counting: the second term is
    the error of the background's mean (Leslie 2006, Acta Cryst. D62, 48, eq. 4).

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
    expected_background : (n,) array
        Counts per pixel that a smooth model expects; for the noise only, not for the intensity.
    radii
        Of the disc, and inner and outer of the background ring, pixels.
    gain
        Counts per photon.
    saturation
        A pixel at or above it is saturated, counts.
    owners : (slow, fast) array
        Scratch, zero before and after: how many discs cover a pixel.

    Returns
    -------
    (n, 6) array
        Intensity and sigma in photons, background in photons per pixel, largest pixel of the disc
        in counts, flags, and the variance in photons² that an empty reflection would have there.
        That noise knows nothing of the reflection's own pixels, as weights must not: those whose
        pixels fluctuated down would weigh more, and weak intensities be merged too low.
    """
    n = x_px.shape[0]
    out = np.zeros((n, 6))
    for i in range(n):
        _stamp(owners, x_px[i], y_px[i], rectangles[panel[i]], radii[0], 1)
    for i in range(n):
        n_peak, n_background = _integrate_one(
            image, bad_pixels, x_px[i], y_px[i], rectangles[panel[i]], radii, gain, saturation, owners, out[i]
        )
        if n_background > 0:
            photons = max(expected_background[i] / gain, LEAST_BACKGROUND)
            out[i, NOISE] = photons * n_peak * (1.0 + n_peak / n_background)
    for i in range(n):
        _stamp(owners, x_px[i], y_px[i], rectangles[panel[i]], radii[0], 0)
    return out


@njit(cache=True, nogil=True)
def _stamp(
    owners: NDArray[np.uint8], x: float, y: float, rectangle: NDArray[np.int64], radius: float, value: int
) -> None:
    """Count one more disc on its pixels, or with value 0 clear them."""
    for yy in range(
        max(math.floor(y - radius), rectangle[1]),
        min(math.floor(y + radius) + 1, rectangle[1] + rectangle[3]),
    ):
        for xx in range(
            max(math.floor(x - radius), rectangle[0]),
            min(math.floor(x + radius) + 1, rectangle[0] + rectangle[2]),
        ):
            if (xx + 0.5 - x) ** 2 + (yy + 0.5 - y) ** 2 <= radius * radius:
                owners[yy, xx] = min(owners[yy, xx] + 1, 255) if value else 0


@njit(cache=True, nogil=True)
def _integrate_one(
    image: np.ndarray,
    bad_pixels: NDArray[np.bool_],
    x: float,
    y: float,
    rectangle: NDArray[np.int64],
    radii: tuple[float, float, float],
    gain: float,
    saturation: float,
    owners: NDArray[np.uint8],
    row: NDArray[np.float64],
) -> tuple[int, int]:
    """Integrate one reflection into its row; return its pixels of disc and background, 0 if unknown."""
    outer = radii[2]
    flags = 0
    x_end, y_end = rectangle[0] + rectangle[2], rectangle[1] + rectangle[3]
    n_peak = 0
    peak_sum, highest = 0.0, -1e30
    for yy in range(math.floor(y - radii[0]), math.floor(y + radii[0]) + 1):
        for xx in range(math.floor(x - radii[0]), math.floor(x + radii[0]) + 1):
            if (xx + 0.5 - x) ** 2 + (yy + 0.5 - y) ** 2 > radii[0] * radii[0]:
                continue
            if xx < rectangle[0] or xx >= x_end or yy < rectangle[1] or yy >= y_end or bad_pixels[yy, xx]:
                row[FLAGS] = FLAG_BAD_PIXEL
                return 0, 0
            v = float(image[yy, xx])
            n_peak += 1
            peak_sum += v
            highest = max(highest, v)
            if owners[yy, xx] > 1:
                flags |= FLAG_OVERLAP
            if v >= saturation:
                flags |= FLAG_SATURATED
    limit = 1e30
    mean = variance = 0.0
    n = 0
    for _ in range(2):  # the second time without what stands out: other spots, hot pixels
        total = squares = 0.0
        n = 0
        for yy in range(max(math.floor(y - outer), rectangle[1]), min(math.floor(y + outer) + 1, y_end)):
            for xx in range(max(math.floor(x - outer), rectangle[0]), min(math.floor(x + outer) + 1, x_end)):
                distance = (xx + 0.5 - x) ** 2 + (yy + 0.5 - y) ** 2
                if distance < radii[1] * radii[1] or distance > outer * outer:
                    continue
                if bad_pixels[yy, xx] or owners[yy, xx] > 0:
                    continue
                v = float(image[yy, xx])
                if v <= limit:
                    n += 1
                    total += v
                    squares += v * v
        if n < MIN_BACKGROUND_PIXELS:
            row[FLAGS] = FLAG_BACKGROUND
            return 0, 0
        mean = total / n
        variance = max((squares - n * mean * mean) / (n - 1), gain * max(mean, gain / n))
        limit = mean + CLIP_SIGMAS * math.sqrt(gain * max(mean, 0.0)) + 2.0 * gain
    row[INTENSITY] = (peak_sum - n_peak * mean) / gain
    row[SIGMA] = math.sqrt(gain * max(peak_sum, gain) + n_peak * n_peak * variance / n) / gain
    row[BACKGROUND] = mean / gain
    row[PEAK] = highest
    row[FLAGS] = flags
    return n_peak, n
