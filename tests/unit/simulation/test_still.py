import gemmi
import numpy as np
import pytest

from ssx_processing.simulation.chip_settings import ChipSettings, SimulatedCrystals
from ssx_processing.simulation.crystal import random_cell, random_crystal
from ssx_processing.simulation.detector import silicon_absorption_per_mm, true_beam_centre_px
from ssx_processing.simulation.scene import RenderedFrame, Scene
from ssx_processing.simulation.still import node_excitation
from ssx_processing.simulation.truth import Truth


def directions(truth: Truth) -> tuple[np.ndarray, float]:
    """s0 + q of every true spot by plain matrix algebra, and 1/wavelength."""
    q = np.einsum("nij,nj->ni", truth.crystals.a_matrix[truth.spots.crystal], truth.spots.hkl)
    wavenumber = 1 / truth.settings.beam.wavelength
    return q + np.array([0, 0, -wavenumber]), wavenumber


def test_node_is_the_transform_of_a_balls_autocorrelation():
    t = np.linspace(0, 1, 20001)
    autocorrelation = 1 - 1.5 * t + 0.5 * t**3
    x = np.array([0.0, 0.1, 0.4, 0.9, 1.7, 3.2])
    transform = np.atleast_1d(np.trapezoid(autocorrelation * np.cos(2 * np.pi * x[:, None] * t), t, axis=1))
    blurred = transform / transform[0] * np.exp(-(x**2) / 9)
    assert node_excitation(x) == pytest.approx(blurred, abs=1e-5)


def test_spots_obey_braggs_law_within_the_rocking_width(truth: Truth):
    s1, wavenumber = directions(truth)
    error = np.linalg.norm(s1, axis=1) - wavenumber
    assert truth.spots.excitation_error == pytest.approx(error, abs=1e-9)
    bright = truth.spots.partiality > 0.3
    assert bright.sum() > 500
    assert np.abs(error[bright]).max() < 0.003
    assert np.abs(error[bright]).std() < np.abs(error[~bright]).std()


def test_spots_lie_where_their_rays_meet_the_detector(truth: Truth):
    s1, _ = directions(truth)
    detector = truth.settings.detector
    absorption = silicon_absorption_per_mm(truth.settings.beam.wavelength)
    ray = s1 / -s1[:, 2:]
    path = detector.thickness_mm * np.linalg.norm(ray, axis=1)
    passed = np.exp(-absorption * path)
    depth = (1 / absorption - path * passed / (1 - passed)) / np.linalg.norm(ray, axis=1)
    beam_x, beam_y = true_beam_centre_px(detector)
    x = beam_x + (detector.distance_mm + depth) * ray[:, 0] / detector.pixel_mm
    y = beam_y - (detector.distance_mm + depth) * ray[:, 1] / detector.pixel_mm
    distance = np.hypot(truth.spots.x_px - x, truth.spots.y_px - y)[truth.spots.partiality > 0.3]
    assert np.median(distance) < 0.4
    assert np.percentile(distance, 99) < 1.5


def isolated_strong_spots(scene: Scene, frames: range) -> list[tuple[float, float, float, float, float]]:
    """(expected photons, photons seen, background counts, distance in x and y) of spots on fresh frames."""
    found = []
    for frame in frames:
        rendered = scene.render(frame, 1)
        spots, background = rendered.spots[0], rendered.background_factor * scene.background.image
        for x, y, expected in zip(spots.x_px, spots.y_px, spots.photons, strict=True):
            near = (np.abs(spots.x_px - x) < 12) & (np.abs(spots.y_px - y) < 12)
            if expected < 150 or spots.photons[near].sum() > 1.02 * expected or not is_clear(scene, x, y):
                continue
            found.append((expected, *measured(rendered, background, x, y)))
    return found


def is_clear(scene: Scene, x: float, y: float) -> bool:
    column, row = int(x), int(y)
    n_slow, n_fast = scene.maps.gap.shape
    if not (8 < column < n_fast - 8 and 8 < row < n_slow - 8):
        return False
    box = np.s_[row - 6 : row + 7, column - 6 : column + 7]
    rows, columns = scene.defects.at
    defect = ((np.abs(rows - row) < 8) & (np.abs(columns - column) < 8)).any()
    return bool(scene.maps.transmission[box].min() > 0.999 and not defect)


