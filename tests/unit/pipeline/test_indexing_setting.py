"""The merge brings lattices into one setting, and later merges of the sample into the same."""

from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import MergeError
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.formats.setting_reference import FILE_NAME, read_setting_reference
from ssx_processing.models import MergeSummary, UnitCell
from ssx_processing.pipeline.cell_setting import reindexed_cells
from ssx_processing.pipeline.indexing_setting import follow_resolution, resolve_setting
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.report_data import MergeResult
from ssx_processing.pipeline.report_setting_plot import setting_plots
from ssx_processing.pipeline.setting_resolution import NOT_CERTAIN, SettingResolution
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings
from ssx_processing.simulation.ambiguous_stills import AmbiguousStills, ambiguous_stills

CELL: UnitCell = (48.0, 48.0, 60.0, 90.0, 90.0, 120.0)
D_MIN = 2.8


def simulated_chip(seed: int, shares: tuple[float, float], n_lattices: int, **more: Any) -> AmbiguousStills:
    return ambiguous_stills(
        np.random.default_rng(seed),
        unit_cell=CELL,
        space_group="P 63",
        n_lattices=n_lattices,
        d_min=D_MIN,
        shares=shares,
        **more,
    )


@pytest.fixture(scope="module")
def first_chip() -> AmbiguousStills:
    return simulated_chip(0, (0.6, 0.4), 90)


@pytest.fixture(scope="module")
def second_chip(first_chip: AmbiguousStills) -> AmbiguousStills:
    """Of the same crystals; most of its lattices are indexed the other way."""
    return simulated_chip(1, (0.25, 0.75), 60, truth=first_chip.truth)


def chunks_of(
    stills: AmbiguousStills, folder: Path, name: str, n_chunks: int = 2, cell: UnitCell = CELL
) -> list[Path]:
    """One lattice on each frame; their cells differ a little, and are those of the setting."""
    n = len(stills.setting)
    frame = np.repeat(np.arange(n), np.diff(stills.offsets))
    frames = pd.DataFrame({"frame": np.arange(n), "status": "integrated", "n_lattices": 1, "file": name})
    cells = np.array(cell) + 0.02 * np.sin(np.arange(n))[:, None] * [1, 1, 2, 0, 0, 0]
    for k, operator in enumerate(stills.operators):
        back = gemmi.Op(operator).inverse().as_hkl().triplet()
        cells[stills.setting == k] = reindexed_cells(cells[stills.setting == k], back)
    lattices = pd.DataFrame(cells, columns=["a", "b", "c", "alpha", "beta", "gamma"])
    lattices = lattices.assign(frame=np.arange(n), lattice=0, resolution_limit=D_MIN)
    observations = pd.DataFrame(stills.hkl, columns=["h", "k", "l"]).assign(
        frame=frame,
        lattice=0,
        intensity=stills.intensity,
        sigma=np.sqrt(stills.noise_variance + np.maximum(stills.intensity, 0)),
        excitation_error=np.sqrt(-2 * np.log(stills.factor)),
        excitation_sigma=1.0,
        noise_variance=stills.noise_variance,
        flags=np.uint8(0),
    )
    tables, chunks = {"frames": frames, "lattices": lattices, "observations": observations}, []
    for part in np.array_split(np.arange(n), n_chunks):
        mine = {key: t[(t["frame"] >= part[0]) & (t["frame"] <= part[-1])] for key, t in tables.items()}
        chunks.append(folder / "chunks" / f"{name}-{part[0]:04d}")
        write_chunk(chunks[-1], mine, {"input": name})
    return chunks


def merged(chunks: list[Path], folder: Path, **more: Any) -> MergeSummary:
    merging = MergingSettings(**{"d_min": D_MIN, "n_shells": 5, **more.pop("merging", {})})
    settings = ProcessingSettings(sample=SampleSettings(unit_cell=CELL, space_group="P63"), merging=merging)
    return merge_chunks(chunks, settings, folder, chunks_expected=len(chunks), wavelength=1.0, **more)


def reindexed_in(summary: MergeSummary) -> np.ndarray:
    """1 for lattices that were reindexed."""
    reindexing = pd.read_parquet(summary.folder / "lattices.parquet")["reindexing"]
    return (reindexing != "h,k,l").to_numpy().astype(int)


def cc_to_truth(summary: MergeSummary, stills: AmbiguousStills) -> float:
    mtz = gemmi.read_mtz_file(str(summary.folder / "merged.mtz"))
    intensity = np.asarray(mtz.column_with_label("IMEAN"))
    uid = stills.unit.find(*mtz.make_miller_array().T)[0]
    return float(np.corrcoef(intensity, stills.truth[uid])[0, 1])


