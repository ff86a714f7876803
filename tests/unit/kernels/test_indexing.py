import json
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.kernels.geometry import (
    incident_wave_vector,
    panel_axes,
    panel_rectangles,
    pixel_to_q,
    sensor,
)
from ssx_processing.kernels.indexing import Indexer, strongest_by_resolution
from ssx_processing.kernels.unit_cell import misorientation_deg, search_lattice
from ssx_processing.models import Geometry, Panel, UnitCell

LYSOZYME = ((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), "P 43 21 2")
CELLS = [
    LYSOZYME,
    ((63.0, 80.0, 140.0, 90.0, 90.0, 90.0), "P 21 21 21"),
    ((45.0, 65.0, 110.0, 90.0, 105.0, 90.0), "P 1 21 1"),
    ((61.5, 122.7, 168.8, 90.0, 90.0, 90.0), "C 2 2 21"),
    ((80.0, 80.0, 200.0, 90.0, 90.0, 120.0), "R 3:H"),
    ((100.0, 100.0, 100.0, 90.0, 90.0, 90.0), "F 4 3 2"),
]
S0 = np.array([0.0, 0.0, -1.0])
SIGMA_Q = 0.75 * 0.075 / 150


def indexer(cell: UnitCell, name: str, **settings) -> Indexer:
    group = gemmi.find_spacegroup_by_name(name)
    assert group is not None
    return Indexer(search_lattice(cell, group), S0, SIGMA_Q, **settings)


