"""The merge: from chunk folders made of observations with a known answer to the merged folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gemmi
import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import ChunkError, MergeError, ReferenceFileError
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.formats.merge_record import read_merge, read_merge_table
from ssx_processing.models import MergeSummary
from ssx_processing.pipeline.chunk_columns import A_COLUMNS
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings

if TYPE_CHECKING:
    from tests.unit.conftest import PartialStills

LATTICES_PER_FRAME = 2
BLANKS = 10


def chunk_tables(stills: PartialStills) -> dict[str, pd.DataFrame]:
    """Two lattices on each frame, the last ten frames blank."""
    n_lattices = len(stills.log_g)
    of_lattice = np.arange(n_lattices)
    n_frames = -(-n_lattices // LATTICES_PER_FRAME) + BLANKS
    frames = pd.DataFrame({"frame": np.arange(n_frames)})
    n_on_frame = np.bincount(of_lattice // LATTICES_PER_FRAME, minlength=n_frames)
    frames["status"] = np.where(n_on_frame > 0, "integrated", "no_hit")
    frames["n_lattices"] = n_on_frame
    frames["file"] = "chip.h5"
    cell = np.array(stills.unit.unit_cell) + 0.02 * np.sin(of_lattice)[:, None] * [1, 1, 2, 0, 0, 0]
    lattices = pd.DataFrame(cell, columns=["a", "b", "c", "alpha", "beta", "gamma"])
    lattices.insert(0, "frame", of_lattice // LATTICES_PER_FRAME)
    lattices.insert(1, "lattice", of_lattice % LATTICES_PER_FRAME)
    lattices["resolution_limit"] = stills.unit.d_min
    lattices[list(A_COLUMNS)] = stills.a_matrices.reshape(-1, 9)
    observations = pd.DataFrame(stills.hkl, columns=["h", "k", "l"])
    observations["frame"] = stills.lattice // LATTICES_PER_FRAME
    observations["lattice"] = stills.lattice % LATTICES_PER_FRAME
    for name in ("intensity", "sigma", "excitation_error", "excitation_sigma"):
        observations[name] = getattr(stills, name)
    observations["noise_variance"] = stills.noise_variance
    observations["flags"] = np.uint8(0)
    return {"frames": frames, "lattices": lattices, "observations": observations}


def write_chunks(
    folder: Path, tables: dict[str, pd.DataFrame], edges: Sequence[int], data_set: str = "one chip"
) -> list[Path]:
    """The tables cut at the frames ``edges``."""
    chunks = []
    for start, stop in pairwise(edges):
        part = {name: t[(t["frame"] >= start) & (t["frame"] < stop)] for name, t in tables.items()}
        chunks.append(folder / "chunks" / f"{start:04d}-{stop:04d}")
        write_chunk(chunks[-1], part, {"input": data_set})
    return chunks


@pytest.fixture(scope="module")
def tables(partial_stills: PartialStills) -> dict[str, pd.DataFrame]:
    return chunk_tables(partial_stills)


@pytest.fixture
def settings(partial_stills: PartialStills) -> ProcessingSettings:
    return settings_with(partial_stills, d_min=2.5)


def settings_with(stills: PartialStills, **merging: Any) -> ProcessingSettings:
    sample = SampleSettings(unit_cell=stills.unit.unit_cell, space_group="P43212")
    return ProcessingSettings(sample=sample, merging=MergingSettings(**merging))


def merge(folder: Path, chunks: Sequence[Path], settings: ProcessingSettings, **more: Any) -> MergeSummary:
    more = {"chunks_expected": len(chunks), "wavelength": 1.0, **more}
    return merge_chunks(chunks, settings, folder, **more)


@pytest.fixture
def merged(tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings) -> MergeSummary:
    return merge(tmp_path, write_chunks(tmp_path, tables, [0, 60, 135]), settings)


def merged_intensities(summary: MergeSummary, stills: PartialStills) -> np.ndarray:
    """Column IMEAN of the MTZ, one element per unique reflection, nan where not measured."""
    mtz = gemmi.read_mtz_file(str(summary.folder / "merged.mtz"))
    uid, _ = stills.unit.find(*mtz.make_miller_array().T)
    intensity = np.full(len(stills.unit), np.nan)
    column = mtz.column_with_label("IMEAN")
    assert column is not None
    intensity[uid] = column.array
    return intensity


def test_merged_intensities_are_the_true_ones(merged: MergeSummary, partial_stills: PartialStills):
    assert partial_stills.cc_to_truth(merged_intensities(merged, partial_stills)) > 0.95


def test_summary_counts_frames_lattices_and_observations(merged: MergeSummary, partial_stills: PartialStills):
    assert merged.counts.frames_total == 135
    assert merged.counts.frame_hits == merged.counts.frames_indexed == 125
    assert merged.counts.lattices_indexed == 250
    assert merged.lattices_merged == 250
    assert merged.lattices_excluded == {}
    assert (merged.chunks_merged, merged.chunks_expected, merged.missing) == (2, 2, ())
    measured = np.unique(partial_stills.uid[partial_stills.uid >= 0])
    assert 0.97 * len(measured) < merged.overall.n_reflections <= len(measured)
    assert 0.98 * len(partial_stills.uid) < merged.overall.n_observations <= len(partial_stills.uid)
    assert merged.overall.n_possible == pytest.approx(len(partial_stills.unit), abs=10)
    assert sum(s.n_observations for s in merged.shells) == merged.overall.n_observations


def test_cell_has_the_symmetry_of_the_space_group(merged: MergeSummary):
    assert merged.unit_cell[0] == merged.unit_cell[1] == pytest.approx(50.0, abs=0.01)
    assert merged.unit_cell[3:] == (90.0, 90.0, 90.0)


def test_cc_half_promises_what_the_truth_keeps(merged: MergeSummary, partial_stills: PartialStills):
    truth = partial_stills.cc_to_truth(merged_intensities(merged, partial_stills))
    assert merged.overall.cc_star == pytest.approx(truth, abs=0.03)


def test_wilson_b_is_a_number(merged: MergeSummary):
    assert np.isfinite(merged.wilson_b)


def test_the_same_data_cut_in_other_chunks_give_the_same_result(
    merged: MergeSummary,
    tmp_path: Path,
    tables: dict[str, pd.DataFrame],
    settings: ProcessingSettings,
):
    other = tmp_path / "other"
    chunks = write_chunks(other, tables, [0, 17, 18, 90, 121, 130, 135])
    again = merge(other, list(reversed(chunks)), settings)
    assert (again.overall, again.shells) == (merged.overall, merged.shells)
    for name in ("reflections", "lattices"):
        first, second = (pd.read_parquet(m.folder / f"{name}.parquet") for m in (merged, again))
        pd.testing.assert_frame_equal(
            first.drop(columns="chunk", errors="ignore"),
            second.drop(columns="chunk", errors="ignore"),
            check_exact=True,
        )


def test_data_sets_whose_frames_count_alike_are_merged_together(
    merged: MergeSummary, tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    first = write_chunks(tmp_path / "first", tables, [0, 60, 135])
    second = write_chunks(tmp_path / "second", tables, [0, 135], "another chip")
    both = merge(tmp_path, [*first, *second], settings)
    assert both.counts == merged.counts + merged.counts
    assert both.lattices_merged == 2 * merged.lattices_merged
    assert both.overall.n_observations == pytest.approx(2 * merged.overall.n_observations, rel=1e-2)
    assert both.overall.n_reflections >= merged.overall.n_reflections  # more of them well determined


def test_a_second_merge_reads_the_first_one_back(
    merged: MergeSummary, tmp_path: Path, settings: ProcessingSettings
):
    chunks = sorted((tmp_path / "chunks").iterdir())
    told: list[str] = []
    again = merge(tmp_path, chunks, settings, progress=told.append)
    assert again.reused
    assert not told
    assert (again.key, again.overall, again.shells, again.counts, again.unit_cell, again.warnings) == (
        merged.key,
        merged.overall,
        merged.shells,
        merged.counts,
        merged.unit_cell,
        merged.warnings,
    )


def test_other_settings_are_another_merge(
    merged: MergeSummary, tmp_path: Path, partial_stills: PartialStills
):
    chunks = sorted((tmp_path / "chunks").iterdir())
    other = merge(tmp_path, chunks, settings_with(partial_stills, d_min=3.0))
    assert not other.reused
    assert other.key != merged.key
    assert other.overall.d_min == 3.0


def test_missing_chunks_are_said_everywhere(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    chunks = write_chunks(tmp_path, tables, [0, 60, 135])
    sentence = "frames 0 to 59: worker killed"
    partial = merge(tmp_path, chunks[1:], settings, chunks_expected=2, missing=[sentence])
    assert (partial.chunks_merged, partial.chunks_expected, partial.missing) == (1, 2, (sentence,))
    assert "1 of 2 chunks merged" in partial.warnings
    stored = json.loads((partial.folder / "summary.json").read_text())
    assert stored["missing"] == [sentence]


def test_lattices_are_left_out_with_a_reason(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    spoilt = {name: table.copy() for name, table in tables.items()}
    spoilt["lattices"]["c"] *= np.where(spoilt["lattices"].index == 3, 1.02, 1.0)
    of_first = np.flatnonzero((spoilt["observations"][["frame", "lattice"]] == 0).all(axis=1))
    spoilt["observations"].loc[of_first[5:], "flags"] = 1
    summary = merge(tmp_path, write_chunks(tmp_path, spoilt, [0, 135]), settings)
    assert summary.lattices_excluded == {"cell far from the median": 1, "too few observations": 1}
    assert summary.lattices_merged == 248
    table = pd.read_parquet(summary.folder / "lattices.parquet")
    assert table["filter_reason"].tolist()[:4] == ["too few observations", "", "", "cell far from the median"]
    assert table["n_merged"].tolist()[0] == table["n_merged"].tolist()[3] == 0
    details = json.loads((summary.folder / "summary.json").read_text())["details"]
    assert details["rejected"]["reflections_not_determined"] > 0  # few observations each, none near to full
    assert 0.99 * table["n_merged"].sum() < summary.overall.n_observations < table["n_merged"].sum()


def test_observations_far_beyond_a_lattices_own_resolution_are_not_merged(
    tmp_path: Path, tables: dict[str, pd.DataFrame], partial_stills: PartialStills
):
    poor = {name: table.copy() for name, table in tables.items()}
    poor["lattices"]["resolution_limit"] = 5.0
    settings = settings_with(partial_stills, max_push_res=0.05)
    summary = merge(tmp_path, write_chunks(tmp_path, poor, [0, 135]), settings)
    assert summary.overall.d_min == pytest.approx(4.0, abs=0.02)


def test_resolution_is_cut_where_cc_half_ends(
    tmp_path: Path, simulate_stills: Callable[..., PartialStills], rng
):
    weak = simulate_stills(rng, n_lattices=150, strength=60.0, d_min=2.0)
    settings = settings_with(weak)
    summary = merge(tmp_path, write_chunks(tmp_path, chunk_tables(weak), [0, 85]), settings)
    assert 2.1 < summary.overall.d_min < 4.5
    assert np.mean([s.cc_half for s in summary.shells[-3:]]) == pytest.approx(0.35, abs=0.2)
    explicit = settings_with(weak, d_min=summary.overall.d_min)
    again = merge(tmp_path, sorted((tmp_path / "chunks").iterdir()), explicit)
    assert again.overall == summary.overall


def test_low_multiplicity_and_ambiguity_are_warned_of(
    tmp_path: Path, simulate_stills: Callable[..., PartialStills], rng
):
    few = simulate_stills(rng, n_lattices=20)
    sample = SampleSettings(unit_cell=few.unit.unit_cell, space_group="P43")
    settings = ProcessingSettings(sample=sample, merging=MergingSettings(d_min=2.5))
    summary = merge(tmp_path, write_chunks(tmp_path, chunk_tables(few), [0, 20]), settings)
    text = "\n".join(summary.warnings)
    assert "multiplicity is only" in text
    assert "2 ways" in text


def test_progress_names_chunks_and_cycles(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    told: list[str] = []
    merge(tmp_path, write_chunks(tmp_path, tables, [0, 60, 135]), settings, progress=told.append)
    assert told[:2] == ["reading chunk 1 of 2", "reading chunk 2 of 2"]
    assert told[2] == "scaling to 2.50 Å: scale, cycle 1, 250 lattices"


def test_mtz_has_wavelength_and_friedel_mates(
    merged: MergeSummary, tmp_path: Path, partial_stills: PartialStills
):
    mtz = gemmi.read_mtz_file(str(merged.folder / "merged.mtz"))
    assert mtz.dataset(1).wavelength == 1.0
    plus, minus = (mtz.column_with_label(label) for label in ("I(+)", "I(-)"))
    assert plus is not None
    assert minus is not None
    centric = partial_stills.unit.centric[partial_stills.unit.find(*mtz.make_miller_array().T)[0]]
    assert np.isnan(minus.array[centric]).all()
    assert np.isfinite(minus.array[~centric]).mean() > 0.7


def test_no_chunks_cannot_be_merged(tmp_path: Path, settings: ProcessingSettings):
    with pytest.raises(MergeError, match="no chunk"):
        merge(tmp_path, [], settings)


def test_chunks_without_lattices_cannot_be_merged(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    chunks = write_chunks(tmp_path, tables, [125, 130, 135])
    with pytest.raises(MergeError, match="no lattice in 2 chunks with 10 frames"):
        merge(tmp_path, chunks, settings)


def test_why_nothing_is_left_is_said(
    tmp_path: Path, tables: dict[str, pd.DataFrame], partial_stills: PartialStills
):
    settings = settings_with(partial_stills, d_min=2.5, min_observations=100_000)
    with pytest.raises(MergeError, match="250 too few observations"):
        merge(tmp_path, write_chunks(tmp_path, tables, [0, 135]), settings)
    assert not list((tmp_path).glob("merged/*"))


def test_a_frame_in_two_chunks_is_refused(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    chunks = write_chunks(tmp_path, tables, [0, 60]) + write_chunks(tmp_path, tables, [59, 135])
    with pytest.raises(MergeError, match="frame 59 is in two"):
        merge(tmp_path, chunks, settings)


def test_a_chunk_without_its_tables_is_named(
    tmp_path: Path, tables: dict[str, pd.DataFrame], settings: ProcessingSettings
):
    chunks = write_chunks(tmp_path, tables, [0, 135])
    (chunks[0] / "observations.parquet").unlink()
    with pytest.raises(ChunkError, match="observations"):
        merge(tmp_path, chunks, settings)


@pytest.fixture
def two_forms(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """A third of the lattices have axes that are 2 % longer."""
    lattices = tables["lattices"].copy()
    lattices.loc[np.arange(len(lattices)) % 3 == 0, ["a", "b", "c"]] *= 1.02
    return {**tables, "lattices": lattices}


def test_crystal_forms_are_merged_apart(tmp_path: Path, two_forms, partial_stills: PartialStills):
    chunks = write_chunks(tmp_path, two_forms, [0, 135])
    minor = int((np.arange(250) % 3 == 0).sum())
    for wanted, a, left_out in ((None, 50.0, minor), (1, 50.0, minor), (2, 51.0, 250 - minor)):
        done = merge(tmp_path, chunks, settings_with(partial_stills, d_min=2.5, cell_cluster=wanted))
        assert done.lattices_excluded == {"other_cell_cluster": left_out}
        assert done.unit_cell[0] == pytest.approx(a, rel=1e-3)
        (words,) = [line for line in done.warnings if "cell clusters" in line]
        assert f"number {wanted or 1} is merged" in words
        stored = pd.read_parquet(done.folder / "lattices.parquet")["cell_cluster"]
        assert stored.value_counts().to_dict() == {1: 250 - minor, 2: minor}


def test_the_form_nearest_to_the_expected_cell_is_merged_unless_another_is_wanted(
    tmp_path: Path, two_forms, partial_stills: PartialStills
):
    chunks = write_chunks(tmp_path, two_forms, [0, 135])
    sample = SampleSettings(unit_cell=(51.0, 51.0, 63.2, 90.0, 90.0, 90.0), space_group="P43212")
    done = merge(tmp_path, chunks, ProcessingSettings(sample=sample, merging=MergingSettings(d_min=2.5)))
    assert done.unit_cell[0] == pytest.approx(51.0, rel=1e-3)


def test_a_form_that_does_not_exist_is_an_error(tmp_path: Path, two_forms, partial_stills: PartialStills):
    chunks = write_chunks(tmp_path, two_forms, [0, 135])
    with pytest.raises(MergeError, match=r"no cell cluster 3: the cells of 250 lattices form 2"):
        merge(tmp_path, chunks, settings_with(partial_stills, d_min=2.5, cell_cluster=3))


def test_a_merge_has_r_factors_anomalous_statistics_and_an_error_of_cc_half(merged: MergeSummary):
    overall = merged.overall
    assert 0 < overall.r_pim < overall.r_merge < overall.r_meas
    assert 0 < overall.cc_half_error < 0.02
    assert overall.n_pairs <= overall.n_reflections
    assert abs(overall.cc_anomalous) < 0.2  # the simulation has no anomalous signal
    assert 0.5 < overall.anomalous_completeness < 1
    assert sum(shell.n_pairs for shell in merged.shells) == overall.n_pairs


def test_the_growth_curve_ends_with_the_merge(merged: MergeSummary):
    growth = read_merge_table(merged.folder, "growth")
    assert growth is not None
    last = growth.iloc[-1]
    assert last["n_lattices"] == merged.lattices_merged
    assert last["n_observations"] == merged.overall.n_observations
    assert last["cc_half"] == pytest.approx(merged.overall.cc_half, abs=1e-5)
    assert last["completeness"] == pytest.approx(merged.overall.completeness, abs=1e-5)


def test_most_lattices_make_the_data_better(merged: MergeSummary):
    delta = pd.read_parquet(merged.folder / "lattices.parquet")["delta_cc_half"]
    assert delta.notna().all()
    assert (delta > 0).mean() > 0.6


def test_lattices_that_lower_cc_half_are_left_out_on_request(
    tmp_path: Path, tables: dict[str, pd.DataFrame], partial_stills: PartialStills
):
    rng = np.random.default_rng(1)
    spoilt = tables["observations"].copy()
    for frame in range(0, 16, 2):
        of_frame = (spoilt["frame"] == frame).to_numpy()
        spoilt.loc[of_frame, "intensity"] = rng.permutation(spoilt.loc[of_frame, "intensity"].to_numpy())
    settings = settings_with(partial_stills, d_min=2.5, min_cc=-1.0, max_cc_half_loss=3.0)
    summary = merge(tmp_path, write_chunks(tmp_path, tables | {"observations": spoilt}, [0, 135]), settings)
    lattices = pd.read_parquet(summary.folder / "lattices.parquet")
    out = lattices[lattices["filter_reason"] == "lowers CC1/2"]
    assert summary.lattices_excluded == {"lowers CC1/2": len(out)}
    is_spoilt = out["frame"].isin(range(0, 16, 2))
    assert is_spoilt.sum() >= 4
    assert (~is_spoilt).sum() <= 12  # of 234
    assert out["delta_cc_half"].isna().all()


def test_a_merge_says_how_it_fits_its_reference(
    tmp_path: Path, merged: MergeSummary, tables: dict[str, pd.DataFrame], partial_stills: PartialStills
):
    settings = settings_with(partial_stills, d_min=2.5, reference=merged.folder / "merged.mtz")
    again = merge(tmp_path, write_chunks(tmp_path / "again", tables, [0, 135]), settings)
    assert again.reference is not None
    assert again.reference.verdict == "isomorphous"
    assert again.reference.cc == pytest.approx(1.0, abs=1e-4)
    assert read_merge(again.folder).reference == again.reference


def test_a_reference_that_cannot_be_used_ends_the_merge_before_it_begins(
    tmp_path: Path, tables: dict[str, pd.DataFrame], partial_stills: PartialStills
):
    settings = settings_with(partial_stills, reference=tmp_path / "none.mtz")
    with pytest.raises(ReferenceFileError, match=r"none\.mtz: no such file"):
        merge(tmp_path, write_chunks(tmp_path, tables, [0, 135]), settings)
