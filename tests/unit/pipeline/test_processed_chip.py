"""A simulated chip against its truth: what scientists will ask of the pipeline."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from ssx_processing.formats.chunk_folder import read_summary
from ssx_processing.kernels.integration_table import FLAG_SHARED, REJECTED_FLAGS
from ssx_processing.kernels.unit_cell import b_matrix, lattice_rotations, misorientation_deg
from ssx_processing.models import FrameStatus
from tests.unit.pipeline.conftest import ProcessedChip


def expected_snr(photons: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio of a spot summed over 9 pixels."""
    return photons / np.sqrt(photons + 9 * background)


def visible_spots(processed: ProcessedChip, least_snr: float) -> np.ndarray:
    """Number of spots of each frame that stand out by so much."""
    spots = processed.truth.spots
    visible = expected_snr(spots.photons, spots.background) > least_snr
    return np.bincount(spots.frame[visible], minlength=len(processed.truth.frames.is_hit))


def test_every_frame_with_enough_visible_spots_is_a_hit_and_no_blank_is(processed_chip: ProcessedChip):
    is_hit = (processed_chip.table("frames")["status"] != FrameStatus.NO_HIT).to_numpy()
    assert is_hit[visible_spots(processed_chip, 8.0) >= 18].all()
    assert not is_hit[~processed_chip.truth.frames.is_hit].any()
    assert is_hit.sum() >= 0.95 * processed_chip.truth.frames.is_hit.sum()


def test_visible_spots_are_found_and_nothing_but_spots(processed_chip: ProcessedChip):
    found, true = processed_chip.table("spots"), processed_chip.truth.spots
    snr = expected_snr(true.photons, true.background)
    recalled, genuine, errors = [], [], []
    for frame in np.flatnonzero(processed_chip.truth.frames.is_hit):
        mine, theirs = found[found["frame"] == frame], true.frame == frame
        xy, true_xy = mine[["x_px", "y_px"]].to_numpy(), np.stack([true.x_px[theirs], true.y_px[theirs]], 1)
        if len(xy) == 0 or len(true_xy) == 0:
            continue
        distance, nearest = KDTree(true_xy).query(xy)
        genuine.append(distance < 2.5)
        strong = snr[theirs][nearest] > 8
        errors.append((xy - true_xy[nearest])[(distance < 2.5) & strong])
        recalled.append(KDTree(xy).query(true_xy[snr[theirs] > 7.0])[0] < 2.5)
    assert np.concatenate(recalled).mean() > 0.98
    assert np.concatenate(genuine).mean() > 0.995
    error = np.concatenate(errors)
    assert np.sqrt((error**2).mean()) < 0.17
    assert np.abs(error.mean(axis=0)).max() < 0.03


def misorientations(processed: ProcessedChip) -> np.ndarray:
    """Of each lattice to the nearest crystal of its frame; 180 where there is none."""
    sample, crystals = processed.settings.sample, processed.truth.crystals
    b, rotations = b_matrix(sample.unit_cell), lattice_rotations(sample.unit_cell, sample.gemmi_space_group)
    frames = processed.table("lattices")["frame"].to_numpy()
    return np.array(
        [
            min(
                (
                    misorientation_deg(a, true, b, rotations)
                    for true in crystals.a_matrix[crystals.frame == f]
                ),
                default=180.0,
            )
            for a, f in zip(processed.a_matrices(), frames, strict=True)
        ]
    )


def test_lattices_are_right_within_half_a_degree(processed_chip: ProcessedChip):
    misset = misorientations(processed_chip)
    assert (misset < 0.5).mean() > 0.99
    assert np.median(misset) < 0.018
    assert len(misset) >= 0.95 * len(processed_chip.truth.crystals.frame)


def test_both_crystals_of_most_double_hits_are_found(processed_chip: ProcessedChip):
    n_lattices = processed_chip.table("frames")["n_lattices"].to_numpy()
    n_crystals = processed_chip.truth.frames.n_crystals
    assert (n_lattices[n_crystals == 2] == 2).mean() > 0.8
    assert (n_lattices[n_crystals == 1] <= 1).mean() > 0.97


def test_no_lattice_is_on_a_blank(processed_chip: ProcessedChip):
    assert (
        not processed_chip.table("frames")["n_lattices"].to_numpy()[~processed_chip.truth.frames.is_hit].any()
    )


def test_calibration_finds_the_true_beam_centre_and_the_hot_pixels(processed_chip: ProcessedChip):
    true = np.array(processed_chip.truth.settings.detector.beam_centre_error_px)
    assert np.abs(processed_chip.calibration.beam_shift_px - true).max() < 0.05
    refinement = processed_chip.calibration.refinement
    shifts = dict(zip(refinement.names, refinement.shifts, strict=True))
    assert abs(shifts["distance"]) < 0.06  # %
    assert max(abs(shifts["tilt about x"]), abs(shifts["tilt about y"])) < 0.02
    assert (
        processed_chip.truth.settings.detector.n_stuck_pixels <= processed_chip.calibration.n_hot_pixels < 40
    )


def test_integrated_intensities_follow_the_photons_put_in(processed_chip: ProcessedChip):
    true = processed_chip.truth.spots
    key = {
        (f, *h): (p, c)
        for f, h, p, c in zip(true.frame, true.hkl.tolist(), true.photons, true.partiality, strict=True)
    }
    single = np.flatnonzero(processed_chip.truth.frames.n_crystals == 1)
    obs = processed_chip.table("observations")
    obs = obs[((obs["flags"] & REJECTED_FLAGS) == 0) & obs["frame"].isin(single)]
    # hkl of a lattice is known up to the lattice's symmetry only: compare sums over a frame
    total = obs.groupby("frame")["intensity"].sum()
    expected = {f: sum(v[0] for k, v in key.items() if k[0] == f) for f in total.index}
    ratio = np.array([total[f] / expected[f] for f in total.index if expected[f] > 2000])
    assert 0.85 < np.median(ratio) < 1.1
    assert ratio.std() < 0.15


def test_masks_fit_the_spots_and_the_kinds_of_reflections_are_counted(processed_chip: ProcessedChip):
    """Spots are 0.67 px wide, standard deviation, so 2.2 px hold them but for half a per cent."""
    assert 2.1 < processed_chip.calibration.peak_radius_px < 2.7
    kinds = [read_summary(chunk.folder)["reflections"] for chunk in processed_chip.chunks]
    total = {kind: sum(one[kind] for one in kinds) for kind in kinds[0]}
    obs = processed_chip.table("observations")
    assert total["good"] == ((obs["flags"] & REJECTED_FLAGS) == 0).sum()
    assert total["shared"] == ((obs["flags"] & FLAG_SHARED) != 0).sum() > 50
    assert total["predicted"] >= len(obs) > 0.95 * total["predicted"]
    assert total["good"] > 0.93 * total["predicted"]
    assert obs.loc[obs["flags"] == 0, "fraction"].eq(1.0).all()


def test_counts_add_up(processed_chip: ProcessedChip):
    frames = processed_chip.table("frames")
    counts = processed_chip.chunks[0].counts + processed_chip.chunks[1].counts
    assert counts.frames_total == len(frames) == 160
    assert counts.frame_hits == counts.frames_indexed + counts.frames_failed_index
    assert counts.lattices_indexed == len(processed_chip.table("lattices")) == frames["n_lattices"].sum()
    assert (frames["status"] == FrameStatus.INTEGRATED).sum() == counts.frames_indexed
    assert counts.hit_rate == pytest.approx(counts.frame_hits / 160)