def pattern(a: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3) array: what a detector sees of reflections near the Ewald sphere, with errors of position."""
    limit = np.ceil(np.linalg.norm(np.linalg.inv(a), axis=1) * 0.5).astype(int)
    hkl = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in limit], indexing="ij"), -1).reshape(-1, 3)
    q = hkl @ a.T
    length = np.linalg.norm(q, axis=1)
    width = np.hypot(3e-4, 1e-3 * length)
    excitation = np.linalg.norm(q + S0, axis=1) - 1.0
    near = (np.abs(excitation) < 1.5 * width) & (length > 0.03) & (length < 0.5)
    weight = np.exp(-10.0 * length[near] ** 2)  # weaker, so rarer, at high angle
    chosen = rng.choice(np.flatnonzero(near), n, replace=False, p=weight / weight.sum())
    s1 = q[chosen] + S0
    s1 /= np.linalg.norm(s1, axis=1)[:, None]
    s1 += rng.normal(scale=SIGMA_Q * 0.7, size=s1.shape)
    return s1 / np.linalg.norm(s1, axis=1)[:, None] - S0


def false_spots(n: int, rng: np.random.Generator) -> np.ndarray:
    two_theta, phi = np.arccos(1 - rng.uniform(0.0005, 0.12, n)), rng.uniform(0, 2 * np.pi, n)
    s1 = np.stack([np.sin(two_theta) * np.cos(phi), np.sin(two_theta) * np.sin(phi), -np.cos(two_theta)], 1)
    return s1 - S0


@pytest.mark.parametrize(("cell", "name"), CELLS)
def test_nearly_all_contaminated_patterns_are_indexed_within_half_a_degree(cell, name, rng):
    search = indexer(cell, name)
    n_patterns, right = 40, 0
    for u in Rotation.random(n_patterns, rng=rng).as_matrix():
        a = u @ search.lattice.b
        n = int(rng.integers(20, 60))
        q = np.concatenate([pattern(a, n, rng), false_spots(int(0.4 * n), rng)])
        found = search.index(q, rng.uniform(5, 50, len(q)))
        right += (
            bool(found)
            and misorientation_deg(found[0].a_primitive, a, search.lattice.b, search.lattice.rotations) < 0.5
        )
    assert right >= 0.93 * n_patterns


def test_two_crystals_on_a_frame_are_both_found(rng):
    search = indexer(*LYSOZYME)
    n_patterns, both = 30, 0
    for u, v in zip(
        Rotation.random(n_patterns, rng=rng).as_matrix(),
        Rotation.random(n_patterns, rng=rng).as_matrix(),
        strict=True,
    ):
        true = [u @ search.lattice.b, v @ search.lattice.b]
        q = np.concatenate([pattern(true[0], 35, rng), pattern(true[1], 28, rng), false_spots(10, rng)])
        found = search.index(q, np.ones(len(q)))
        misset = [
            min(
                (
                    misorientation_deg(f.a_primitive, a, search.lattice.b, search.lattice.rotations)
                    for f in found
                ),
                default=180,
            )
            for a in true
        ]
        both += max(misset) < 0.5 and len(found) == 2
    assert both >= 0.9 * n_patterns


@pytest.mark.parametrize("n_spots", [15, 40, 120, 250])
def test_no_lattice_is_found_among_spots_turned_about_the_beam_at_random(n_spots, rng):
    """The control for false indexing: resolution kept, relations between spots destroyed."""
    search = indexer(*LYSOZYME)
    for u in Rotation.random(25, rng=rng).as_matrix():
        q = np.concatenate(
            [pattern(v @ search.lattice.b, 15, rng) for v in [u] * (n_spots // 15)] or [pattern(u, 15, rng)]
        )
        phi = rng.uniform(0, 2 * np.pi, len(q))
        shuffled = q.copy()
        shuffled[:, 0] = np.cos(phi) * q[:, 0] - np.sin(phi) * q[:, 1]
        shuffled[:, 1] = np.sin(phi) * q[:, 0] + np.cos(phi) * q[:, 1]
        assert search.index(shuffled, np.ones(len(q))) == []


def test_turning_the_experiment_about_the_beam_turns_the_result(rng):
    search = indexer(*LYSOZYME)
    a = Rotation.random(rng=rng).as_matrix() @ search.lattice.b
    q, snr = pattern(a, 40, rng), rng.uniform(5, 50, 40)
    turn = Rotation.from_rotvec([0, 0, 1.234]).as_matrix()
    first, second = search.index(q, snr)[0], search.index(q @ turn.T, snr)[0]
    lattice = search.lattice
    assert (
        misorientation_deg(turn @ first.a_primitive, second.a_primitive, lattice.b, lattice.rotations) < 0.01
    )


def test_few_spots_are_no_lattice():
    assert indexer(*LYSOZYME).index(np.zeros((0, 3)), np.zeros(0)) == []
    assert indexer(*LYSOZYME).index(np.full((3, 3), 0.1), np.ones(3)) == []


def test_spots_of_a_beam_stop_halo_only_are_no_lattice_and_no_crash(rng):
    search = indexer((200.0, 210.0, 220.0, 90.0, 90.0, 90.0), "P 21 21 21")
    for _ in range(30):
        q = rng.uniform(-0.02, 0.02, (20, 3))
        assert search.index(q, np.ones(20)) == []


def test_crowded_frames_keep_spots_of_all_resolutions(rng):
    q = rng.uniform(-0.5, 0.5, (1000, 3))
    length = np.linalg.norm(q, axis=1)
    kept = strongest_by_resolution(q, 1.0 / length, 250)  # low resolution strongest by far
    assert len(kept) == 250
    assert np.histogram(length[kept], np.quantile(length, [0, 0.2, 0.4, 0.6, 0.8, 1.0]))[0].min() >= 45


@pytest.mark.parametrize("finder", ["local", "peakfinder8", "radial"])
def test_real_lists_full_of_false_spots_are_indexed(finder, real_data: Path):
    folder = real_data / "ffbidx_lyso_10images_x3peakfinders"
    search = replace(
        indexer((78.7, 78.7, 36.9, 90.0, 90.0, 90.0), "P 43 21 2"), s0=-S0
    )  # their beam goes along +z
    lattice = search.lattice
    with (
        np.load(folder / "spots_recip.npz") as spots,
        np.load(folder / "reference_per_image_fit.npz") as reference,
    ):
        for image in range(10):
            q = np.ascontiguousarray(spots[f"image{image}_{finder}"], float)
            found = search.index(q, np.ones(len(q)))
            true = np.linalg.inv(reference[f"image{image}"])  # rows a, b, c -> columns a*, b*, c*
            assert misorientation_deg(found[0].a_primitive, true, lattice.b, lattice.rotations) < 0.5


def test_real_ssx_stills_that_dials_indexes_are_indexed(real_data: Path):
    folder = real_data / "hewl_i24_4stills"
    geometry = json.loads((folder / "geometry.json").read_text())
    panel = geometry["panels"][0]
    # the header says 289.3 mm; DIALS refined 318-320 on each of the three
    origin = (panel["origin_mm"][0], panel["origin_mm"][1], -319.0)
    n_fast, n_slow = panel["size_fast_slow"]
    flat = Panel(
        origin, tuple(panel["fast"]), tuple(panel["slow"]), tuple(panel["pixel_mm"]), 0, 0, n_fast, n_slow
    )
    g = Geometry((flat,), (n_slow, n_fast), geometry["wavelength_A"])
    search = replace(indexer((79.0, 79.0, 38.0, 90.0, 90.0, 90.0), "P 43 21 2"), s0=incident_wave_vector(g))
    lattice = search.lattice
    with (
        np.load(folder / "spots_strong.npz") as s,
        np.load(folder / "dials_reference_crystals.npz") as crystals,
    ):
        for image in (1, 2, 3):
            mine = s["image_id"] == image
            x, y = s["px_fast"][mine].astype(float), s["px_slow"][mine].astype(float)
            q = pixel_to_q(
                x, y, np.zeros(len(x), np.int32), panel_rectangles(g), panel_axes(g), search.s0, *sensor(g)
            )
            found = search.index(q, s["I_sum"][mine] / np.sqrt(s["varI_sum"][mine]))
            true = crystals["A"][image - 1][:, [1, 2, 0]]  # theirs has the short axis first
            assert misorientation_deg(found[0].a_primitive, true, lattice.b, lattice.rotations) < 1.0
