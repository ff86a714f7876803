"""A merged chip for CrystFEL and for DIALS: read back, and by DIALS's own programs."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ssx_processing.formats.chunk_folder import read_table, write_json
from ssx_processing.formats.crystfel_geometry import read_crystfel_geometry
from ssx_processing.formats.crystfel_hkl import read_hkl
from ssx_processing.formats.crystfel_stream import CrystfelStream
from ssx_processing.formats.dials_reflections import read_refl
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.kernels.integration_table import REJECTED_FLAGS
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.export_crystfel import export_crystfel
from ssx_processing.pipeline.export_dials import export_dials
from ssx_processing.pipeline.export_source import ExportSource, read_export_source
from ssx_processing.pipeline.export_stream import write_run_as_stream
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.merged_orientations import matrices_of_merge, turns
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.pipeline.processed_run import read_processed_run
from ssx_processing.pipeline.sample import sample_of_plan
from ssx_processing.pipeline.stream_chunks import stream_tables
from ssx_processing.settings import MergingSettings, RequestedSettings, SpotSettings
from tests.unit.formats.crystfel_streams import GEOMETRY, write_stream
from tests.unit.pipeline.conftest import ProcessedChip


@pytest.fixture(scope="module")
def source(processed_chip: ProcessedChip, tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    """Merge of the chip's first chunk, in a folder that has its own plan."""
    folder = tmp_path_factory.mktemp("run") / "chip"
    chunk = processed_chip.chunks[0]
    (folder / "chunks").mkdir(parents=True)
    (folder / "chunks" / chunk.key).symlink_to(chunk.folder)
    (folder / "calibration").symlink_to(processed_chip.folder / "calibration")
    settings = processed_chip.settings.model_copy(update={"merging": MergingSettings(d_min=3.0)})
    write_json(
        RunFolder(folder).plan,
        {
            "plan": {"paths": [str(path) for path in processed_chip.plan.paths]},
            "calibration": processed_chip.calibration.key,
            "chunks": [chunk.key],
            "settings": settings.model_dump(mode="json"),
        },
    )
    wavelength = processed_chip.plan.wavelength
    merge = merge_chunks([chunk.folder], settings, folder, chunks_expected=1, wavelength=wavelength)
    return read_export_source("chip", merge.folder, [folder])


def chunk_tables(source: ExportSource) -> dict[str, pd.DataFrame]:
    (folder,) = RunFolder(source.run_folders[0]).chunks.iterdir()
    return {name: read_table(folder, name) for name in ("frames", "spots", "lattices", "observations")}


