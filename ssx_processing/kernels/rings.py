"""Rings of equal |q|: which pixels are compared with each other.

All that depends on geometry and mask only, computed once; what a frame has in its rings is in
`ring_statistics`.
"""

from dataclasses import dataclass

import numpy as np
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
    edges: NDArray[np.bool_] | None = None,
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
    edges : (slow, fast) array, optional
        From `edge_pixels`; they have rings of their own, for they are often larger and count more.
    pixels_per_ring
        Size of the sample that gives a ring's statistics.
    """
    usable = ~bad_pixels & np.isfinite(q_map)
    ring, centre_order = _ring_of_pixel(q_map, usable, azimuth_class, edges)
    n_rings = int(centre_order.size)
    flat = np.full(q_map.size, n_rings, np.uint16)
    flat[usable.ravel()] = ring
    sample, start = _sample_of_rings(flat, n_rings, pixels_per_ring)
    return RingTable(flat, n_rings, centre_order, sample, start, *_spans_of_blocks(flat, n_rings))


def edge_pixels(bad_pixels: NDArray[np.bool_], rectangles: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(slow, fast) array: true along the straight borders of panels, and of gaps in the mask.

    A single dead pixel has no such border: three bad pixels in a line make one.
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
    usable: NDArray[np.bool_],
    azimuth_class: NDArray[np.uint8] | None,
    edges: NDArray[np.bool_] | None,
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
    if edges is not None:
        label[edges[usable]] += int(label.max()) + 1  # after all others, so that small ones join each other
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
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
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
    return flat_sample.astype(np.uint32), start


def _spans_of_blocks(flat: NDArray[np.uint16], n_rings: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Which groups of rings each block of pixels spans: row numbers, and the rows."""
    n_blocks = -(-flat.size // BLOCK)
    padded = np.full(n_blocks * BLOCK, n_rings, np.int64)
    padded[: flat.size] = flat
    blocks = padded.reshape(n_blocks, BLOCK)
    good = blocks < n_rings
    low = np.where(good, blocks, n_rings).min(axis=1)
    high = np.where(good, blocks, -1).max(axis=1)
    pairs = np.stack([low // GROUP, high // GROUP], axis=1)
    pairs[high < 0] = (1, 0)
    empty_first = np.concatenate([[(1, 0)], pairs[high >= 0]])
    spans = (
        np.concatenate([[(1, 0)], np.unique(empty_first[1:], axis=0)])
        if len(empty_first) > 1
        else empty_first
    )
    key = {tuple(span): number for number, span in enumerate(spans.tolist())}
    numbers = np.array([key[tuple(pair)] for pair in pairs.tolist()])
    return numbers.astype(np.uint16), spans.astype(np.uint16)
