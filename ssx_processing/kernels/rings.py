"""Rings of equal |q|: which pixels are compared with each other, and their clipped statistics.

Everything that depends on geometry and mask only is computed once (`ring_table`); per frame a
sample of each ring's pixels gives its mean and standard deviation (`ring_statistics`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 64
"""Pixels that the threshold scan looks at together."""
GROUP = 8
"""Rings whose lowest threshold is kept together for the scan."""
MIN_PIXELS = 50
"""A ring with fewer pixels joins its neighbour."""
CLIP_ROUNDS = 5
ARC = 16
"""Neighbouring samples of a ring whose mean counts once for the start of the clipping."""
START_SIGMAS = 15.0
"""Width of the first window, in deviations of counting statistics: clipping from infinity would keep a
bright region that fills 1/26 of a ring for ever."""


@dataclass(frozen=True)
class RingTable:
    """Rings of one geometry and mask; the last ring stands for all pixels never to be used."""

    ring: NDArray[np.uint16]
    """(slow * fast,) ring of each pixel; ``n_rings`` where the pixel is bad."""
    n_rings: int
    q: NDArray[np.float32]
    """(n_rings,) mean |q|, 1/Å."""
    sample: NDArray[np.int32]
    """Flat pixel addresses sampled, ring after ring, ascending inside a ring."""
    sample_start: NDArray[np.int32]
    """(n_rings + 1,) where each ring's sample begins."""
    block_groups: NDArray[np.uint16]
    """(n_blocks, 2) first and last group of rings in each block; first > last where all pixels are bad."""


def ring_table(
    q_map: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    azimuth_class: NDArray[np.uint8] | None = None,
    *,
    pixels_per_ring: int = 192,
) -> RingTable:
    """Rings of about one pixel near the beam and 1 % of their radius further out.

    Parameters
    ----------
    q_map : (slow, fast) array
        |q| of each pixel, nan outside panels.
    bad_pixels : (slow, fast) array
        True where a pixel is never to be used.
    azimuth_class : (slow, fast) array, optional
        Splits each ring: a polarised beam makes the background of outer rings depend on azimuth.
    pixels_per_ring
        Size of the sample that gives a ring's statistics.
    """
    usable = ~bad_pixels & np.isfinite(q_map)
    ring, centre_order = _ring_of_pixel(q_map, usable, azimuth_class)
    n_rings = int(centre_order.size)
    flat = np.full(q_map.size, n_rings, np.uint16)
    flat[usable.ravel()] = ring
    sample, start = _sample_of_rings(flat, n_rings, pixels_per_ring)
    return RingTable(flat, n_rings, centre_order, sample, start, _groups_of_blocks(flat, n_rings))


