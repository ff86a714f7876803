"""A plain peakfinder8, to measure ours against: all pixels, five clipping rounds, no sample, nothing clever.

After the description in Barty et al. (2014), J. Appl. Cryst. 47, 1118, and CrystFEL's documentation
of its parameters; slow, and written for reading.
"""

import numpy as np
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3))


def find_peaks(
    image: np.ndarray,
    radius_px: np.ndarray,
    bad_pixels: np.ndarray,
    *,
    threshold: float = 2.0,
    min_snr: float = 5.0,
    min_pixels: int = 2,
    max_pixels: int = 200,
    background_radius_px: int = 3,
) -> np.ndarray:
    """(n, 3) array: x, y (pixel centres at +0.5) and signal-to-noise ratio of each peak.

    ``threshold`` is in counts above the ring's mean; ``radius_px`` (slow, fast) the distance from
    the beam centre.
    """
    values, good = image.astype(float), ~bad_pixels
    ring = np.rint(radius_px).astype(int)
    limit = ring_thresholds(values[good], ring[good], threshold, min_snr)[ring]
    strong = good & (values > limit)
    labels = np.zeros(strong.shape, np.int32)
    ndimage.label(strong, EIGHT_NEIGHBOURS, output=labels)
    peaks = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        y, x = np.nonzero(labels[box] == number)
        y, x = y + box[0].start, x + box[1].start
        if not min_pixels <= len(x) <= max_pixels:
            continue
        y0, x0 = round(y.mean()), round(x.mean())
        reach = 2 * background_radius_px
        around = np.s_[max(y0 - reach, 0) : y0 + reach + 1, max(x0 - reach, 0) : x0 + reach + 1]
        background = values[around][good[around] & ~strong[around]]
        if len(background) == 0:
            continue
        offset, deviation = background.mean(), max(background.std(), 0.01)
        above = values[y, x] - offset
        snr = above.sum() / deviation
        if snr >= min_snr and values[y, x].max() >= background.max():
            peaks.append(
                ((above * (x + 0.5)).sum() / above.sum(), (above * (y + 0.5)).sum() / above.sum(), snr)
            )
    return np.array(peaks).reshape(-1, 3)


def ring_thresholds(values: np.ndarray, ring: np.ndarray, threshold: float, min_snr: float) -> np.ndarray:
    """Lowest value of a strong pixel, by ring; all arguments flat and of good pixels only."""
    n = ring.max() + 1
    low, high = np.full(n, -1e9), np.full(n, 1e9)
    mean = np.zeros(n)
    for _ in range(5):
        inside = (low[ring] < values) & (values < high[ring])
        count = np.maximum(np.bincount(ring[inside], minlength=n), 1)
        mean = np.bincount(ring[inside], values[inside], n) / count
        square = np.bincount(ring[inside], values[inside] ** 2, n) / count
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        high = mean + np.maximum(min_snr * deviation, threshold)
        low = mean - min_snr * deviation
    return high
