"""Nineteen real Pilatus stills (CBF, bz2) with a known answer, through dxtbx to integrated lattices."""

from pathlib import Path

import numpy as np
import pytest

from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.kernels.unit_cell import b_matrix, lattice_rotations, misorientation_deg
from ssx_processing.pipeline.calibrate import calibrate
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import ChunkJob, process_chunk
from ssx_processing.settings import ProcessingSettings, SampleSettings


@pytest.mark.slow
@pytest.mark.usefixtures("dxtbx_python")
def test_fifteen_hits_are_found_and_indexed_as_the_reference_says(real_data: Path, tmp_path: Path):
    data = real_data / "thaumatin_grid_dls_19stills"
    sample = SampleSettings(unit_cell=(58.7, 58.7, 152.4, 90.0, 90.0, 90.0), space_group="P41212")
    settings = ProcessingSettings(sample=sample)
    plan = make_plan(sorted((data / "raw").glob("*.cbf.bz2")), settings)
    calibration = calibrate(plan, settings, tmp_path)
    chunk = process_chunk(
        ChunkJob(plan.paths, plan.identity, plan.ranges[0], settings, calibration.folder, tmp_path)
    )

    frames = read_table(chunk.folder, "frames")
    assert (frames["status"] != "no_hit").tolist() == [True] * 15 + [False] * 4

    with np.load(data / "dials_reference_crystals.npz") as crystals:
        reference = crystals["A"][0]
    b, rotations = b_matrix(sample.unit_cell), lattice_rotations(sample.unit_cell, sample.gemmi_space_group)
    lattices = read_table(chunk.folder, "lattices")
    a = lattices[[f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy().reshape(-1, 3, 3)
    misset = np.array([misorientation_deg(m, reference, b, rotations) for m in a])
    assert lattices["frame"][misset < 1.0].nunique() >= 13
