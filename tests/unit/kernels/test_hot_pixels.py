import numpy as np

from ssx_processing.kernels.hot_pixels import hot_pixels
from ssx_processing.kernels.rings import ring_table
from ssx_processing.kernels.spot_finding import SpotFinder

SHAPE = (40, 50)


def isolated_on(images: list[np.ndarray]) -> np.ndarray:
    q = np.full(SHAPE, 0.1, np.float32)
    finder = SpotFinder(ring_table(q, np.zeros(SHAPE, bool)), np.array([[0, 0, 50, 40]]), SHAPE)
    isolated = []
    for image in images:
        finder.find(image)
        isolated.append(finder.isolated.copy())
    return np.concatenate(isolated)


def test_pixels_that_stand_out_alone_are_hot_and_recurring_spots_are_not(rng):
    images = []
    for _ in range(50):
        image = rng.poisson(1.0, SHAPE).astype(np.uint16)
        image[5, 7] = 100  # hot
        image[20:22, 30:33] = 80  # the same Bragg spot on every frame
        images.append(image)
    assert hot_pixels(isolated_on(images), 50, 0.05).tolist() == [5 * 50 + 7]


def test_three_frames_make_no_pixel_hot():
    assert len(hot_pixels(np.array([7, 7, 7]), 3, 0.05)) == 0
    assert hot_pixels(np.array([7, 7, 7, 7]), 4, 0.05).tolist() == [7]
