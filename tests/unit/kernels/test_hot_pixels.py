import numpy as np

from ssx_processing.kernels.hot_pixels import count_isolated, hot_pixels

RING, THRESHOLD = np.zeros((40, 50), np.uint16), np.array([10.0, np.inf], np.float32)


def test_pixels_that_stand_out_alone_are_hot_and_recurring_spots_are_not(rng):
    counts = np.zeros((40, 50), np.uint16)
    for _ in range(50):
        image = rng.poisson(1.0, (40, 50)).astype(np.uint16)
        image[5, 7] = 100  # hot
        image[20:22, 30:33] = 80  # the same Bragg spot on every frame
        count_isolated(image, RING, THRESHOLD, counts)
    hot = hot_pixels(counts, 50, 0.05)
    assert np.argwhere(hot).tolist() == [[5, 7]]


def test_three_frames_make_no_pixel_hot():
    counts = np.zeros((40, 50), np.uint16)
    counts[3, 3] = 3
    assert not hot_pixels(counts, 3, 0.05).any()
