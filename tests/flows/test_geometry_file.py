"""``--geometry FILE``: images that say nothing of themselves are processed like those that do."""

from pathlib import Path

import h5py
import pytest
from sqlalchemy import Engine

from flows.databases import open_databases
from flows.job import ProcessRequest
from flows.job_of_request import find_job, job_of_files
from flows.merge import MergeRequest, run_merge
from flows.process import run_process
from flows.readiness import readiness
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.formats.frames import FrameSet
from ssx_processing.simulation.chip import SimulatedChip
from tests.command_line import ssx
from tests.flows.conftest import CHIP, enter_chip


@pytest.fixture
def geom(chip: SimulatedChip, tmp_path: Path) -> Path:
    """The chip's geometry as CrystFEL would have it, with its mask in the file of images."""
    with FrameSet([chip.master]) as frames:
        geometry = frames.geometry
    panel = geometry.panels[0]
    x, y, z = panel.origin_mm
    pixel = panel.pixel_size_mm[0]
    lines = [
        f"wavelength = {geometry.wavelength} A", f"clen = {-z} mm", f"res = {1e3 / pixel}",
        "adu_per_photon = 1", "data = /run/pixels", "dim0 = %", "dim1 = ss", "dim2 = fs",
        "mask = /run/mask", "mask_bad = 0xffffffff",
        "p0/min_fs = 0", f"p0/max_fs = {panel.n_fast - 1}", "p0/min_ss = 0",
        f"p0/max_ss = {panel.n_slow - 1}",
        "p0/fs = -x", "p0/ss = -y", f"p0/corner_x = {-x / pixel}", f"p0/corner_y = {y / pixel}",
    ]  # fmt: skip
    (tmp_path / "chip.geom").write_text("\n".join(lines))
    return tmp_path / "chip.geom"


@pytest.fixture
def plain(chip: SimulatedChip, tmp_path: Path) -> Path:
    """Half of the chip's frames and its mask, without a word on geometry."""
    with FrameSet([chip.master]) as frames:
        bad = frames.bad_pixels
    with h5py.File(tmp_path / "run.h5", "w") as file, h5py.File(chip.data_files[0], "r") as data:
        data.copy("entry/data/data", file.create_group("run"), "pixels")
        file["run/mask"] = bad.astype("u4")
    return tmp_path / "run.h5"


def request(chip: SimulatedChip, plain: Path, geom: Path) -> ProcessRequest:
    return ProcessRequest(
        files=(plain,),
        unit_cell=chip.sample.unit_cell,
        space_group=chip.sample.space_group,
        folder=plain.parent / "out",
        geometry_file=geom,
    )


def test_plain_files_are_processed_merged_again_and_known_by_their_geometry(
    chip: SimulatedChip, plain: Path, geom: Path, site: SiteSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SSX_ISPYB_URL")
    monkeypatch.delenv("SSX_LEDGER_URL")
    outcome = run_process(request(chip, plain, geom), site)
    assert outcome.status is WorkStatus.SUCCESS
    assert outcome.counts.frames_total == CHIP.n_frames // 2
    assert outcome.merge.lattices_merged > 10
    merged = run_merge(MergeRequest(folder=outcome.folder, settings={"merging": {"n_shells": 5}}))
    assert merged.merge.key != outcome.merge.key
    asked = request(chip, plain, geom)
    key = job_of_files(asked, site).key
    assert key == job_of_files(asked, site).key
    geom.write_text(geom.read_text() + "\np0/mask_edge_pixels = 1\n")
    assert key != job_of_files(asked, site).key


def test_counts_per_photon_come_from_the_geometry_file_unless_set(
    chip: SimulatedChip, plain: Path, geom: Path, site: SiteSettings
):
    geom.write_text(geom.read_text().replace("adu_per_photon = 1", "adu_per_photon = 2.5"))
    asked = request(chip, plain, geom)
    assert job_of_files(asked, site).settings.spots.gain == 2.5
    own = asked.model_copy(update={"settings": {"spots": {"gain": 3}}})
    assert job_of_files(own, site).settings.spots.gain == 3


def test_a_group_is_another_job_with_a_geometry_file(
    chip: SimulatedChip, geom: Path, ispyb: Engine, site: SiteSettings
):
    geom.write_text("\n".join(line for line in geom.read_text().splitlines() if not line.startswith("mask")))
    group_id = enter_chip(ispyb, chip, CHIP).group_id
    with open_databases(site) as databases:
        plain = find_job(ProcessRequest(group_id=group_id), site, databases)
        given = find_job(ProcessRequest(group_id=group_id, geometry_file=geom), site, databases)
    assert given.data_sets[0].geometry_file == geom.resolve()
    assert given.key != plain.key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "chip.geom: No such file or directory"),
        (
            "wavelength = 1 A\nclen = 3 feet\np/min_fs = 0\np/max_fs = 9\np/min_ss = 0\np/max_ss = 9\n",
            "chip.geom, line 2: p/clen = 3 feet: expected the unit m or mm",
        ),
    ],
)
def test_a_wrong_geometry_file_is_one_line(
    chip: SimulatedChip, geom: Path, tmp_path: Path, text: str | None, message: str
):
    geom.unlink()
    if text is not None:
        geom.write_text(text)
    sample = ("--cell", "79.1,79.1,37.9,90,90,90", "--space-group", "P43212")
    done = ssx(
        "process", chip.master, *sample, "--out", tmp_path / "out", "--geometry", geom.name, cwd=tmp_path
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message in line


def test_geometry_file_of_the_site_is_as_good_as_one_given_by_hand(
    chip: SimulatedChip, plain: Path, geom: Path, ispyb: Engine, site: SiteSettings, tmp_path: Path
):
    here = site.model_copy(update={"geometry_file": geom})
    by_hand = request(chip, plain, geom)
    assert job_of_files(by_hand.model_copy(update={"geometry_file": None}), here) == job_of_files(
        by_hand, site
    )
    other = tmp_path / "other.geom"
    other.write_text(geom.read_text() + "\np0/mask_edge_pixels = 1\n")
    assert job_of_files(request(chip, plain, other), here) == job_of_files(request(chip, plain, other), site)
    geom.write_text("\n".join(line for line in geom.read_text().splitlines() if not line.startswith("mask")))
    group_id = enter_chip(ispyb, chip, CHIP).group_id
    with open_databases(site) as databases:
        given = find_job(ProcessRequest(group_id=group_id, geometry_file=geom), site, databases)
        assert find_job(ProcessRequest(group_id=group_id), here, databases) == given
        assert readiness(given, None, here, databases.ledger).state == "ready"
