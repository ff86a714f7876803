"""What the page says of indexing: counts with their denominators, residuals in the laboratory, clusters."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.models import Geometry, Misfit, Panel
from ssx_processing.pipeline.report import write_report
from ssx_processing.pipeline.report_cell_plots import cell_bins, cell_scatter_plots, lattice_groups
from ssx_processing.pipeline.report_data import ReportData, read_report_data
from ssx_processing.pipeline.report_indexing_data import (
    SpotResiduals,
    indexing_counts,
    read_indexing,
    spot_residuals,
)
from ssx_processing.pipeline.report_indexing_plots import (
    common_shift_px,
    residual_curves,
    residual_maps,
    runner_up_plot,
)
from ssx_processing.pipeline.report_plots import Plot
from ssx_processing.pipeline.report_words import MISFITS
from tests.unit.pipeline.conftest import ProcessedChip
from tests.unit.pipeline.test_report import Page, Run, write_merge_of

# two panels beside each other, each 20 mm wide, beam between them; the right one is turned by a quarter
LEFT = Panel((-20.0, 20.0, -100.0), (1, 0, 0), (0, -1, 0), (0.1, 0.1), 0, 0, 200, 400, "left")
RIGHT = Panel((0.0, -20.0, -100.0), (0, 1, 0), (1, 0, 0), (0.1, 0.1), 0, 400, 400, 200, "right")
DETECTOR = Geometry((LEFT, RIGHT), (600, 400), 1.0)


def first_trace(plot: Plot) -> Any:
    return plot.figure.data[0]


def spots_off(rng: np.random.Generator, off_mm: NDArray[np.float64] | None = None, n: int = 4000):
    """Spots all over both panels; off by 0.01 mm along x, or by ``off_mm`` times their (x, y) in mm."""
    parts = []
    for number, panel in enumerate(DETECTOR.panels):
        i, j = rng.uniform(0, panel.n_fast, n), rng.uniform(0, panel.n_slow, n)
        fast, slow = (0.1 * np.array(axis[:2]) for axis in (panel.fast_axis, panel.slow_axis))
        place = np.array(panel.origin_mm[:2]) + np.outer(i, fast) + np.outer(j, slow)
        off = np.tile([0.01, 0.0], (n, 1)) if off_mm is None else place @ off_mm.T
        parts.append(
            pd.DataFrame(
                {
                    "x_px": i + panel.fast_start, "y_px": j + panel.slow_start, "panel": number, "lattice": 0,
                    "dx_px": off @ fast / 0.01, "dy_px": off @ slow / 0.01, "excitation_error": 0.0,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_a_shifted_beam_is_one_shift_on_panels_turned_in_the_image(rng: np.random.Generator):
    residuals = spot_residuals(spots_off(rng), DETECTOR)
    azimuth = np.arctan2(residuals.y_mm, residuals.x_mm)
    np.testing.assert_allclose(residuals.radial_px, 0.1 * np.cos(azimuth), rtol=0, atol=1e-5)
    np.testing.assert_allclose(residuals.tangential_px, -0.1 * np.sin(azimuth), rtol=0, atol=1e-5)
    assert common_shift_px(residuals) == pytest.approx((0.1, 0.0), abs=1e-5)


def test_a_wrong_distance_is_a_radial_residual_that_grows(rng: np.random.Generator):
    residuals = spot_residuals(spots_off(rng, 0.002 * np.eye(2)), DETECTOR)
    radius = np.hypot(residuals.x_mm, residuals.y_mm)
    np.testing.assert_allclose(residuals.radial_px, 0.002 * radius / 0.1, rtol=0, atol=1e-5)
    assert np.abs(residuals.tangential_px).max() < 1e-5
    assert "grows by +0.200 % of the radius" in residual_curves(residuals).caption
    radial, tangential = map(first_trace, residual_maps(residuals))
    expected = 0.02 * np.hypot(*np.meshgrid(radial.x, radial.y))
    assert np.median(np.abs(np.array(radial.z, float) - expected)) < 0.01
    assert np.abs(np.array(tangential.z, float)).max() < 1e-3


def test_a_detector_turned_about_the_beam_is_a_tangential_residual(rng: np.random.Generator):
    """Counter-clockwise for who looks along the beam: x goes to the right, y up."""
    residuals = spot_residuals(spots_off(rng, np.array([[0, -0.001], [0.001, 0]])), DETECTOR)
    radius = np.hypot(residuals.x_mm, residuals.y_mm)
    np.testing.assert_allclose(residuals.tangential_px, 0.001 * radius / 0.1, rtol=0, atol=1e-5)


def test_resolution_of_the_spots_is_that_of_their_place(rng: np.random.Generator):
    residuals = spot_residuals(spots_off(rng), DETECTOR)
    radius = np.hypot(residuals.x_mm, residuals.y_mm).astype(float)
    np.testing.assert_allclose(residuals.q, 2 * np.sin(0.5 * np.arctan(radius / 100)), rtol=1e-4)


FRAMES = pd.DataFrame(
    {
        "frame": range(6),
        "status": ["integrated", "integrated", "not_indexed", "not_indexed", "no_hit", "unreadable"],
        "misfit": ["", "", "ambiguous", "no_solution", "", ""],
        "n_spots": [100, 50, 40, 20, 3, 0],
        "chunk": ["a", "a", "a", "b", "b", "b"],
    }
)
LATTICES = pd.DataFrame(
    {
        "frame": [0, 0, 1],
        "n_indexed": [60, 30, 45],
        "rmsd_px": [0.2, 0.4, 0.3],
        "split_deg": [np.nan, 0.7, np.nan],
        "chunk": "a",
    }
)


def test_counts_have_the_right_denominators():
    counts = indexing_counts(FRAMES, LATTICES)
    assert (counts.frames, counts.hits, counts.indexed, counts.lattices, counts.several) == (6, 4, 2, 3, 1)
    assert (counts.explained, counts.spots_on_indexed, counts.spots_on_hits) == (135, 150, 210)
    assert (counts.split, counts.median_rmsd_px) == (1, 0.3)
    assert counts.misfits == {"ambiguous": 1, "no_solution": 1}


def test_chunks_are_counted_on_their_own():
    data = read_indexing([], FRAMES, LATTICES, None)
    assert (data.by_chunk["a"].hits, data.by_chunk["a"].indexed) == (3, 2)
    assert (data.by_chunk["b"].hits, data.by_chunk["b"].lattices) == (1, 0)
    assert np.isnan(data.by_chunk["b"].median_rmsd_px)
    assert data.residuals is None


def test_tables_from_before_reasons_were_kept_say_that_they_are_not_known():
    counts = indexing_counts(FRAMES.drop(columns="misfit"), LATTICES.drop(columns="split_deg"))
    assert counts.misfits == {"": 2}
    assert counts.split == 0


def with_columns(run: Run, table: str, **columns: Any) -> None:
    """Add columns to a table of all chunks."""
    for key in run.keys:
        path = run.folder / "chunks" / key / f"{table}.parquet"
        pd.read_parquet(path).assign(**columns).to_parquet(path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "result")


def test_hits_that_were_not_indexed_are_told_why_and_what_to_do(run: Run):
    run.lattices = False
    run.write()
    with_columns(run, "frames", misfit=lambda t: np.where(t["status"] == "not_indexed", "ambiguous", ""))
    page = Page(write_report(run.folder, None))
    assert page.has_section("indexing")
    word = MISFITS[Misfit.AMBIGUOUS]
    assert re.search(rf"{word.label}\s+100\.0 % of 20\s+{word.meaning}", page.text)
    titles = [plot["layout"]["xaxis"].get("title", {}).get("text") for plot in page.plots]
    (bars,) = page.plots[titles.index("hits not indexed")]["data"]
    assert (bars["y"], bars["text"]) == ([word.label], ["20"])
    assert re.search(
        r"2\s+11-20\s+10\s+5\s+0\s+0\.0 %\s+0\.0 %\s+0\s+–\s+0\s+0\s+0\.0 %\s+–\s+5\s", page.text
    )


def test_old_results_still_make_a_page(run: Run):
    run.lattices = False
    text = Page(write_report(run.write(), None)).text
    assert re.search(r"not known\s+100\.0 % of 20\s+Processed before reasons were kept", text)


def test_every_share_names_its_denominator_in_total_and_by_chunk(run: Run):
    text = Page(write_report(run.write(), None)).text
    assert re.search(r"hits indexed\s+20\s+100\.0 % of 20 hits", text)
    assert re.search(r"frames indexed\s+20\s+50\.0 % of 40 frames", text)
    assert re.search(r"spots explained\s+500\s+83\.3 % of 600 spots on indexed frames", text)
    assert re.search(r"2\s+11-20\s+10\s+5\s+5\s+100\.0 %\s+50\.0 %\s+5\s+1\.00\s+0\s+125\s+83\.3 %", text)


def test_split_crystals_and_near_rivals_are_counted(run: Run):
    run.write()
    with_columns(run, "lattices", split_deg=lambda t: np.where(t["frame"] % 20 == 0, 0.8, np.nan))
    with_columns(run, "lattices", runner_up_gap=lambda t: np.where(t["frame"] % 20 == 0, 0.5, 25.0))
    text = Page(write_report(run.folder, None)).text
    assert "2 crystals (10.0 % of 20 lattices) are split" in text
    assert "2 of 20 lattices with a runner-up have one that is less than 100 times less likely" in text


def test_a_gap_of_any_size_is_in_the_histogram():
    gaps = pd.DataFrame({"runner_up_gap": [-0.1, 0.0, 1.9, 5.0, 400.0, np.inf, np.nan]})
    plot = runner_up_plot(gaps)
    assert np.sum(first_trace(plot).y) == 5
    assert "3 of 5 lattices" in plot.caption
    assert "2 lattices have no runner-up" in plot.caption


def clustered(run: Run) -> ReportData:
    """A run whose lattices are in two clusters, the smaller with axes 3 % longer, and one in none."""
    run.n_frames, run.frames_per_chunk = 400, 100
    run.write()
    for table in ("a", "c"):
        with_columns(run, "lattices", **{table: lambda t, n=table: t[n] * np.where(t["frame"] % 10, 1, 1.03)})
    merge = write_merge_of(run)
    path = merge / "lattices.parquet"
    lattices = pd.read_parquet(path)
    cluster = np.where(lattices["frame"] % 10, 1, 2)
    cluster[1] = 0
    lattices.assign(cell_cluster=cluster).to_parquet(path)
    return read_report_data(run.folder, merge)


def test_clusters_of_cells_are_drawn_apart_and_all_in_view(run: Run):
    data = clustered(run)
    groups = lattice_groups(data.lattices)
    assert [(label, int(members.sum())) for label, _, members in groups] == [
        ("cluster 1", 159), ("cluster 2", 40), ("in no cluster", 1)
    ]  # fmt: skip
    edges = cell_bins(data.lattices["a"].to_numpy(), 79.1, groups)
    assert edges[0] < 79.1 < 1.03 * 79.1 < edges[-1] + 0.1
    (scatter,) = cell_scatter_plots(data)
    assert [trace["name"] for trace in scatter.figure.to_dict()["data"]][:2] == ["cluster 1", "cluster 2"]


def test_without_clusters_merged_lattices_are_told_from_the_others(run: Run):
    run.write()
    labels = [
        [label for label, *_ in lattice_groups(read_report_data(run.folder, m).lattices)]
        for m in (None, write_merge_of(run))
    ]
    assert labels == [["all lattices"], ["merged", "not merged"]]


@pytest.mark.parametrize(("space_group", "n_plots"), [("P1", 6), ("P1211", 3), ("P212121", 3), ("P43212", 1)])
def test_lengths_are_drawn_against_lengths_and_angles_against_angles(
    run: Run, space_group: str, n_plots: int
):
    run.write()
    data = read_report_data(run.folder, None)
    sample = data.settings.sample.model_copy(update={"space_group": gemmi.SpaceGroup(space_group).xhm()})
    settings = data.settings.model_copy(update={"sample": sample})
    assert len(cell_scatter_plots(ReportData(**{**vars(data), "settings": settings}))) == n_plots


@pytest.fixture(scope="module")
def real(processed_chip: ProcessedChip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder around the processed chip."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("calibration", "chunks"):
        (folder / name).symlink_to(processed_chip.folder / name)
    content = {
        "name": "chip",
        "plan": asdict(processed_chip.plan),
        "calibration": processed_chip.calibration.key,
        "chunks": [chunk.key for chunk in processed_chip.chunks],
        "settings": processed_chip.settings.model_dump(mode="json"),
    }
    write_json(folder / "plan.json", content)
    return folder


def test_residuals_of_a_processed_chip_are_small_all_over(real: Path, processed_chip: ProcessedChip):
    data = read_report_data(real, None)
    residuals = data.indexing.residuals
    assert isinstance(residuals, SpotResiduals)
    spots = processed_chip.table("spots")
    assert len(residuals) == (spots["lattice"] >= 0).sum() == data.indexing.total.explained
    assert np.abs(common_shift_px(residuals)).max() < 0.1
    assert abs(np.median(residuals.radial_px)) < 0.1
    page = Page(write_report(real, None))
    assert "Radial residual" in page.text
    heat = [plot["data"][0] for plot in page.plots if plot["data"][0]["type"] == "heatmap"]
    maps = [plot for plot in heat if "title" in plot["colorbar"]]
    assert len(maps) == 2
    assert all(plot["zmin"] == -plot["zmax"] < 0 for plot in maps)
    assert len(json.dumps(maps)) < 100_000


def test_spots_are_counted_with_the_frames(processed_chip: ProcessedChip):
    counts = processed_chip.chunks[0].counts + processed_chip.chunks[1].counts
    spots, frames = processed_chip.table("spots"), processed_chip.table("frames")
    assert counts.spots_explained == (spots["lattice"] >= 0).sum()
    hit = frames["status"].isin(("integrated", "not_indexed"))
    assert counts.spots_on_hits == frames["n_spots"][hit].sum()
    assert counts.spots_on_indexed == frames["n_spots"][frames["status"] == "integrated"].sum()
