"""``ssx export`` on a small chip: what is written, said and refused."""

import json
import re
import shutil
from pathlib import Path

import gemmi
import pytest

from flows.messages import one_line
from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.pipeline.processed_run import read_processed_run
from ssx_processing.settings import MergingSettings
from ssx_processing.simulation.chip import SimulatedChip


@pytest.fixture(scope="module")
def merged(chip: SimulatedChip, calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a merge, within its run."""
    run = tmp_path_factory.mktemp("runs") / "thaumatin"
    shutil.copytree(calibrated, run)
    known = read_processed_run(run)
    settings = known.settings.model_copy(update={"merging": MergingSettings(d_min=4.0)})
    plan = make_plan([chip.master], settings)
    chunks = [
        process_chunk(ChunkJob(plan.paths, plan.identity, frames, settings, known.calibration.folder, run))
        for frames in plan.ranges
    ]
    content = json.loads((run / "plan.json").read_text())
    write_json(run / "plan.json", content | {"chunks": [chunk.key for chunk in chunks]})
    folders = [chunk.folder for chunk in chunks]
    summary = merge_chunks(folders, settings, run, chunks_expected=len(chunks), wavelength=plan.wavelength)
    return summary.folder


def test_by_default_merged_intensities_and_table_one_are_written(given, merged: Path, tmp_path: Path):
    done = given("export", merged, "--out", "files")
    assert done.exit_code == 0, done.output
    names = [
        "thaumatin.mtz",
        "thaumatin.cif",
        "thaumatin_table1.txt",
        "thaumatin_table1.md",
        "thaumatin_table1.tex",
    ]
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted(names)
    said = re.findall(r"^files/(\S+)  [\d.]+ k?B  \w.+$", done.output, re.MULTILINE)
    assert said == names
    assert "note: multiplicity is only" in done.output


def test_every_format_can_be_asked_for_and_replaces_an_older_file(given, merged: Path, tmp_path: Path):
    older = tmp_path / "thaumatin_unmerged.mtz"
    older.write_text("older")
    done = given("export", merged, "--format", "all", "--delivery", "fixed-target")
    assert done.exit_code == 0, done.output
    assert len(gemmi.read_mtz_file(str(older)).batches) > 0
    block = gemmi.cif.read(str(tmp_path / "thaumatin.cif")).sole_block()
    assert block.find_value("_pdbx_serial_crystallography_sample_delivery.method") == "'fixed target'"


def test_the_jet_material_in_ispyb_is_the_carrier(given, merged: Path, tmp_path: Path):
    write_json(merged.parent.parent / "outcome.json", {"facts": {"carrier": "LCP 60 %(w/v)"}})
    done = given("export", merged, "--format", "mmcif", "--delivery", "injection")
    assert done.exit_code == 0, done.output
    block = gemmi.cif.read(str(tmp_path / "thaumatin.cif")).sole_block()
    item = "_pdbx_serial_crystallography_sample_delivery_injection.carrier_solvent"
    assert block.find_value(item) == "'LCP 60 %(w/v)'"


def test_free_flags_of_a_file_are_kept(given, merged: Path, tmp_path: Path):
    given("export", merged, "--format", "mtz", "--out", "first")
    first = tmp_path / "first" / "thaumatin.mtz"
    mtz = gemmi.read_mtz_file(str(first))
    turned = (mtz.column_with_label("FreeR_flag").array + 7) % 20
    mtz.column_with_label("FreeR_flag").array[:] = turned
    mtz.write_to_file(str(tmp_path / "flags.mtz"))
    done = given("export", merged, "--format", "mtz", "--free-flags", "flags.mtz", "--out", "second")
    assert done.exit_code == 0, done.output
    second = gemmi.read_mtz_file(str(tmp_path / "second" / "thaumatin.mtz"))
    assert second.column_with_label("FreeR_flag").array.tolist() == turned.tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "pdb"], "--format pdb: not known; expected mtz, mmcif, table1, unmerged-mtz"),
        (["--delivery", "by hand"], "--delivery by hand: expected fixed-target or injection"),
        (["--free-flags", "none.mtz"], "--free-flags none.mtz: not readable as MTZ"),
    ],
)
def test_what_cannot_be_exported_is_said(given, merged: Path, words: list[str], message: str):
    done = given("export", merged, *words)
    assert done.exit_code == 1
    assert message in one_line(done.exception)


def test_a_folder_without_a_result_is_refused(given, tmp_path: Path):
    done = given("export", tmp_path)
    assert done.exit_code == 1
    assert "no result here" in one_line(done.exception)