def test_lattices_are_merged_in_one_setting(tmp_path: Path, first_chip: AmbiguousStills):
    summary = merged(chunks_of(first_chip, tmp_path, "one.h5"), tmp_path)
    np.testing.assert_array_equal(reindexed_in(summary), first_chip.setting)
    assert cc_to_truth(summary, first_chip) > 0.8
    n = np.bincount(first_chip.setting)
    table = pd.read_parquet(summary.folder / "lattices.parquet")
    uncertain = int((table["ambiguity_z"] < 2).sum())
    words = f"90 lattices: {n[0]} as indexed, {n[1]} reindexed by -h-k,k,-l; {uncertain} not certain"
    assert any(words in warning for warning in summary.warnings)
    assert (table["ambiguity_margin"] > 0.1).mean() > 0.9
    assert read_setting_reference(summary.folder / FILE_NAME).n_lattices == 90


def test_a_second_chip_comes_out_in_the_setting_of_the_first(
    tmp_path: Path, first_chip: AmbiguousStills, second_chip: AmbiguousStills
):
    merged(chunks_of(first_chip, tmp_path, "one.h5"), tmp_path / "one", sample_folder=tmp_path / "sample")
    chunks = chunks_of(second_chip, tmp_path, "two.h5")
    after = merged(chunks, tmp_path / "two", sample_folder=tmp_path / "sample")
    np.testing.assert_array_equal(reindexed_in(after), second_chip.setting)
    assert any("in the setting of" in warning for warning in after.warnings)
    alone = merged(chunks, tmp_path / "alone")
    np.testing.assert_array_equal(reindexed_in(alone), 1 - second_chip.setting)


def test_the_merge_that_left_the_reference_is_found_again(tmp_path: Path, first_chip: AmbiguousStills):
    chunks = chunks_of(first_chip, tmp_path, "one.h5")
    first = merged(chunks, tmp_path)
    again = merged(chunks, tmp_path)
    assert again.reused
    assert again.key == first.key


def test_a_merge_of_some_chunks_settles_that_of_all(
    tmp_path: Path, first_chip: AmbiguousStills, second_chip: AmbiguousStills
):
    one, two = (
        chunks_of(chip, tmp_path, name) for chip, name in ((first_chip, "one.h5"), (second_chip, "two.h5"))
    )
    merged(two, tmp_path)
    both = merged([*one, *two], tmp_path)
    truth = np.concatenate([first_chip.setting, second_chip.setting])
    np.testing.assert_array_equal(reindexed_in(both), 1 - truth)
    later = merged([*one, *two], tmp_path, merging={"d_min": 3.2})
    np.testing.assert_array_equal(reindexed_in(later), 1 - truth)


def test_settings_do_not_depend_on_how_frames_are_cut_into_chunks(
    tmp_path: Path, second_chip: AmbiguousStills
):
    one, three = (
        pd.read_parquet(
            merged(chunks_of(second_chip, tmp_path / str(n), "two.h5", n), tmp_path / str(n)).folder
            / "lattices.parquet",
            columns=["frame", "reindexing", "ambiguity_margin", "ambiguity_z"],
        )
        for n in (1, 3)
    )
    pd.testing.assert_frame_equal(one, three)


def test_a_named_reference_wins_over_that_of_the_sample(
    tmp_path: Path, first_chip: AmbiguousStills, second_chip: AmbiguousStills
):
    one = merged(chunks_of(first_chip, tmp_path, "one.h5"), tmp_path / "one")
    chunks = chunks_of(second_chip, tmp_path, "two.h5")
    merged(chunks, tmp_path / "two")
    by_mtz = merged(chunks, tmp_path / "two", merging={"setting_reference": one.folder / "merged.mtz"})
    np.testing.assert_array_equal(reindexed_in(by_mtz), second_chip.setting)


def test_a_reference_of_another_crystal_form_is_not_used(
    tmp_path: Path, first_chip: AmbiguousStills, second_chip: AmbiguousStills
):
    one = merged(chunks_of(first_chip, tmp_path, "one.h5"), tmp_path / "one")
    mtz = gemmi.read_mtz_file(str(one.folder / "merged.mtz"))
    mtz.set_cell_for_all(gemmi.UnitCell(48, 48, 75, 90, 90, 120))
    mtz.write_to_file(str(tmp_path / "other.mtz"))
    chunks = chunks_of(second_chip, tmp_path, "two.h5")
    summary = merged(chunks, tmp_path, merging={"setting_reference": tmp_path / "other.mtz"})
    np.testing.assert_array_equal(reindexed_in(summary), 1 - second_chip.setting)
    assert any("another crystal form" in warning for warning in summary.warnings)


