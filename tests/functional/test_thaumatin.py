"""Nineteen real Pilatus stills (CBF, bz2) with a known answer, from the command line to the merged MTZ."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssx_processing.kernels.unit_cell import b_matrix, lattice_rotations, misorientation_deg
from ssx_processing.settings import SampleSettings
from tests.command_line import ssx

DIALS_SPOTS = [290, 1143, 1313, 1284, 1201, 1157, 1123, 1104, 1000, 975, 853, 804, 627, 354, 51, 0, 1, 1, 1]
"""Spots that dials.find_spots has on each image with its defaults."""
SAMPLE = SampleSettings(unit_cell=(58.7, 58.7, 152.4, 90.0, 90.0, 90.0), space_group="P41212")


@pytest.mark.slow
@pytest.mark.usefixtures("dxtbx_python")
def test_fifteen_hits_are_found_and_indexed_as_the_reference_says(real_data: Path, tmp_path: Path):
    data = real_data / "thaumatin_grid_dls_19stills"
    images = sorted((data / "raw").glob("*.cbf.bz2"))
    cell = ",".join(map(str, SAMPLE.unit_cell))
    done = ssx(
        "process", *images, "--cell", cell, "--space-group", SAMPLE.space_group, "--out", tmp_path / "out",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "out").glob("merged/*/merged.mtz"))) == 1
    assert (tmp_path / "out" / "report.html").is_file()

    (chunk,) = (tmp_path / "out" / "chunks").iterdir()
    frames = pd.read_parquet(chunk / "frames.parquet")
    assert [Path(file).name for file in frames["file"]] == [image.name for image in images]
    assert (frames["status"] != "no_hit").tolist() == [True] * 15 + [False] * 4
    assert frames["n_spots"][:15].corr(pd.Series(DIALS_SPOTS[:15]), method="spearman") > 0.98
    assert frames["n_spots"][:15].div(DIALS_SPOTS[:15]).between(1.0, 2.0).all()
    assert frames["n_spots"][15:].max() < 5

    with np.load(data / "dials_reference_crystals.npz") as crystals:
        reference = crystals["A"][0]
    b, rotations = b_matrix(SAMPLE.unit_cell), lattice_rotations(SAMPLE.unit_cell, SAMPLE.gemmi_space_group)
    lattices = pd.read_parquet(chunk / "lattices.parquet")
    a = lattices[[f"a{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy().reshape(-1, 3, 3)
    misset = np.array([misorientation_deg(m, reference, b, rotations) for m in a])
    assert lattices["frame"][misset < 1.0].nunique() >= 14
