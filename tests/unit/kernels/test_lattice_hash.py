"""Chance that depends on nothing but the lattice itself."""

import numpy as np

from ssx_processing.kernels.lattice_hash import lattice_hash, random_halves


def test_halves_depend_on_nothing_but_the_lattice_itself(rng: np.random.Generator):
    frame = np.arange(1000)
    dataset, lattice = np.full(1000, 77, np.uint64), np.zeros(1000, np.int64)
    half = random_halves(dataset, frame, lattice)
    order = rng.permutation(1000)
    assert np.array_equal(random_halves(dataset[order], frame[order], lattice[order]), half[order])
    assert not np.array_equal(random_halves(dataset + np.uint64(1), frame, lattice), half)


def test_halves_are_balanced_and_unrelated_to_the_frames_order():
    frame = np.arange(20000)
    half = random_halves(np.zeros(20000, np.uint64), frame, np.zeros(20000, np.int64)).astype(float)
    second = random_halves(np.zeros(20000, np.uint64), frame, np.ones(20000, np.int64)).astype(float)
    assert abs(half.mean() - 0.5) < 0.015
    assert abs(np.corrcoef(half[1:], half[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(half, second)[0, 1]) < 0.03


def test_a_sample_by_rank_has_both_halves():
    one = (np.zeros(20000, np.uint64), np.arange(20000), np.zeros(20000, np.int64))
    sample = np.argsort(lattice_hash(*one, salt=1))[:2000]
    assert abs(random_halves(*one)[sample].mean() - 0.5) < 0.05
