"""Subsets of the frames merged apart on one scale, and their differences against chance."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import write_chunk
from ssx_processing.formats.merge_record import read_merge, read_merge_table
from ssx_processing.models import MergeSummary
from ssx_processing.pipeline.chunk_tables import A_COLUMNS
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.subset_labels import subset_labels
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings
from ssx_processing.simulation.still_observations import (
    StillExperiment,
    StillObservations,
    simulate_still_observations,
)

N = 400


@pytest.fixture(scope="module")
def stills() -> StillObservations:
    """One crystal per frame; odd frames have another structure, whose intensities correlate by 0.7."""
    dark = StillExperiment(n_lattices=N, strength=1000, d_min=3.0, seed=4)
    return simulate_still_observations(dark, other=np.arange(N) % 2 == 1)


@pytest.fixture(scope="module")
def chunk(stills: StillObservations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = pd.DataFrame({"frame": np.arange(N), "status": "integrated", "n_lattices": 1, "file": "chip.h5"})
    frames["laser"] = np.where(frames["frame"] % 2, "on", "off")
    cells = np.tile(stills.unit.unit_cell, (N, 1))
    lattices = pd.DataFrame(cells, columns=["a", "b", "c", "alpha", "beta", "gamma"])
    lattices.insert(0, "frame", np.arange(N))
    lattices.insert(1, "lattice", 0)
    lattices["resolution_limit"] = stills.unit.d_min
    lattices[list(A_COLUMNS)] = stills.a_matrices.reshape(-1, 9)
    observations = pd.DataFrame(stills.hkl, columns=["h", "k", "l"])
    observations["frame"], observations["lattice"], observations["flags"] = stills.lattice, 0, np.uint8(0)
    for name in ("intensity", "sigma", "noise_variance", "excitation_error", "excitation_sigma"):
        observations[name] = getattr(stills, name)
    folder = tmp_path_factory.mktemp("chunks") / "0000"
    write_chunk(
        folder, {"frames": frames, "lattices": lattices, "observations": observations}, {"input": "chip"}
    )
    return folder


def merge(chunk: Path, stills: StillObservations, folder: Path, **merging: object) -> MergeSummary:
    sample = SampleSettings(unit_cell=stills.unit.unit_cell, space_group="P43212")
    settings = ProcessingSettings(
        sample=sample,
        merging=MergingSettings(d_min=3.0, n_shells=5, **merging),  # type: ignore[arg-type]
    )
    return merge_chunks([chunk], settings, folder, chunks_expected=1, wavelength=1.0)


@pytest.fixture(scope="module")
def merged(chunk: Path, stills: StillObservations, tmp_path_factory: pytest.TempPathFactory) -> MergeSummary:
    return merge(chunk, stills, tmp_path_factory.mktemp("merged"), subset_by="laser", min_cc=-1.0)


def test_each_subset_is_merged_apart(merged: MergeSummary, stills: StillObservations):
    assert [(subset.label, subset.lattices_merged) for subset in merged.subsets] == [
        ("off", 200),
        ("on", 200),
    ]
    mtz = gemmi.read_mtz_file(str(merged.folder / "subsets" / "off.mtz"))
    uid, _ = stills.unit.find(*mtz.make_miller_array().T)
    column = mtz.column_with_label("IMEAN")
    assert column is not None
    apart = np.corrcoef(column.array, stills.truth[uid])[0, 1]
    whole = gemmi.read_mtz_file(str(merged.folder / "merged.mtz"))
    uid, _ = stills.unit.find(*whole.make_miller_array().T)
    column = whole.column_with_label("IMEAN")
    assert column is not None
    assert apart > np.corrcoef(column.array, stills.truth[uid])[0, 1] + 0.02


def test_differences_are_more_than_those_of_a_random_split(merged: MergeSummary):
    table = read_merge_table(merged.folder, "differences")
    assert table is not None
    overall = table[table["shell"] == "all"]
    (cc,), (r,) = overall.loc[~overall["is_random"], ["cc_difference", "r_iso"]].to_numpy().T
    (cc_of_chance,), (r_of_chance,) = (
        overall.loc[overall["is_random"], ["cc_difference", "r_iso"]].to_numpy().T
    )
    assert cc > 0.5
    assert abs(cc_of_chance) < 0.2
    assert r > 1.5 * r_of_chance


def test_subsets_are_read_back_with_the_summary(merged: MergeSummary):
    assert read_merge(merged.folder).subsets == merged.subsets
    lattices = pd.read_parquet(merged.folder / "lattices.parquet")
    assert lattices["subset"].tolist()[:3] == ["off", "on", "off"]


def test_a_table_of_the_users_tells_subsets_and_its_content_counts(
    chunk: Path, stills: StillObservations, tmp_path: Path
):
    table = tmp_path / "delays.csv"
    asked = {"subset_by": "delay", "subset_table": table}
    delays = pd.DataFrame({"frame": np.arange(N), "delay": np.where(np.arange(N) < 100, np.nan, 2.5)})
    delays.to_csv(table, index=False)
    first = merge(chunk, stills, tmp_path, **asked)
    assert [(subset.label, subset.lattices_merged) for subset in first.subsets] == [("2.5", 300)]
    assert read_merge_table(first.folder, "differences") is None
    delays.fillna({"delay": 0}).to_csv(table, index=False)
    second = merge(chunk, stills, tmp_path, **asked)
    assert [subset.label for subset in second.subsets] == ["0", "2.5"]
    assert second.key != first.key


FRAMES = pd.DataFrame({"frame": [0, 1, 2, 0], "data_set": [0, 0, 0, 1], "laser": ["a", "b", None, "a"]})


def labels(**merging: object) -> list[str]:
    return subset_labels(FRAMES, MergingSettings(**merging)).tolist()  # type: ignore[arg-type]


def test_columns_and_expressions_of_columns_are_labels():
    assert labels(subset_by="laser") == ["a", "b", "", "a"]
    assert labels(subset_by="frame % 2") == ["0", "1", "0", "0"]
    assert labels(subset_by="(frame > 0) | (data_set == 1)") == ["False", "True", "True", "True"]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("delay", "delay.*columns there are: data_set, frame, laser"),
        ("__import__('os')", "expected a column or an expression"),
        ("3", "for all frames"),
    ],
)
def test_what_is_no_column_is_said(by: str, message: str):
    with pytest.raises(SettingsError, match=message):
        labels(subset_by=by)


def test_tables_that_cannot_be_joined_are_said(tmp_path: Path):
    table = tmp_path / "table.csv"
    pd.DataFrame({"frame": [0, 1], "delay": [1, 2]}).to_csv(table, index=False)
    with pytest.raises(SettingsError, match="count from 0 in each of 2 data sets"):
        labels(subset_by="delay", subset_table=table)
    pd.DataFrame({"image": [0, 1], "delay": [1, 2]}).to_csv(table, index=False)
    with pytest.raises(SettingsError, match="no column `frame`"):
        labels(subset_by="delay", subset_table=table)
    pd.DataFrame({"frame": [0, 0], "data_set": [0, 0], "delay": [1, 2]}).to_csv(table, index=False)
    with pytest.raises(SettingsError, match="frame 0 is there twice"):
        labels(subset_by="delay", subset_table=table)


def test_a_value_on_every_frame_is_no_subset():
    many = pd.DataFrame({"frame": np.arange(100), "data_set": 0})
    with pytest.raises(SettingsError, match="100 subsets, at most 60"):
        subset_labels(many, MergingSettings(subset_by="frame"))
