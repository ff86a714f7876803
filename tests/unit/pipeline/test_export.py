"""Everything that is exported of a simulated chip, against the merge and as other programs see it."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from ssx_processing.errors import ChunkError, SettingsError
from ssx_processing.formats.chunk_folder import read_table, write_json
from ssx_processing.formats.mmcif import Delivery
from ssx_processing.kernels.free_flags import free_flags
from ssx_processing.pipeline.export import DEFAULT, FORMATS, ExportOptions, known_formats
from ssx_processing.pipeline.export_source import ExportSource, read_export_source
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.merged_orientations import matrices_of_merge, turns
from ssx_processing.settings import MergingSettings
from tests.unit.formats.test_mmcif import complaints
from tests.unit.pipeline.conftest import ProcessedChip

A_COLUMNS = [f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]


@pytest.fixture(scope="module")
def source(processed_chip: ProcessedChip, tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    run = tmp_path_factory.mktemp("run")
    for name in ("chunks", "calibration"):
        (run / name).symlink_to(processed_chip.folder / name)
    settings = processed_chip.settings.model_copy(update={"merging": MergingSettings(d_min=2.5)})
    keys = [chunk.key for chunk in processed_chip.chunks]
    content = {
        "plan": asdict(processed_chip.plan),
        "settings": settings.model_dump(mode="json"),
        "chunks": keys,
    }
    write_json(run / "plan.json", content | {"calibration": processed_chip.calibration.key})
    folders = [run / "chunks" / key for key in keys]
    wavelength = processed_chip.plan.wavelength
    merge = merge_chunks(folders, settings, run, chunks_expected=len(keys), wavelength=wavelength)
    return read_export_source("chip", merge.folder, [run])


@pytest.fixture(scope="module")
def exported(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    for kind in FORMATS.values():
        for path in kind.write(source, out, ExportOptions(delivery=Delivery.FIXED_TARGET)):
            assert path.is_file()
    return out


def test_merged_mtz_holds_the_table_of_reflections_and_free_flags(source: ExportSource, exported: Path):
    mtz = gemmi.read_mtz_file(str(exported / "chip.mtz"))
    found = pd.DataFrame(np.array(mtz), columns=mtz.column_labels())
    table = read_table(source.merged_folder, "reflections").sort_values(["h", "k", "l"])
    assert np.array_equal(found[["H", "K", "L"]], table[["h", "k", "l"]])
    assert np.allclose(found["IMEAN"], table["intensity"], rtol=1e-6)
    assert np.array_equal(found["N"], table["n"])
    flags = free_flags(table[["h", "k", "l"]].to_numpy(), source.sample.unit_cell, source.sample.space_group)
    assert np.array_equal(found["FreeR_flag"], flags)
    assert mtz.dataset(1).wavelength == pytest.approx(source.wavelength)


def test_anomalous_pairs_are_exported_where_the_merge_kept_them_apart(source: ExportSource):
    table = read_table(source.merged_folder, "reflections")
    apart = {"intensity_plus": 1.0, "sigma_plus": 2.0, "intensity_minus": 3.0, "sigma_minus": 4.0}
    table = table.assign(**apart, n_plus=5, n_minus=6)
    merged = merged_intensities(table, source.sample, unit_cell=source.summary.unit_cell)
    assert merged.intensity_minus is not None
    assert merged.n_plus is not None
    assert set(merged.intensity_minus) == {3.0}
    assert set(merged.n_plus) == {5}


def test_mmcif_of_a_result_is_as_the_dictionary_wants_it(exported: Path, mmcif_dictionary: Path):
    assert complaints(exported / "chip.cif", mmcif_dictionary) == []


def test_unmerged_observations_merge_to_the_merged_intensities(source: ExportSource, exported: Path):
    mtz = gemmi.read_mtz_file(str(exported / "chip_unmerged.mtz"))
    assert len(mtz.batches) == source.summary.lattices_merged
    intensities = gemmi.Intensities()
    intensities.import_mtz(mtz)
    intensities.merge_in_place(gemmi.DataType.Mean)
    again = pd.DataFrame(intensities.miller_array, columns=list("hkl")).assign(again=intensities.value_array)
    table = read_table(source.merged_folder, "reflections").merge(again, on=list("hkl"))
    assert len(table) == source.summary.overall.n_reflections
    assert np.corrcoef(table["intensity"], table["again"])[0, 1] > 0.99


READ_BY_IOTBX = """
import json, sys
from iotbx.merging_statistics import select_data, dataset_statistics
chosen = select_data(sys.argv[1], None)
overall = dataset_statistics(chosen, n_bins=10).overall
print(json.dumps({"n": chosen.size(), "n_unique": overall.n_uniq, "cc_half": overall.cc_one_half,
                  "cell": list(chosen.unit_cell().parameters()), "multiplicity": overall.mean_redundancy}))
