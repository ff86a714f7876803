"""Rings of equal |q|: which pixels are compared with each other.

All that depends on geometry and mask only, computed once; what a frame has in its rings is in
`ring_statistics`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 64
"""Pixels that the threshold scan looks at together."""
GROUP = 4
"""Rings whose lowest threshold is kept together for the scan."""
MIN_PIXELS = 50
"""A ring with fewer pixels joins its neighbour."""


@dataclass(frozen=True)
class RingTable:
    """Rings of one geometry and mask; the last ring stands for all pixels never to be used."""

    ring: NDArray[np.uint16]
    """(slow * fast,) ring of each pixel; ``n_rings`` where the pixel is bad."""
    n_rings: int
    q: NDArray[np.float32]
    """(n_rings,) mean |q|, 1/Å."""
    sample: NDArray[np.uint32]
    """Flat pixel addresses sampled, ring after ring, ascending inside a ring."""
    sample_start: NDArray[np.int32]
    """(n_rings + 1,) where each ring's sample begins."""
    block_span: NDArray[np.uint16]
    """(n_blocks,) row of ``spans`` of each block of pixels."""
    spans: NDArray[np.uint16]
    """(n_spans, 2) first and last group of rings in a block; each pair that occurs once, and as row 0
    that of blocks without a usable pixel, whose first is after its last."""


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
    azimuth_class = np.zeros(q_map.shape, np.uint8) if azimuth_class is None else azimuth_class
    flat, q_of_rings, counts = _ring_of_pixel(q_map, bad_pixels, azimuth_class)
    n_rings = int(q_of_rings.size)
    start = np.zeros(n_rings + 1, np.int32)
    start[1:] = np.cumsum(np.minimum(counts, pixels_per_ring))
    sample = np.empty(start[-1], np.uint32)
    _draw_sample(flat, counts, start, sample)
    return RingTable(flat, n_rings, q_of_rings, sample, start, *_spans_of_blocks(flat, n_rings))


