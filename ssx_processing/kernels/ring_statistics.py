"""Mean and standard deviation of each ring of one frame, spots left out, from a sample of its pixels."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

CLIP_ROUNDS = 5
ARCS = 8
"""Pieces of a ring's sample, each from neighbouring rows of the image; their means start the clipping."""
ARC = 16
"""Samples of an arc that are counted on, at least, where it has no count at all."""
START_SIGMAS = 15.0
"""Width of the first window, in deviations of counting statistics: clipping from infinity would keep a
bright region that fills 1/26 of a ring for ever."""
LARGEST_SAMPLE = 4096
"""Pixels of a ring that are looked at, at most."""
NO_COUNT = np.float32(1e12)
"""Stands for a pixel that holds no count: far outside any window."""


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _median_of_arc_means(values: NDArray[np.float32], n: int, means: NDArray[np.float32]) -> float:
    """Upper median of the means of the arcs of a ring's sample: a bright region fills few of them."""
    length = n // ARCS
    for a in range(ARCS):
        start, stop = a * length, (n if a == ARCS - 1 else (a + 1) * length)
        count = total = np.float32(0.0)
        for i in range(start, stop):
            v = values[i]
            w = np.float32(1.0) if v < NO_COUNT else np.float32(0.0)
            count += w
            total += w * v
        means[a] = total / count if count > 0.0 else -NO_COUNT
    # sorting of the larger half without a branch that depends on pixels
    for done in range(ARCS // 2):
        for a in range(ARCS - 1 - done):
            one, other = means[a], means[a + 1]
            means[a], means[a + 1] = min(one, other), max(one, other)
    return max(float(means[ARCS // 2]), 0.0)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def ring_statistics(
    image: np.ndarray,
    sample: NDArray[np.uint32],
    sample_start: NDArray[np.int32],
    min_snr: float,
    gain: float,
    valid: tuple[float, float],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> None:
    """Write each ring's sigma-clipped mean and standard deviation into ``mean`` and ``deviation``.

    As peakfinder8 (Barty et al. 2014, J. Appl. Cryst. 47, 1118) does on all pixels, five rounds;
    the deviation is at least that of photon counting, so that empty rings do not threshold at zero.

    Parameters
    ----------
    image : (slow * fast,) array
        Raw pixels.
    sample, sample_start
        From `rings.RingTable`.
    min_snr
        Pixels further from the mean than so many deviations are left out of the next round.
    gain
        Counts per photon.
    valid
        A pixel below the first or at least the second, or not a number, holds no count.
    mean, deviation : (n_rings,) array
        Results.
    """
    raw, values = np.empty(LARGEST_SAMPLE, image.dtype), np.empty(LARGEST_SAMPLE, np.float32)
    means = np.empty(ARCS, np.float32)
    lowest, highest = np.float32(valid[0]), np.float32(valid[1])
    for r in range(sample_start.shape[0] - 1):
        start = sample_start[r]
        n = min(sample_start[r + 1] - start, LARGEST_SAMPLE)
        addresses = sample[start : start + n]
        for i in range(n):  # apart from what can be done in SIMD lanes
            raw[i] = image[addresses[i]]
        for i in range(n):
            v = np.float32(raw[i])
            values[i] = v if lowest <= v < highest else NO_COUNT
        centre = np.float32(_median_of_arc_means(values, n, means))
        for i in range(n):
            values[i] -= centre  # squares of small numbers keep their digits
        high = np.float32(START_SIGMAS * math.sqrt(gain * max(centre, gain / ARC)))
        low = -high
        mu = sd = kept = np.float32(0.0)
        for _ in range(CLIP_ROUNDS):
            count = total = squares = np.float32(0.0)
            for i in range(n):
                v = values[i]
                w = np.float32(1.0) if low < v < high else np.float32(0.0)
                count += w
                total += w * v
                squares += w * v * v
            if count < 1.0:
                break
            mu = total / count
            variance = squares / count - mu * mu
            poisson = gain * max(mu + centre, np.float32(gain) / count)
            sd = np.float32(math.sqrt(max(variance, poisson)))
            if count == kept:
                break
            kept = count
            low, high = mu - np.float32(min_snr) * sd, mu + np.float32(min_snr) * sd
        mean[r], deviation[r] = mu + centre, sd