"""


def test_iotbx_finds_the_same_statistics_in_the_unmerged_file(
    source: ExportSource, exported: Path, dxtbx_python: str
):
    command = [dxtbx_python, "-c", READ_BY_IOTBX, str(exported / "chip_unmerged.mtz")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    overall = source.summary.overall
    scaled = source.scaled()
    assert found["n"] == (~scaled.observations["rejected"]).sum()
    assert found["n_unique"] == pytest.approx(overall.n_reflections, rel=0.01)
    assert found["multiplicity"] == pytest.approx(overall.multiplicity, rel=0.02)
    assert found["cell"] == pytest.approx(source.summary.unit_cell, abs=1e-3)
    assert found["cc_half"] == pytest.approx(overall.cc_half, abs=0.06)  # other halves, at random


def test_matrices_of_the_merge_predict_what_was_seen(source: ExportSource):
    scaled = source.scaled()
    matrices = matrices_of_merge(scaled.lattices)
    found = scaled.observations
    beam = np.array([0, 0, -1]) / source.wavelength
    q = np.einsum("nij,nj->ni", matrices[found["row"]], found[["h", "k", "l"]].to_numpy(float))
    error = np.linalg.norm(q + beam, axis=1) - 1 / source.wavelength
    assert np.corrcoef(error, found["excitation_error"])[0, 1] > 0.95


def test_reindexing_and_turns_go_into_the_matrix(rng: np.random.Generator):
    a_matrix = rng.normal(size=(3, 3))
    table = pd.DataFrame([a_matrix.ravel()] * 2, columns=A_COLUMNS)
    table = table.assign(reindexing=["h,k,l", "-h-k,k,-l"], turn_x=[0.01, 0.0], turn_y=[0.02, 0.0])
    turned, reindexed = matrices_of_merge(table)
    assert np.allclose(turned, Rotation.from_rotvec([0.01, 0.02, 0]).as_matrix() @ a_matrix)
    assert np.allclose(reindexed @ [-3, 2, -3], a_matrix @ [1, 2, 3])  # the same node, other indices


def test_turns_are_rotations_about_x_and_y():
    vectors = np.array([[0, 0], [0.3, 0], [0, -0.2], [1e-9, 2e-9], [1.0, 2.0]])
    expected = Rotation.from_rotvec(np.column_stack([vectors, np.zeros(5)])).as_matrix()
    assert np.allclose(turns(*vectors.T), expected)


def test_formats_are_chosen_by_name_or_all():
    assert known_formats(["table1", "mtz"]) == ["mtz", "table1"]
    assert known_formats(["all"]) == list(FORMATS)
    assert known_formats(["mtz,mmcif"]) == ["mtz", "mmcif"]
    assert known_formats(DEFAULT) == list(DEFAULT)
    with pytest.raises(SettingsError, match="--format pdb: not known; expected mtz, "):
        known_formats(["pdb"])


def test_a_merge_without_its_runs_is_refused(source: ExportSource):
    with pytest.raises(ChunkError, match="runs behind this merge are not known"):
        read_export_source("chip", source.merged_folder, [])
