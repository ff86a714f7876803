import numpy as np

from ssx_processing.kernels.ring_statistics import ring_statistics
from ssx_processing.kernels.rings import BLOCK, GROUP, MIN_PIXELS, ring_table


def radial_map(n: int = 256) -> np.ndarray:
    y, x = np.mgrid[:n, :n] + 0.5
    return (1e-3 * np.hypot(x - n / 2, y - n / 2)).astype(np.float32)


def statistics(
    image: np.ndarray, table, gain: float = 1.0, valid: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = np.zeros(table.n_rings, np.float32), np.zeros(table.n_rings, np.float32)
    ring_statistics(image.ravel(), table.sample, table.sample_start, 5.0, gain, valid, mean, deviation)
    return mean, deviation


def test_every_usable_pixel_has_a_ring_and_every_bad_one_has_the_last():
    bad = np.zeros((256, 256), bool)
    bad[100:110] = True
    table = ring_table(radial_map(), bad)
    assert (table.ring[bad.ravel()] == table.n_rings).all()
    counts = np.bincount(table.ring[~bad.ravel()], minlength=table.n_rings)
    assert len(counts) == table.n_rings
    assert counts.min() >= MIN_PIXELS


def test_ring_numbers_grow_with_q():
    table = ring_table(radial_map(), np.zeros((256, 256), bool))
    assert (np.diff(table.q) > 0).all()


def test_groups_of_a_block_cover_all_its_rings():
    bad = np.zeros((256, 256), bool)
    bad[:, 60:70] = True
    table = ring_table(radial_map(), bad)
    for block, (first, last) in enumerate(table.spans[table.block_span]):
        rings = table.ring[block * BLOCK : (block + 1) * BLOCK]
        rings = rings[rings < table.n_rings]
        if len(rings):
            assert first <= rings.min() // GROUP
            assert last >= rings.max() // GROUP
        else:
            assert table.block_span[block] == 0


def test_a_detector_without_a_usable_pixel_has_no_rings():
    table = ring_table(radial_map(), np.ones((256, 256), bool))
    assert table.n_rings == 0
    assert (table.block_span == 0).all()
    mean, _ = statistics(np.ones((256, 256), np.uint16), table)
    assert len(mean) == 0


def test_statistics_are_those_of_all_pixels_within_sampling_error(rng):
    q = radial_map()
    image = rng.poisson(2.0 + 20.0 * np.exp(-q / 0.03)).astype(np.uint16)
    table = ring_table(q, np.zeros(q.shape, bool), pixels_per_ring=192)
    mean, deviation = statistics(image, table)
    for r in range(table.n_rings):
        pixels = image.ravel()[table.ring == r]
        error = pixels.std() / np.sqrt(min(192, len(pixels)))
        assert abs(mean[r] - pixels.mean()) < 5 * error
        assert abs(deviation[r] / max(pixels.std(), 1e-9) - 1) < 0.35


def test_a_few_bright_pixels_do_not_move_the_mean(rng):
    q = radial_map()
    image = rng.poisson(3.0, q.shape).astype(np.uint16)
    table = ring_table(q, np.zeros(q.shape, bool))
    clean, _ = statistics(image, table)
    image.ravel()[rng.choice(image.size, 300, replace=False)] = 5000
    dirty, _ = statistics(image, table)
    assert np.abs(dirty - clean).max() < 0.35
    assert np.abs(dirty.mean() - clean.mean()) < 0.02


def test_deviation_of_an_empty_ring_is_not_zero():
    q = radial_map()
    table = ring_table(q, np.zeros(q.shape, bool))
    mean, deviation = statistics(np.zeros(q.shape, np.uint16), table)
    assert (mean == 0).all()
    assert (deviation > 0.05).all()


def test_a_bright_region_that_fills_a_tenth_of_a_ring_does_not_move_its_mean(rng):
    q = radial_map()
    image = rng.poisson(1.0, q.shape).astype(np.uint16)
    image[180:215, 60:95] = 500
    table = ring_table(q, np.zeros(q.shape, bool))
    mean, _ = statistics(image, table)
    crossed = np.unique(table.ring.reshape(q.shape)[180:215, 60:95])
    assert mean[crossed].max() < 1.6


def test_panels_far_apart_do_not_make_the_rings_wide():
    q = radial_map()
    apart = np.hstack([q[:, :128], q[:, 128:] + np.float32(0.08)])  # adjacent in the image, not in space
    bad = np.zeros(q.shape, bool)
    assert ring_table(apart, bad).n_rings > 0.8 * ring_table(q, bad).n_rings


def test_pixels_that_are_no_number_do_not_spoil_their_ring(rng):
    q = radial_map()
    image = rng.poisson(3.0, q.shape).astype(np.float32)
    table = ring_table(q, np.zeros(q.shape, bool))
    clean, _ = statistics(image, table)
    image.ravel()[rng.choice(image.size, 200, replace=False)] = np.nan
    spoilt, deviation = statistics(image, table)
    assert np.isfinite(spoilt).all()
    assert np.isfinite(deviation).all()
    assert np.abs(spoilt - clean).max() < 0.5


def test_values_that_are_no_counts_do_not_enter_the_statistics(rng):
    q = radial_map()
    counts = rng.poisson(0.5, q.shape).astype(np.int32)
    table = ring_table(q, np.zeros(q.shape, bool))
    clean, clean_deviation = statistics(counts, table)
    marked = rng.random(q.shape) < 0.1
    counts[marked] = -1
    counts[np.roll(marked, 7)] = 2**31 - 1
    mean, deviation = statistics(counts, table, valid=(0.0, 2.0**31 - 1))
    assert abs((mean - clean).mean()) < 0.01
    assert np.abs(mean - clean).max() < 0.3
    assert np.abs(deviation / clean_deviation - 1).mean() < 0.06