def edge_pixels(bad_pixels: NDArray[np.bool_], rectangles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(slow, fast) array: true along the straight borders of panels, and of gaps in the mask.

    Such pixels are often larger and count more. A single dead pixel has no such border: three bad
    pixels in a line make one.
    """
    edges = np.zeros(bad_pixels.shape, bool)
    for fast0, slow0, n_fast, n_slow in rectangles:
        here = np.s_[slow0 : slow0 + n_slow, fast0 : fast0 + n_fast]
        bad = np.pad(bad_pixels[here], 1, constant_values=True)
        along_fast = bad & np.roll(bad, 1, axis=1) & np.roll(bad, -1, axis=1)
        along_slow = bad & np.roll(bad, 1, axis=0) & np.roll(bad, -1, axis=0)
        beside = np.roll(along_fast, 1, axis=0) | np.roll(along_fast, -1, axis=0)
        beside |= np.roll(along_slow, 1, axis=1) | np.roll(along_slow, -1, axis=1)
        edges[here] = (beside & ~bad)[1:-1, 1:-1]
    return edges


def _ring_of_pixel(
    q_map: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    azimuth_class: NDArray[np.uint8],
) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.int64]]:
    """Ring of each pixel, flat; mean |q| and number of pixels of each ring, small ones joined to the next."""
    label = np.empty(q_map.size, np.int32)
    n_labels = _label_pixels(
        q_map.ravel(), bad_pixels.ravel(), azimuth_class.ravel(), _q_per_pixel(q_map), label
    )
    counts, sum_q = np.zeros(n_labels, np.int64), np.zeros(n_labels)
    _count_labels(label, q_map.ravel(), counts, sum_q)
    joined = _joined(counts)
    n_pixels = np.bincount(joined, weights=counts).astype(np.int64)
    mean_q = np.bincount(joined, weights=sum_q) / np.maximum(n_pixels, 1)
    ring = np.append(joined, np.uint16(len(n_pixels)))[label]  # label -1: the last
    return ring, mean_q.astype(np.float32), n_pixels


@njit(cache=True, nogil=True)
def _label_pixels(
    q_map: NDArray[np.float32],
    bad_pixels: NDArray[np.bool_],
    azimuth_class: NDArray[np.uint8],
    q_per_pixel: float,
    label: NDArray[np.int32],
) -> int:
    """Write a ring number for each pixel, -1 where it is not usable; return one more than the largest.

    Rings are 1 pixel wide up to a radius of 100, then 1 % of the radius: the number is the integral
    of dr / width. Classes alternate.
    """
    n_classes = int(azimuth_class.max()) + 1
    largest = -1
    for i in range(q_map.size):
        label[i] = -1
        if not bad_pixels[i] and q_map[i] == q_map[i]:
            radius = q_map[i] / q_per_pixel
            number = radius if radius < 100.0 else 100.0 + 100.0 * math.log(radius / 100.0)
            label[i] = int(number) * n_classes + azimuth_class[i]
            largest = max(largest, label[i])
    return largest + 1


@njit(cache=True, nogil=True)
def _count_labels(
    label: NDArray[np.int32],
    q_map: NDArray[np.float32],
    counts: NDArray[np.int64],
    sum_q: NDArray[np.float64],
) -> None:
    """Add up the pixels of each label, and their |q|."""
    for i in range(label.size):
        if label[i] >= 0:
            counts[label[i]] += 1
            sum_q[label[i]] += q_map[i]


def _joined(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """New numbers of rings with so many pixels, those with too few joined to the next."""
    joined = np.empty(counts.size, np.uint16)
    current, filled = 0, 0
    for i, count in enumerate(counts):
        joined[i] = current
        filled += count
        if filled >= MIN_PIXELS:
            current, filled = current + 1, 0
    if filled and current:
        joined[joined == current] = current - 1
    return joined


def _q_per_pixel(q_map: NDArray[np.float32]) -> float:
    """Typical change of |q| from pixel to pixel; a median, which jumps between panels do not move."""
    step = max(q_map.shape[0] // 256, 1)  # some rows tell as much as all
    here, below = q_map[:-1:step], q_map[1::step]
    gradient = np.hypot(np.diff(here, axis=1), (below - here)[:, :-1])
    gradient = gradient[np.isfinite(gradient)]
    return max(float(np.median(gradient)), 1e-6) if gradient.size else 1e-6


@njit(cache=True, nogil=True)
def _draw_sample(
    ring: NDArray[np.uint16],
    counts: NDArray[np.int64],
    start: NDArray[np.int32],
    sample: NDArray[np.uint32],
) -> None:
    """Fill ``sample`` with the addresses of a fixed random choice of each ring's pixels, ascending.

    Selection sampling (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S): one pass.
    """
    np.random.seed(20140501)  # noqa: NPY002 - of compiled code, which has no other
    left, wanted = counts.copy(), np.diff(start)
    place = start[:-1].copy()
    for i in range(ring.size):
        r = ring[i]
        if r >= counts.size:
            continue
        if np.random.random() * left[r] < wanted[r]:  # noqa: NPY002
            sample[place[r]] = i
            place[r] += 1
            wanted[r] -= 1
        left[r] -= 1


def _spans_of_blocks(flat: NDArray[np.uint16], n_rings: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Which groups of rings each block of pixels spans: row numbers, and the rows."""
    n_blocks = -(-flat.size // BLOCK)
    blocks = np.full(n_blocks * BLOCK, n_rings, np.uint16)
    blocks[: flat.size] = flat
    blocks = blocks.reshape(n_blocks, BLOCK)
    low = blocks.min(axis=1).astype(np.int64)
    blocks[blocks == n_rings] = 0
    high = blocks.max(axis=1).astype(np.int64)
    good = low < n_rings
    pairs, number = np.unique(
        np.stack([low[good] // GROUP, high[good] // GROUP], axis=1), axis=0, return_inverse=True
    )
    block_span = np.zeros(n_blocks, np.uint16)
    block_span[good] = 1 + number.reshape(-1)
    return block_span, np.concatenate([[(1, 0)], pairs]).astype(np.uint16)
