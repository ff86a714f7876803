from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filter)
import numpy as np
import pytest

from ssx_processing.errors import ImageReadError
from ssx_processing.simulation.chip import WELLS_PER_BLOCK, SimulatedChip, chip_layout, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedCrystals, SimulatedDetector
from ssx_processing.simulation.scene import Scene
from ssx_processing.simulation.truth import Truth, read_truth


def pixels(chip: SimulatedChip) -> np.ndarray:
    with h5py.File(chip.master) as master:
        frames: Any = master["entry/data/data"]
        return frames[...]


def test_truth_counts_hits_and_crystals_as_asked(truth: Truth, settings: ChipSettings):
    assert truth.frames.is_hit.sum() == 20
    assert (truth.frames.n_crystals == 2).sum() == round(20 * settings.two_crystal_fraction)
    assert len(truth.crystals.frame) == truth.frames.n_crystals.sum()
    assert np.array_equal(np.bincount(truth.crystals.frame, minlength=40), truth.frames.n_crystals)
    assert np.array_equal(truth.crystals.frame[truth.spots.crystal], truth.spots.frame)


def test_truth_lists_spots_on_live_pixels_only(truth: Truth, scene: Scene, settings: ChipSettings):
    row, column = truth.spots.y_px.astype(int), truth.spots.x_px.astype(int)
    assert not scene.maps.gap[row, column].any()
    assert truth.spots.photons.min() >= settings.truth_min_photons
    assert set(map(tuple, truth.reflections.hkl.tolist())) <= set(map(tuple, scene.sphere.hkl.tolist()))


def test_hits_show_a_realistic_number_of_visible_spots():
    scene = Scene(ChipSettings())
    counts = []
    for frame in range(12):
        rendered = scene.render(frame, 1)
        spots = rendered.spots[0]
        inside = (spots.x_px > 0) & (spots.x_px < 1028) & (spots.y_px > 0) & (spots.y_px < 1062)
        below = scene.background.image[spots.y_px[inside].astype(int), spots.x_px[inside].astype(int)]
        photons = spots.photons[inside]
        counts.append((photons > 5 * np.sqrt(photons + 12 * below)).sum())
    assert 30 < np.median(counts) < 150


def test_file_states_another_beam_centre_than_the_true_one(truth: Truth, settings: ChipSettings):
    stated, error = settings.detector.stated_beam_centre_px, settings.detector.beam_centre_error_px
    assert truth.beam_centre_px == pytest.approx((stated[0] + error[0], stated[1] + error[1]))


def test_same_chip_is_not_simulated_again(chip: SimulatedChip, settings: ChipSettings):
    before = chip.master.stat().st_mtime_ns
    again = simulate_chip(chip.master.parent, settings.model_copy(update={"n_workers": 2}))
    assert again.reused
    assert not chip.reused
    assert (again.master, again.truth, again.data_files) == (chip.master, chip.truth, chip.data_files)
    assert chip.master.stat().st_mtime_ns == before


def test_other_settings_replace_the_chip(tmp_path: Path, settings: ChipSettings):
    short = settings.model_copy(update={"n_frames": 4, "n_files": 1})
    first = pixels(simulate_chip(tmp_path, short))
    second = simulate_chip(tmp_path, short.model_copy(update={"seed": 4}))
    assert not second.reused
    assert not np.array_equal(pixels(second), first)
    assert read_truth(second.truth).settings.seed == 4


def test_workers_make_the_same_files(tmp_path: Path, chip: SimulatedChip, settings: ChipSettings):
    other = simulate_chip(tmp_path, settings.model_copy(update={"n_workers": 2}))
    assert np.array_equal(pixels(other), pixels(chip))
    assert np.array_equal(read_truth(other.truth).spots.x_px, read_truth(chip.truth).spots.x_px)


def test_frames_do_not_depend_on_what_was_rendered_before(settings: ChipSettings, scene: Scene):
    expected = scene.render(7, 1)
    scene.render(3, 2)
    assert np.array_equal(scene.render(7, 1).image, expected.image)
    assert not np.array_equal(scene.render(8, 1).image, expected.image)


def test_progress_ends_at_the_number_of_frames(tmp_path: Path, settings: ChipSettings):
    seen = []
    short = settings.model_copy(update={"n_frames": 20})
    simulate_chip(tmp_path, short, lambda done, total: seen.append((done, total)))
    assert seen == [(16, 20), (20, 20)]


def test_stuck_pixels_count_on_every_frame_and_are_not_masked(chip: SimulatedChip, scene: Scene):
    n_stuck = scene.settings.detector.n_stuck_pixels
    rows, columns = (indices[:n_stuck] for indices in scene.defects.at)
    counts = pixels(chip)[:, rows, columns]
    assert counts.min() > 20
    assert not scene.maps.gap[rows, columns].any()


def test_flickering_pixels_count_on_some_frames(chip: SimulatedChip, scene: Scene):
    n_stuck = scene.settings.detector.n_stuck_pixels
    rows, columns = (indices[n_stuck:] for indices in scene.defects.at)
    share = (pixels(chip)[:, rows, columns] > 30).mean(axis=0)
    assert (share > 0).all()
    assert (share < 1).all()


def test_wide_counters_are_written_as_asked(tmp_path: Path, settings: ChipSettings):
    detector = settings.detector.model_copy(update={"pixel_type": "uint32", "saturation": 2_000_000})
    chip = simulate_chip(tmp_path, settings.model_copy(update={"n_frames": 2, "detector": detector}))
    frames = pixels(chip)
    assert frames.dtype == np.uint32
    assert frames.max() == 2**32 - 1


def test_chip_without_crystals_has_an_empty_truth(tmp_path: Path, settings: ChipSettings):
    chip = simulate_chip(tmp_path, settings.model_copy(update={"n_frames": 3, "hit_fraction": 0.0}))
    truth = read_truth(chip.truth)
    assert len(truth.crystals.frame) == len(truth.spots.frame) == 0
    assert truth.crystals.a_matrix.shape == (0, 3, 3)


def test_loading_differs_between_blocks_of_the_chip(rng: np.random.Generator):
    n_crystals, wells = chip_layout(ChipSettings(n_frames=4000), rng)
    assert len(np.unique(wells, axis=0)) == 4000
    blocks = wells // WELLS_PER_BLOCK
    hits = np.array(
        [(n_crystals[(blocks == block).all(axis=1)] > 0).sum() for block in np.unique(blocks, axis=0)]
    )
    assert (n_crystals > 0).sum() == 1600
    assert hits.var() > 2 * 100 * 0.4 * 0.6  # evenly loaded wells would give the binomial variance


def test_truth_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "chip_truth.h5"
    path.write_text("no HDF5")
    with pytest.raises(ImageReadError, match="simulate it again"):
        read_truth(path)


def test_space_group_with_mirrors_is_refused():
    with pytest.raises(ValueError, match="mirrors"):
        SimulatedCrystals(unit_cell=(50, 60, 70, 90, 90, 90), space_group="Pnma")


def test_gap_outside_the_detector_is_refused():
    with pytest.raises(ValueError, match="no range"):
        SimulatedDetector(n_slow=100, gap_rows=((90, 110),))