def _ring_of_pixel(
    q_map: NDArray[np.float32], usable: NDArray[np.bool_], azimuth_class: NDArray[np.uint8] | None
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Ring of each usable pixel and the mean |q| of each ring; small rings joined to the next."""
    q = q_map[usable].astype(np.float64)
    if q.size == 0:
        return np.empty(0, np.uint16), np.empty(0, np.float32)
    step = _q_per_pixel(q_map)
    radius = q / step
    # width 1 up to radius 100, then 1 % of the radius: integral of dr / width
    number = np.where(radius < 100.0, radius, 100.0 + 100.0 * np.log(np.maximum(radius, 100.0) / 100.0))
    label = number.astype(np.int64)
    if azimuth_class is not None:
        n_classes = int(azimuth_class.max()) + 1
        label = label * n_classes + azimuth_class[usable]
    counts = np.bincount(label)
    joined = np.empty(counts.size, np.int64)
    current, filled = 0, 0
    for i, count in enumerate(counts):
        joined[i] = current
        filled += count
        if filled >= MIN_PIXELS:
            current, filled = current + 1, 0
    if filled and current:
        joined[joined == current] = current - 1
    ring = joined[label]
    n = int(ring.max()) + 1
    total = np.bincount(ring, minlength=n)
    mean_q = np.bincount(ring, weights=q, minlength=n) / np.maximum(total, 1)
    return ring.astype(np.uint16), mean_q.astype(np.float32)


def _q_per_pixel(q_map: NDArray[np.float32]) -> float:
    """Typical change of |q| from pixel to pixel; a median, which jumps between panels do not move."""
    along_fast, along_slow = np.diff(q_map[:-1], axis=1), np.diff(q_map[:, :-1], axis=0)
    gradient = np.hypot(along_fast, along_slow)
    gradient = gradient[np.isfinite(gradient)]
    return max(float(np.median(gradient)), 1e-6) if gradient.size else 1e-6


def _sample_of_rings(
    flat: NDArray[np.uint16], n_rings: int, pixels_per_ring: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Addresses of a fixed random sample of each ring, and where each ring's begin."""
    rng = np.random.default_rng(20140501)
    order = np.argsort(flat, kind="stable")
    ends = np.searchsorted(flat[order], np.arange(n_rings + 1))
    samples = []
    for r in range(n_rings):
        members = order[ends[r] : ends[r + 1]]
        if members.size > pixels_per_ring:
            members = np.sort(rng.choice(members, pixels_per_ring, replace=False))
        samples.append(members)
    start = np.zeros(n_rings + 1, np.int32)
    start[1:] = np.cumsum([m.size for m in samples])
    flat_sample = np.concatenate(samples) if samples else np.empty(0)
    return flat_sample.astype(np.int32), start


def _groups_of_blocks(flat: NDArray[np.uint16], n_rings: int) -> NDArray[np.uint16]:
    """First and last group of rings of each block of pixels."""
    n_blocks = -(-flat.size // BLOCK)
    padded = np.full(n_blocks * BLOCK, n_rings, np.int64)
    padded[: flat.size] = flat
    blocks = padded.reshape(n_blocks, BLOCK)
    good = blocks < n_rings
    low = np.where(good, blocks, n_rings).min(axis=1)
    high = np.where(good, blocks, -1).max(axis=1)
    groups = np.stack([low // GROUP, np.maximum(high, 0) // GROUP], axis=1)
    groups[high < 0] = (1, 0)
    return groups.astype(np.uint16)


@njit(cache=True, nogil=True)
def _median_of_means(values: NDArray[np.float32], n: int) -> float:
    """Median of the means of 16 values each: arcs of the ring, so that a bright region fills few of them."""
    n_arcs = max(n // ARC, 1)
    means = np.empty(n_arcs, np.float32)
    for a in range(n_arcs):
        total = np.float32(0.0)
        stop = min((a + 1) * ARC, n)
        for i in range(a * ARC, stop):
            total += values[i]
        means[a] = total / max(stop - a * ARC, 1)
    means.sort()
    return float(means[n_arcs // 2])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def ring_statistics(
    image: np.ndarray,
    sample: NDArray[np.int32],
    sample_start: NDArray[np.int32],
    min_snr: float,
    gain: float,
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
        From `RingTable`.
    min_snr
        Pixels further from the mean than so many deviations are left out of the next round.
    gain
        Counts per photon.
    mean, deviation : (n_rings,) array
        Results.
    """
    values = np.empty(4096, np.float32)
    for r in range(sample_start.shape[0] - 1):
        start = sample_start[r]
        n = min(sample_start[r + 1] - start, 4096)
        for i in range(n):
            v = np.float32(image[sample[start + i]])
            values[i] = v if v == v else np.float32(-1e12)  # not a number: never inside the window
        start_mean = _median_of_means(values, n)
        spread = np.float32(START_SIGMAS * math.sqrt(gain * max(start_mean, gain / ARC)))
        low, high = np.float32(start_mean - spread), np.float32(start_mean + spread)
        mu = sd = np.float32(0.0)
        kept = np.float32(0.0)
        for _ in range(CLIP_ROUNDS):
            count = total = squares = np.float32(0.0)
            for i in range(n):
                v = values[i]
                w = np.float32(1.0) if low < v < high else np.float32(0.0)
                count += w
                total += w * v
            if count < 1.0:
                break
            mu = total / count
            for i in range(n):
                v = values[i]
                w = np.float32(1.0) if low < v < high else np.float32(0.0)
                squares += w * (v - mu) * (v - mu)
            poisson = gain * max(mu, np.float32(gain) / count)
            sd = np.float32(math.sqrt(max(squares / count, poisson)))
            if count == kept:
                break
            kept = count
            low, high = mu - np.float32(min_snr) * sd, mu + np.float32(min_snr) * sd
        mean[r], deviation[r] = mu, sd