def measured(
    rendered: RenderedFrame, background: np.ndarray, x: float, y: float
) -> tuple[float, float, float, float]:
    rows, columns = np.mgrid[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
    signal = rendered.image[rows, columns] - background[rows, columns]
    return (
        signal.sum(),
        background[rows, columns].sum(),
        (signal * (columns + 0.5 - x)).sum() / signal.sum(),
        (signal * (rows + 0.5 - y)).sum() / signal.sum(),
    )


def test_photons_are_as_many_and_where_the_truth_expects_them(scene: Scene):
    spots = np.array(isolated_strong_spots(scene, range(100, 125)))
    expected, seen, background, dx, dy = spots.T
    assert len(spots) > 150
    deviation = (seen - expected) / np.sqrt(expected + background)
    assert (
        abs(deviation.mean()) < 5 / np.sqrt(len(spots)) + 0.1
    )  # a little of each spot's tail is outside the box
    assert deviation.std() == pytest.approx(1, abs=0.2)
    assert abs(np.median(dx)) < 0.06
    assert abs(np.median(dy)) < 0.06


def test_expected_photons_are_the_product_of_intensity_and_partiality(truth: Truth, scene: Scene):
    spots, crystals = truth.spots, truth.crystals
    s1, wavenumber = directions(truth)
    ray = s1 / np.linalg.norm(s1, axis=1)[:, None]
    q = s1 - [0, 0, -wavenumber]
    group = truth.settings.crystals.sample.gemmi_space_group
    unique = gemmi.ReciprocalAsu(group)
    true_intensity = dict(
        zip(map(tuple, truth.reflections.hkl.tolist()), truth.reflections.intensity, strict=True)
    )
    operations = group.operations()
    intensity = np.array([
        true_intensity[tuple(unique.to_asu([int(v) for v in hkl], operations)[0])] for hkl in spots.hkl
    ])  # fmt: skip
    f, detector = truth.settings.beam.polarisation_fraction, truth.settings.detector
    polarisation = 1 - f * ray[:, 0] ** 2 - (1 - f) * ray[:, 1] ** 2
    absorption = silicon_absorption_per_mm(truth.settings.beam.wavelength)
    efficiency = 1 - np.exp(absorption * detector.thickness_mm / ray[:, 2])
    scale, b = crystals.scale[spots.crystal], crystals.b_factor[spots.crystal]
    product = (
        scale * intensity * np.exp(-b * (q**2).sum(axis=1) / 2) * spots.partiality * polarisation * efficiency
    )
    product *= scene.maps.transmission[spots.y_px.astype(int), spots.x_px.astype(int)]
    assert spots.photons / product == pytest.approx(np.full(len(product), scene.median_scale), rel=1e-6)


def test_partiality_is_no_function_of_the_excitation_error(truth: Truth):
    near = np.abs(np.abs(truth.spots.excitation_error) - 5e-4) < 2e-5
    one_crystal = [
        truth.spots.partiality[near & (truth.spots.crystal == n)] for n in range(len(truth.crystals.frame))
    ]
    spread = [p.std() / p.mean() for p in one_crystal if len(p) > 4]
    assert len(spread) > 5
    assert np.median(spread) > 0.05


def test_blocks_scatter_about_the_crystals_mean_orientation(scene: Scene, rng: np.random.Generator):
    crystals = scene.settings.crystals
    crystal = random_crystal(crystals, scene.settings.beam, 1.0, rng)
    turn = crystal.blocks.a_matrix @ np.linalg.inv(crystal.a_matrix) - np.eye(3)
    angles = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], axis=1)
    assert np.abs(angles.mean(axis=0)).max() < 2e-5
    assert 0.3 < np.rad2deg(angles.std()) / crystals.mosaic_spread_deg < 1.5
    lengths = gemmi.UnitCell(*crystal.unit_cell)
    assert np.linalg.norm(crystal.a_matrix, axis=0) == pytest.approx(lengths.reciprocal().parameters[:3])


@pytest.mark.parametrize(
    ("space_group", "cell", "tied"),
    [
        ("P43212", (79.1, 79.1, 37.9, 90, 90, 90), [[0, 1]]),
        ("I213", (80, 80, 80, 90, 90, 90), [[0, 1, 2]]),
        ("R3:R", (50, 50, 50, 70, 70, 70), [[0, 1, 2]]),
        ("P6122", (90, 90, 140, 90, 90, 120), [[0, 1]]),
        ("P212121", (50, 60, 70, 90, 90, 90), []),
    ],
)
def test_cells_vary_within_the_lattice_symmetry(
    space_group: str, cell: tuple[float, ...], tied: list[list[int]], rng: np.random.Generator
):
    crystals = SimulatedCrystals.model_validate({"space_group": space_group, "unit_cell": cell})
    cells = np.array([random_cell(crystals, rng) for _ in range(200)])
    relative = cells[:, :3] / np.array(cell[:3]) - 1
    assert relative.std(axis=0) == pytest.approx(crystals.cell_variation, rel=0.25)
    for axes in tied:
        assert np.ptp(relative[:, axes], axis=1).max() < 1e-12
    assert (cells[:, 3:] == cell[3:]).all()


def test_thick_sensor_moves_spots_outwards(settings: ChipSettings):
    thin = settings.detector.model_copy(update={"thickness_mm": 1e-3})
    frames = [
        Scene(settings.model_copy(update={"detector": detector})).render(0, 1)
        for detector in (settings.detector, thin)
    ]
    centre = true_beam_centre_px(settings.detector)
    radius = []
    hkl = [set(map(tuple, f.spots[0].hkl[f.spots[0].photons > 1].tolist())) for f in frames]
    for frame in frames:
        spots = frame.spots[0]
        both = np.array([tuple(row) in hkl[0] & hkl[1] for row in spots.hkl.tolist()])
        radius.append(np.hypot(spots.x_px[both] - centre[0], spots.y_px[both] - centre[1]))
    outer = radius[1] > 200
    shift = (radius[0] - radius[1])[outer]
    assert len(shift) > 3
    assert shift.min() > 0.4
    assert shift.max() < 3
