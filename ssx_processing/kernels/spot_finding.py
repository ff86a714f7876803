"""Strong pixels -> connected spots -> centroids, as peakfinder8 does, in one pass over the image.

Barty et al. (2014), J. Appl. Cryst. 47, 1118: a pixel is strong above its ring's mean by so many
deviations; connected strong pixels are a spot if they stand out from their local background.
Differences: thresholds come from a sample of each ring, 64 pixels are compared at once, a spot
reaches beyond its strong pixels to weaker ones that touch them, what is chance is told by counting
statistics, and centroids are weighted by counts above background.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ssx_processing.kernels.ring_statistics import ring_statistics
from ssx_processing.kernels.rings import BLOCK, GROUP, RingTable
from ssx_processing.kernels.spot_measuring import N_COLUMNS, measure_spot
from ssx_processing.models import SpotList

LARGEST_REGION = 100_000
"""Connected strong pixels followed at most; far more than any spot has."""
MOST_ISOLATED = 5000
"""Strong pixels without a strong neighbour that are remembered of a frame."""


@dataclass
class SpotFinder:
    """Everything that finding spots needs and that does not change from frame to frame.

    Also the buffers, so that a frame allocates nothing: one finder per thread.
    """

    rings: RingTable
    rectangles: NDArray[np.int64]
    """(p, 4) panels, from `geometry.panel_rectangles`."""
    image_shape: tuple[int, int]
    min_snr: float = 5.0
    """Deviations of a strong pixel above its ring's mean."""
    edge_snr: float = 3.0
    """Deviations down to which connected pixels belong to a spot."""
    min_significance: float = 6.0
    """Of a spot: Li and Ma's."""
    min_counts: float = 2.0
    """Photons above its ring's mean that a strong pixel has at least."""
    min_pixels: int = 2
    max_pixels: int = 200
    background_radius_px: int = 3
    max_spots: int = 2000
    gain: float = 1.0
    """Counts per photon."""
    saturation: float = math.inf
    """A pixel with this value or more is saturated, or marked as no pixel."""
    underload: float = -math.inf
    """A pixel with a lower value holds no count."""
    edges: NDArray[np.bool_] | None = None
    """(slow, fast) from `rings.edge_pixels`: they may be part of a spot, but none is sought there."""
    mean: NDArray[np.float32] = field(init=False)
    deviation: NDArray[np.float32] = field(init=False)
    threshold: NDArray[np.float32] = field(init=False)
    isolated: NDArray[np.int32] = field(init=False)
    """Flat addresses of the last frame's strong pixels without a strong neighbour, for `hot_pixels`."""

    def __post_init__(self) -> None:
        """Make the buffers."""
        n = self.rings.n_rings
        self.mean, self.deviation = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.threshold = np.full(n + 1, np.inf, np.float32)
        self._edge = np.full(n + 1, np.inf, np.float32)
        self.isolated = np.empty(0, np.int32)
        self._strong = np.empty(self.rings.ring.size, np.int32)
        self._alone = np.empty(MOST_ISOLATED, np.int32)
        self._seen = np.zeros(self.rings.ring.size, np.uint8)
        self._stamp = 0
        shape = self.image_shape
        self._edges = (np.zeros(shape, bool) if self.edges is None else self.edges).reshape(-1)
        self._table = np.empty((self.max_spots, N_COLUMNS))
        self._region = np.empty((LARGEST_REGION, 2), np.int32)

    def find(self, image: np.ndarray) -> SpotList:
        """Spots of one frame.

        Parameters
        ----------
        image : (slow, fast) array
            Raw pixels, C order, any integer or floating type.
        """
        flat, rings = image.reshape(-1), self.rings
        valid = (self.underload, self.saturation)
        ring_statistics(
            flat, rings.sample, rings.sample_start, self.min_snr, self.gain, valid, self.mean, self.deviation
        )
        n_strong = find_strong_pixels(
            flat,
            rings.ring,
            rings.block_span,
            rings.spans,
            self.mean,
            self.deviation,
            (self.min_snr, self.min_counts * self.gain),
            self.threshold,
            self._strong,
        )
        self._edge[:-1] = self.mean + self.edge_snr * self.deviation
        self._stamp = self._stamp % 255 + 1
        if self._stamp == 1:
            self._seen[:] = 0
        n, n_alone = measure_spots(
            flat,
            self.image_shape[1],
            self._strong[:n_strong],
            self._edges,
            rings.ring,
            self.threshold,
            self._edge,
            self.rectangles,
            self._seen,
            self._stamp,
            self._region,
            (self.min_snr, self.min_significance, self.gain, *valid),
            (self.min_pixels, self.max_pixels, self.background_radius_px),
            self._table,
            self._alone,
        )
        self.isolated = self._alone[:n_alone]
        return _spot_list(self._table[:n])


def _spot_list(table: NDArray[np.float64]) -> SpotList:
    """Copy of the kernel's table, by column, in the precision in which spots are stored.

    So a lattice found from stored spots is the same to the last bit.
    """
    columns = table.T.astype(np.float32).astype(np.float64)
    return SpotList(
        x_px=columns[0],
        y_px=columns[1],
        intensity=columns[2],
        snr=columns[3],
        peak_snr=columns[4],
        n_pixels=columns[5].astype(np.int32),
        peak_value=columns[6],
        background=columns[7],
        panel=columns[8].astype(np.int32),
        n_saturated=columns[9].astype(np.int32),
    )