def test_margins_are_the_same_when_a_reference_of_the_same_lattices_is_followed(
    tmp_path: Path, first_chip: AmbiguousStills
):
    chunks = chunks_of(first_chip, tmp_path, "one.h5")
    first, again = merged(chunks, tmp_path), merged(chunks, tmp_path, merging={"n_shells": 6})
    assert first.key != again.key
    columns = ["reindexing", "ambiguity_margin", "ambiguity_z"]
    tables = [pd.read_parquet(one.folder / "lattices.parquet", columns=columns) for one in (first, again)]
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_lattices_follow_in_portions_what_some_have_settled(
    first_chip: AmbiguousStills, second_chip: AmbiguousStills
):
    def resolution(chip: AmbiguousStills, which: slice, known: SettingResolution | None) -> SettingResolution:
        row = np.repeat(np.arange(len(chip.setting)), np.diff(chip.offsets))
        keep = np.isin(row, np.arange(len(chip.setting))[which])
        row = row[keep] - row[keep][0]
        arrays = (chip.hkl[keep], row, chip.intensity[keep], chip.noise_variance[keep], chip.factor[keep])
        n = int(row.max()) + 1
        if known is None:
            return resolve_setting(*arrays, n_lattices=n, unit=chip.unit, max_obliquity_deg=0.5)
        return follow_resolution(known, *arrays, n_lattices=n, unit=chip.unit)

    settled = resolution(first_chip, slice(None), None)
    whole = resolution(second_chip, slice(None), settled)
    parts = [resolution(second_chip, slice(*edges), settled) for edges in ((0, 7), (7, 60))]
    np.testing.assert_array_equal(whole.setting, second_chip.setting)
    np.testing.assert_array_equal(np.concatenate([part.setting for part in parts]), whole.setting)
    np.testing.assert_array_equal(np.concatenate([part.margin for part in parts]), whole.margin)


def test_uncertain_lattices_are_left_out_on_request(tmp_path: Path, second_chip: AmbiguousStills):
    chunks = chunks_of(second_chip, tmp_path, "two.h5")
    table = pd.read_parquet(merged(chunks, tmp_path).folder / "lattices.parquet")
    limit = float(table["ambiguity_z"].quantile(0.25))
    summary = merged(chunks, tmp_path, merging={"min_ambiguity_z": limit})
    assert summary.lattices_excluded == {NOT_CERTAIN: int((table["ambiguity_z"] < limit).sum())}


def test_what_cannot_be_told_apart_is_said(tmp_path: Path):
    weak = simulated_chip(2, (0.5, 0.5), 30, strength=3.0)
    summary = merged(chunks_of(weak, tmp_path, "weak.h5"), tmp_path, merging={"min_cc": -1.0})
    assert not reindexed_in(summary).any()
    assert any("do not tell them apart" in warning for warning in summary.warnings)
    assert not list(tmp_path.glob("indexing_reference*"))


def test_swapped_axes_are_not_taken_for_another_crystal_form(tmp_path: Path):
    cell: UnitCell = (50.0, 50.2, 60.0, 90.0, 90.0, 90.0)
    stills = ambiguous_stills(
        np.random.default_rng(3), unit_cell=cell, space_group="P 21 21 21", n_lattices=70, d_min=D_MIN
    )
    chunks = chunks_of(stills, tmp_path, "one.h5", cell=cell)
    settings = ProcessingSettings(
        sample=SampleSettings(unit_cell=cell, space_group="P212121"),
        merging=MergingSettings(d_min=D_MIN, n_shells=5),
    )
    summary = merge_chunks(chunks, settings, tmp_path, chunks_expected=2, wavelength=1.0)
    assert summary.lattices_merged == 70
    assert summary.unit_cell[:2] == pytest.approx((50.0, 50.2), abs=0.01)
    np.testing.assert_array_equal(reindexed_in(summary), stills.setting)


def test_the_report_shows_margins_by_setting(tmp_path: Path, first_chip: AmbiguousStills):
    summary = merged(chunks_of(first_chip, tmp_path, "one.h5"), tmp_path)
    lattices, reflections = (
        pd.read_parquet(summary.folder / f"{name}.parquet") for name in ("lattices", "reflections")
    )
    (plot,) = setting_plots(MergeResult(summary, {}, lattices, reflections))
    traces: list[Any] = list(plot.figure.select_traces())
    counts = {trace["name"]: int(np.sum(trace["y"])) for trace in traces}
    n = np.bincount(first_chip.setting)
    assert counts == {"as indexed": n[0], "-h-k,k,-l": n[1]}
    without = lattices.assign(ambiguity_margin=np.nan)
    assert setting_plots(MergeResult(summary, {}, without, reflections)) == []


def test_a_reference_that_is_not_there_stops_the_merge(tmp_path: Path, second_chip: AmbiguousStills):
    chunks = chunks_of(second_chip, tmp_path, "two.h5")
    with pytest.raises(MergeError, match=r"no\.mtz: not readable as a reference"):
        merged(chunks, tmp_path, merging={"setting_reference": tmp_path / "no.mtz"})