@pytest.fixture(scope="module")
def for_crystfel(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by suffix, that of the Friedel mates apart."""
    files = export_crystfel(source, tmp_path_factory.mktemp("crystfel"))
    return {path.suffix: path for path in files if "anomalous" not in path.name}


@pytest.fixture(scope="module")
def for_dials(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by suffix."""
    return {path.suffix: path for path in export_dials(source, tmp_path_factory.mktemp("dials"))}


def test_the_stream_holds_every_frame_with_its_spots(for_crystfel: dict[str, Path], source: ExportSource):
    tables = chunk_tables(source)
    frames = list(CrystfelStream(for_crystfel[".stream"]).frames())
    assert [frame.problem for frame in frames] == [""] * len(tables["frames"])
    assert [frame.event for frame in frames] == [f"//{i}" for i in tables["frames"]["file_index"]]
    assert [frame.hit for frame in frames] == (tables["frames"]["status"] != "no_hit").tolist()
    peaks = [frame.peaks for frame in frames if frame.peaks is not None]
    np.testing.assert_allclose(np.concatenate([p.fs for p in peaks]), tables["spots"]["x_px"], atol=0.0051)
    np.testing.assert_allclose(np.concatenate([p.ss for p in peaks]), tables["spots"]["y_px"], atol=0.0051)


def test_a_stream_read_again_gives_the_tables_it_was_made_from(
    for_crystfel: dict[str, Path], source: ExportSource
):
    plan = make_plan([for_crystfel[".stream"]], source.runs()[0].settings)
    again = stream_tables(plan.paths, None, plan.ranges[0], SpotSettings()).tables()
    before = chunk_tables(source)
    of_all = before["observations"]
    good = of_all[(of_all["flags"] & REJECTED_FLAGS) == 0].reset_index(drop=True)
    names = ["frame", "lattice", "h", "k", "l"]
    pd.testing.assert_frame_equal(again["observations"][names], good[names])
    for name, digits in {"intensity": 1e-4, "sigma": 1e-4, "x_px": 0.006, "excitation_error": 1e-6}.items():
        np.testing.assert_allclose(again["observations"][name], good[name], atol=digits, rtol=1e-6)
    # the width of a lattice stands for those of its reflections, which differ a little
    np.testing.assert_allclose(again["observations"]["excitation_sigma"], good["excitation_sigma"], rtol=0.5)
    cells = ["a", "b", "c", "alpha", "beta", "gamma"]
    np.testing.assert_allclose(again["lattices"][cells], before["lattices"][cells], atol=0.002)


def test_the_streams_geometry_is_the_calibrations(for_crystfel: dict[str, Path], source: ExportSource):
    path = for_crystfel[".geom"]
    given = read_crystfel_geometry(path, path.read_bytes(), None)
    assert CrystfelStream(for_crystfel[".stream"]).header.geometry == path.read_text()
    (ours,), (theirs,) = source.calibrations()[0].geometry.panels, given.geometry.panels
    np.testing.assert_allclose(theirs.origin_mm, ours.origin_mm, atol=1e-5)


def test_rows_of_a_stack_of_modules_are_those_of_the_file_again(tmp_path: Path):
    """Two slabs of one dataset: in the image below each other, in the file each from row 0 on."""
    own = GEOMETRY.replace("/LCLS/photon_energy_eV", "12398.4198 eV").replace("/LCLS/distance", "-0.4 m")
    geometry_file = tmp_path / "x.geom"
    geometry_file.write_text(own.replace("mask = /nowhere\n", ""))
    stream = write_stream(tmp_path)
    requested = RequestedSettings(spots=SpotSettings(gain=4))
    plan = make_plan([stream], requested, geometry_file)
    settings = requested.with_sample(sample_of_plan(plan, requested, tmp_path))
    calibration = calibrate(plan, settings, tmp_path)
    job = ChunkJob(
        plan.paths, plan.identity, plan.ranges[0], settings, calibration.folder, tmp_path, geometry_file
    )
    process_chunk(job)
    content = {"plan": {"paths": [str(stream)], "geometry_file": str(geometry_file)}, "chunks": [job.key]}
    content |= {"calibration": calibration.key, "settings": settings.model_dump(mode="json")}
    write_json(RunFolder(tmp_path).plan, content)
    path, *_ = write_run_as_stream(read_processed_run(tmp_path), tmp_path / "again.stream")
    for first, second in zip(CrystfelStream(stream).frames(), CrystfelStream(path).frames(), strict=True):
        assert first.peaks is not None
        assert second.peaks is not None
        np.testing.assert_allclose(second.peaks.ss, first.peaks.ss, atol=0.0051)
        assert second.peaks.panel.tolist() == first.peaks.panel.tolist()
        assert (second.file, second.event, second.hit) == (first.file, first.event, first.hit)
        for one, other in zip(first.crystals, second.crystals, strict=True):
            np.testing.assert_allclose(other.reflections.ss, one.reflections.ss, atol=0.0051)
            assert other.reflections.panel.tolist() == one.reflections.panel.tolist()
            np.testing.assert_allclose(other.reflections.intensity, one.reflections.intensity, atol=1e-4)
            np.testing.assert_allclose(other.a_matrix, one.a_matrix, atol=1e-9)
            assert other.profile_radius == pytest.approx(one.profile_radius, abs=1e-6)


def test_the_reflection_lists_are_the_merged_intensities(for_crystfel: dict[str, Path], source: ExportSource):
    table = read_table(source.merged_folder, "reflections")
    full, *halves = (read_hkl(for_crystfel[suffix]) for suffix in (".hkl", ".hkl1", ".hkl2"))
    assert full.symmetry == "4/mmm"
    np.testing.assert_array_equal(full.hkl, table[["h", "k", "l"]])
    np.testing.assert_allclose(full.intensity, table["intensity"], atol=0.00501)
    for number, half in enumerate(halves, start=1):
        expected = table[f"half{number}"].dropna()
        np.testing.assert_allclose(half.intensity, expected, atol=0.00501)
        assert half.n.min() >= 1
    # each observation is in one half, but a reflection may be determined in both together only
    assert 0.8 * full.n.sum() < sum(half.n.sum() for half in halves) < full.n.sum()


def test_friedel_mates_are_listed_apart_where_they_are_known(source: ExportSource, tmp_path: Path):
    table = read_table(source.merged_folder, "reflections")
    known = table.assign(
        intensity_plus=table["intensity"], sigma_plus=table["sigma"], n_plus=table["n"],
        intensity_minus=2 * table["intensity"], sigma_minus=table["sigma"], n_minus=table.index % 2,
        centric=table.index % 4 == 1,
    )  # fmt: skip
    for path in source.merged_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    known.to_parquet(tmp_path / "reflections.parquet")
    with_mates = read_export_source("mates", tmp_path, source.run_folders)
    (path,) = (p for p in export_crystfel(with_mates, tmp_path / "out") if "anomalous" in p.name)
    found = read_hkl(path)
    assert found.symmetry == "422"
    mates = known[(known["n_minus"] > 0) & ~known["centric"]]
    assert len(found.n) == len(known) + len(mates)
    np.testing.assert_array_equal(found.hkl[len(known) :], -mates[["h", "k", "l"]].to_numpy())
    np.testing.assert_allclose(found.intensity[len(known) :], mates["intensity_minus"], atol=0.00501)


def test_the_table_for_dials_has_scales_as_dials_uses_them(for_dials: dict[str, Path], source: ExportSource):
    columns, identifiers = read_refl(for_dials[".refl"])
    scaled = source.scaled()
    assert sorted(identifiers) == list(range(len(scaled.lattices)))
    np.testing.assert_allclose(
        columns["intensity.scale.value"] / columns["inverse_scale_factor"],
        scaled.observations["scaled_intensity"],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        np.sqrt(columns["intensity.scale.variance"]) / columns["inverse_scale_factor"],
        scaled.observations["scaled_sigma"],
        rtol=1e-6,
    )
    np.testing.assert_allclose(np.linalg.norm(columns["s1"], axis=1), 1 / source.wavelength, rtol=1e-9)
    assert set(columns["flags"].tolist()) == {1 + 256 + (1 << 26)}


def test_experiments_and_table_agree_on_where_reflections_are(for_dials: dict[str, Path]):
    """s0 + A h of the experiments' crystals points where s1 of the table does."""
    content = json.loads(for_dials[".expt"].read_text())
    columns, _ = read_refl(for_dials[".refl"])
    beam = content["beam"][0]
    s0 = -np.array(beam["direction"]) / beam["wavelength"]
    real = np.array([[c[f"real_space_{x}"] for x in "abc"] for c in content["crystal"]])
    matrices = np.linalg.inv(real)[columns["id"]]
    rays = s0 + np.einsum("nij,nj->ni", matrices, columns["miller_index"])
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    angles = np.linalg.norm(rays - columns["s1"] * beam["wavelength"], axis=1)
    assert np.median(angles) < 5e-4
    assert angles.max() < 0.01


def dials(program: str, *arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [f"dials.{program}", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dials_shows_the_experiments_and_the_table(
    for_dials: dict[str, Path], source: ExportSource, dxtbx_python: str, tmp_path: Path
):
    shown = dials("show", for_dials[".expt"], for_dials[".refl"], cwd=tmp_path)
    scaled = source.scaled()
    assert shown.count("Experiment identifier: ") == len(scaled.lattices)
    assert shown.count("Space group: P 43 21 2") == len(scaled.lattices)
    assert f"Reflection list contains {len(scaled.observations)} reflections" in shown
    cell = scaled.lattices.iloc[0]
    assert f"Unit cell: {cell['a']:.3f}, {cell['b']:.3f}, {cell['c']:.3f}" in shown


def test_dials_reports_on_them(for_dials: dict[str, Path], dxtbx_python: str, tmp_path: Path):
    dials("report", for_dials[".expt"], for_dials[".refl"], "output.html=report.html", cwd=tmp_path)
    assert "Analysis of" in (tmp_path / "report.html").read_text()


def merged_a_matrix(lattice: Mapping[Any, Any]) -> NDArray[np.float64]:
    as_indexed = {"reindexing": "h,k,l", "turn_x": 0.0, "turn_y": 0.0}
    return matrices_of_merge(pd.DataFrame([as_indexed | dict(lattice)]))[0]


def rotation(turn_x: float, turn_y: float) -> NDArray[np.float64]:
    return turns(np.array([turn_x]), np.array([turn_y]))[0]


def test_a_lattice_is_reindexed_and_turned_as_it_was_merged(rng: np.random.Generator):
    matrix = rng.normal(size=(3, 3)) * 0.01
    lattice: Mapping[Any, Any] = {f"a{i + 1}{j + 1}": matrix[i, j] for i in range(3) for j in range(3)}
    hkl = np.array([3, -5, 7])
    for triplet in ("k,h,-l", "h,-h-k,-l", "h,k,l"):
        merged = merged_a_matrix({**lattice, "reindexing": triplet})
        there = gemmi.Op(triplet).apply_to_hkl(hkl.tolist())
        np.testing.assert_allclose(merged @ there, matrix @ hkl, atol=1e-15)
    turned = merged_a_matrix({**lattice, "turn_x": 0.003, "turn_y": -0.004})
    np.testing.assert_allclose(turned, rotation(0.003, -0.004) @ matrix, atol=1e-15)


def test_a_turn_is_a_rotation_about_the_axis_that_its_components_span():
    turn = rotation(0.03, -0.04)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(turn @ [0.6, -0.8, 0.0], [0.6, -0.8, 0.0], atol=1e-15)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(0.05))
    np.testing.assert_allclose(rotation(1e-5, 0) @ [0, 1, 0], [0, 1, 1e-5], atol=1e-9)
    np.testing.assert_allclose(rotation(0, 1e-5) @ [0, 0, 1], [1e-5, 0, 1], atol=1e-9)
