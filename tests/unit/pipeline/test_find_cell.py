"""Cells found without being told: simulated stills of every kind of lattice, and real ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from ssx_processing.kernels import geometry as geo
from ssx_processing.models import Geometry, Panel
from ssx_processing.pipeline.cell_candidates import SpotVectors
from ssx_processing.pipeline.cell_frames import spot_error
from ssx_processing.pipeline.find_cell import CellSearch, find_cells
from tests.unit.kernels.spot_patterns import LATTICES, S0, SIGMA_Q, noise, primitive_b, stills


def hits(patterns: list[np.ndarray], rng: np.random.Generator) -> list[SpotVectors]:
    return [SpotVectors(q, rng.uniform(5, 50, len(q))) for q in patterns]


def search(patterns: list[np.ndarray], rng: np.random.Generator) -> CellSearch:
    return find_cells(hits(patterns, rng), S0, SIGMA_Q)


@pytest.mark.parametrize("name", ["aP", "mP", "mC", "oC", "tP", "hR", "cF"])
def test_lattice_type_and_cell_are_found_from_contaminated_stills(name, rng):
    cell, group = LATTICES[name]
    found = search(stills(primitive_b(cell, group), 6, rng), rng)
    (proposal,) = found.proposals
    assert proposal.lattice == name[:2]
    np.testing.assert_allclose(proposal.cell, cell, rtol=0.002)
    assert proposal.n_frames >= 5
    assert proposal.explained > 0.75  # a sixth of the spots is false


def test_two_crystal_forms_that_are_alike_are_two_proposals_with_their_shares(rng):
    forms = [((79.1, 79.1, 37.9, 90.0, 90.0, 90.0), 14), ((77.2, 77.2, 38.4, 90.0, 90.0, 90.0), 6)]
    patterns = [q for cell, n in forms for q in stills(primitive_b(cell, "P 4 2 2"), n, rng)]
    found = search(patterns, rng)
    assert [proposal.n_frames for proposal in found.proposals] == [14, 6]
    for proposal, (cell, _) in zip(found.proposals, forms, strict=True):
        np.testing.assert_allclose(proposal.cell, cell, rtol=0.002)


def test_noise_has_no_cell(rng):
    found = search([noise(int(rng.integers(20, 120)), rng) for _ in range(12)], rng)
    assert found.proposals == ()
    assert (found.n_hits, found.n_found) == (12, 0)


def test_too_few_hits_or_spots_have_no_cell(rng):
    assert search([], rng).proposals == ()
    patterns = stills(primitive_b(*LATTICES["tP"]), 2, rng)
    assert search([q[:5] for q in patterns], rng).proposals == ()


def dials_hits(folder: Path, file: str, distance: float | None = None) -> tuple[list[SpotVectors], Geometry]:
    """Spots that DIALS found, and the geometry, with another distance if given."""
    content = json.loads((folder / "geometry.json").read_text())
    panel = content["panels"][0]
    x, y, z = panel["origin_mm"]
    n_fast, n_slow = panel["size_fast_slow"]
    flat = Panel(
        (x, y, -distance if distance else z),
        tuple(panel["fast"]), tuple(panel["slow"]), tuple(panel["pixel_mm"]), 0, 0, n_fast, n_slow,
    )  # fmt: skip
    geometry = Geometry((flat,), (n_slow, n_fast), content["wavelength_A"])
    found = []
    with np.load(folder / file) as spots:
        for image in np.unique(spots["image_id"]):
            mine = spots["image_id"] == image
            fast, slow = (spots[name][mine].astype(float) for name in ("px_fast", "px_slow"))
            q = geo.pixel_to_q(
                fast, slow, np.zeros(len(fast), np.int32), geo.panel_rectangles(geometry),
                geo.panel_axes(geometry), geo.incident_wave_vector(geometry), *geo.sensor(geometry),
            )  # fmt: skip
            if len(q) >= 15:
                found.append(SpotVectors(q, spots["I_sum"][mine] / np.sqrt(spots["varI_sum"][mine])))
    return found, geometry


@pytest.mark.parametrize(
    ("folder", "file", "distance", "cell"),
    [
        ("thaumatin_grid_dls_19stills", "dials_strong_spots.npz", None, (58.5, 58.5, 152.3, 90, 90, 90)),
        # the header says 289.3 mm; DIALS refined 318-320 on each of three
        ("hewl_i24_4stills", "spots_strong.npz", 319.0, (78.8, 78.8, 38.0, 90, 90, 90)),
    ],
)
def test_the_cells_of_real_stills_are_found(real_data: Path, folder, file, distance, cell):
    spots, geometry = dials_hits(real_data / folder, file, distance)
    found = find_cells(spots, geo.incident_wave_vector(geometry), spot_error(geometry, 0.8))
    (proposal,) = found.proposals
    assert proposal.lattice == "tP"
    np.testing.assert_allclose(proposal.cell, cell, rtol=0.005)
    assert proposal.n_frames == len(spots)


@pytest.mark.parametrize("finder", ["local", "peakfinder8", "radial"])
def test_the_cell_is_found_in_real_lists_with_many_false_spots(real_data: Path, finder: str):
    with np.load(real_data / "ffbidx_lyso_10images_x3peakfinders" / "spots_recip.npz") as lists:
        spots = [np.ascontiguousarray(lists[f"image{i}_{finder}"], float) for i in range(10)]
    found = find_cells([SpotVectors(q, np.ones(len(q))) for q in spots], -S0, 4e-4)
    (proposal,) = found.proposals
    assert proposal.lattice == "tP"
    np.testing.assert_allclose(proposal.cell, (78.5, 78.5, 36.7, 90, 90, 90), rtol=0.005)
    assert proposal.n_frames == 10