@njit(cache=True, nogil=True)
def find_strong_pixels(
    image: np.ndarray,
    ring: NDArray[np.uint16],
    block_span: NDArray[np.uint16],
    spans: NDArray[np.uint16],
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    limits: tuple[float, float],
    threshold: NDArray[np.float32],
    strong: NDArray[np.int32],
) -> int:
    """Fill ``threshold``, and ``strong`` with the pixels above it; return the number of these.

    Parameters
    ----------
    image : (slow * fast,) array
    ring, block_span, spans
        From `RingTable`.
    mean, deviation : (n_rings,) array
        From `ring_statistics`.
    limits
        Deviations, and counts, that a strong pixel has at least above the mean.
    threshold : (n_rings + 1,) array
        Result; the last element, for bad pixels, stays infinite.
    strong : (slow * fast,) array
        Result: flat addresses, ascending.
    """
    level = _levels(mean, deviation, limits, threshold, spans)
    # a whole number compares faster and selects the same integer pixels, or for floats a few more
    whole = np.empty(level.shape[0], image.dtype)
    for s in range(level.shape[0]):
        whole[s] = image.dtype.type(min(math.floor(level[s]), np.float32(32000.0)))
    n_strong = 0
    for block in range(block_span.shape[0]):
        if block_span[block] == 0:
            continue
        least = whole[block_span[block]]
        start, stop = block * BLOCK, min((block + 1) * BLOCK, image.shape[0])
        if stop - start == BLOCK:
            pixels = image[start:stop]
            hit = np.uint8(0)
            for i in range(BLOCK):  # an OR of comparisons over a constant length becomes SIMD, a maximum not
                hit |= np.uint8(pixels[i] > least)
            if not hit:
                continue
        for i in range(start, stop):
            if image[i] > least and image[i] > threshold[ring[i]]:
                strong[n_strong] = i
                n_strong += 1
    return n_strong


@njit(cache=True, nogil=True)
def _levels(
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    limits: tuple[float, float],
    threshold: NDArray[np.float32],
    spans: NDArray[np.uint16],
) -> NDArray[np.float32]:
    """Fill ``threshold``; return the lowest of each span of rings, infinite for the empty span."""
    n_rings = mean.shape[0]
    lowest = np.full((n_rings + GROUP - 1) // GROUP, np.float32(np.inf), np.float32)
    for r in range(n_rings):
        threshold[r] = np.float32(mean[r] + max(limits[0] * deviation[r], limits[1]))
        lowest[r // GROUP] = min(lowest[r // GROUP], threshold[r])
    level = np.full(spans.shape[0], np.float32(np.inf), np.float32)
    for s in range(spans.shape[0]):
        for g in range(spans[s, 0], spans[s, 1] + 1):
            level[s] = min(level[s], lowest[g])
    return level


@njit(cache=True, nogil=True)
def measure_spots(
    image: np.ndarray,
    width: int,
    strong: NDArray[np.int32],
    edges: NDArray[np.bool_],
    ring: NDArray[np.uint16],
    threshold: NDArray[np.float32],
    edge: NDArray[np.float32],
    rectangles: NDArray[np.int64],
    seen: NDArray[np.uint8],
    stamp: int,
    region: NDArray[np.int32],
    limits: tuple[float, float, float, float, float],
    sizes: tuple[int, int, int],
    table: NDArray[np.float64],
    alone: NDArray[np.int32],
) -> tuple[int, int]:
    """Fill ``table`` with the spots of a frame.

    Parameters
    ----------
    image : (slow * fast,) array
    width
        Columns of the image.
    strong, threshold
        From `find_strong_pixels`.
    edges : (slow * fast,) array
        True where no spot is sought: strong pixels there only join the spots of others.
    ring
        From `RingTable`.
    rectangles : (p, 4) array
        Panels.
    seen : (slow * fast,) array
        Scratch; equal to ``stamp`` where a pixel was visited on this frame.
    stamp
        1-255, another one than on the frames before.
    region
        Scratch for the pixels of one region.
    limits
        As for `measure_spot`.
    sizes
        Fewest and most pixels, background radius.
    table : (max_spots, N_COLUMNS) array
        Result; columns as in `SpotList`.
    alone : (n,) array
        Result: addresses of strong pixels without a strong neighbour.

    Returns
    -------
    Number of spots, number of strong pixels alone; no more than there is room for.
    """
    n_spots = n_alone = 0
    for first in strong:
        if edges[first] or seen[first] == stamp:
            continue
        if n_spots == table.shape[0]:
            break
        n_pixels, accepted = measure_spot(
            image,
            width,
            first,
            ring,
            threshold,
            edge,
            rectangles,
            seen,
            stamp,
            limits,
            sizes,
            region,
            table[n_spots],
        )
        n_spots += accepted
        if n_pixels == 1 and n_alone < alone.shape[0]:
            alone[n_alone] = first
            n_alone += 1
    return n_spots, n_alone
