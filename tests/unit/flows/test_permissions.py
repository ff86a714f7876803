"""A run for one proposal opens no file and sees no record of another."""

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import Result

from flows.permissions import NotAllowedError, check_across, check_files, check_group
from flows.settings import SiteSettings
from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.records import DataCollectionGroup
from ssx_processing.settings import RequestedSettings

MINE, THEIRS = "mx1234", "mx9876"
START = datetime.datetime(2026, 11, 21, 9, 0, 0)
Given = Callable[..., Result]


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of two proposals, and a site that keeps runs inside their own."""
    for proposal in (MINE, THEIRS):
        (tmp_path / proposal).mkdir()
        with h5py.File(tmp_path / proposal / "data.h5", "w") as file:
            file["data"] = np.zeros((2, 3, 4), np.uint16)
    monkeypatch.setenv("SSX_ALLOWED_ROOTS", f'["{tmp_path}/{{proposal}}"]')
    return tmp_path


def virtual(file: h5py.File, target: str) -> None:
    layout = h5py.VirtualLayout((2, 3, 4), np.uint16)
    layout[:] = h5py.VirtualSource(target, "data", (2, 3, 4))
    file.create_virtual_dataset("entry/data", layout)


def external_link(file: h5py.File, target: str) -> None:
    file["entry/data"] = h5py.ExternalLink(target, "data")


def raw_data(file: h5py.File, target: str) -> None:
    file.create_dataset("entry/data", (2, 3, 4), np.uint16, external=[(target, 0, h5py.h5f.UNLIMITED)])


def numbered(file: h5py.File, target: str) -> None:
    unlimited = h5py.h5s.UNLIMITED
    here = h5py.h5s.create_simple((2, 3, 4), (unlimited, 3, 4))
    here.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (2, 1, 1), (2, 3, 4))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_virtual(here, target.encode(), b"data", h5py.h5s.create_simple((2, 3, 4)))
    space = h5py.h5s.create_simple((2, 3, 4), (unlimited, 3, 4))
    h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, space, plist)


REFERRING = pytest.mark.parametrize("refer", [virtual, external_link, raw_data])
REFUSED = "outside the folders of this proposal"


def master(visitor: Path, refer: Callable[[h5py.File, str], None], target: Path | str) -> Path:
    path = visitor / MINE / "master.h5"
    with h5py.File(path, "w") as file:
        refer(file, str(target))
    return path


@REFERRING
@pytest.mark.parametrize("written", ["data.h5", f"../{MINE}/data.h5"])
def test_what_a_file_refers_to_inside_is_allowed(visitor: Path, refer: Callable, written: str):
    check_files(SiteSettings(), MINE, [master(visitor, refer, written)])


@REFERRING
@pytest.mark.parametrize(
    "written", [f"../{THEIRS}/data.h5", f"../{THEIRS}/no.h5", "{visitor}/mx9876/data.h5"]
)
def test_a_file_that_refers_to_anothers_is_refused_there_or_not(visitor: Path, refer: Callable, written: str):
    with pytest.raises(
        NotAllowedError, match=rf"master\.h5: what /entry/data refers to: .*{REFUSED}"
    ) as error:
        check_files(SiteSettings(), MINE, [master(visitor, refer, written.format(visitor=visitor))])
    assert THEIRS not in str(error.value)


@REFERRING
def test_links_are_followed_through_several_files(visitor: Path, refer: Callable):
    with h5py.File(visitor / MINE / "data.h5", "w") as file:
        refer(file, f"{visitor}/{THEIRS}/data.h5")
    with pytest.raises(NotAllowedError, match=r"data\.h5: what /entry/data"):
        check_files(SiteSettings(), MINE, [master(visitor, external_link, "data.h5")])


def test_a_numbered_virtual_file_is_found(visitor: Path):
    (visitor / MINE / "part_7.h5").symlink_to(visitor / THEIRS / "data.h5")
    with pytest.raises(NotAllowedError, match=REFUSED):
        check_files(SiteSettings(), MINE, [master(visitor, numbered, "part_%b.h5")])


@pytest.mark.parametrize("name", ["there", "missing"])
def test_a_symbolic_link_out_is_refused_whether_it_leads_to_something_or_not(visitor: Path, name: str):
    (visitor / THEIRS / "there").touch()
    link = visitor / MINE / "link"
    link.symlink_to(visitor / THEIRS / name)
    with pytest.raises(NotAllowedError, match=REFUSED) as error:
        check_files(SiteSettings(), MINE, [link])
    assert THEIRS not in str(error.value)


def test_a_root_may_be_a_symbolic_link_have_wildcards_and_the_name_in_capitals(
    visitor: Path, monkeypatch: pytest.MonkeyPatch
):
    (visitor / "i24" / "2026").mkdir(parents=True)
    (visitor / "i24" / "2026" / f"{MINE}-1").symlink_to(visitor / MINE)
    monkeypatch.setenv("SSX_ALLOWED_ROOTS", f'["{visitor}/*/2026/{{proposal}}-*"]')
    check_files(SiteSettings(), MINE.upper(), [visitor / MINE / "data.h5"])
    with pytest.raises(NotAllowedError):
        check_files(SiteSettings(), "mx123", [visitor / MINE / "data.h5"])


@pytest.mark.parametrize("name", ["..", "*", "mx1/../mx9876", "", None])
def test_a_proposal_whose_name_is_no_plain_one_has_no_files(visitor: Path, name: str | None):
    with pytest.raises(NotAllowedError, match="SSX_PROPOSAL"):
        check_files(SiteSettings(), name, [visitor / THEIRS / "data.h5"])


@pytest.mark.parametrize("name", ["reference", "subset_table", "setting_reference"])
def test_files_that_settings_name_are_looked_at(visitor: Path, name: str):
    settings = RequestedSettings.model_validate({"merging": {name: visitor / THEIRS / "data.h5"}})
    with pytest.raises(NotAllowedError, match=REFUSED):
        check_files(SiteSettings(), MINE, settings=settings)


@pytest.mark.parametrize("geometry", ["own.geom", "mask.geom"])
def test_a_geometry_file_and_its_masks_are_looked_at(visitor: Path, geometry: str):
    (visitor / MINE / "own.geom").symlink_to(visitor / THEIRS / "data.h5")
    mask = f"mask0_file = {visitor}/{THEIRS}/data.h5\nmask0_data = /data\n"
    (visitor / MINE / "mask.geom").write_text(
        f"{mask}p/min_fs = 0\np/max_fs = 3\np/min_ss = 0\np/max_ss = 2\n"
    )
    with pytest.raises(NotAllowedError, match=REFUSED):
        check_files(SiteSettings(), MINE, geometry_file=visitor / MINE / geometry)


def test_without_roots_nothing_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SSX_ALLOWED_ROOTS", raising=False)
    check_files(SiteSettings(), None, [tmp_path / "anything"])


@pytest.mark.parametrize("root", ["data/{proposal}", "/data/{visit}", "/data/{}"])
def test_a_root_that_cannot_be_meant_is_refused(root: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_ALLOWED_ROOTS", f'["{root}"]')
    with pytest.raises(ValueError, match="expected an absolute path"):
        SiteSettings()


def test_a_bound_command_knows_no_group_of_another_proposal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_PROPOSAL", MINE)
    check_group(SiteSettings(), DataCollectionGroup(group_id=7, session_id=1, proposal=MINE.upper()))
    with pytest.raises(NotAllowedError, match="there is no group 7 in proposal mx1234"):
        check_group(SiteSettings(), DataCollectionGroup(group_id=7, session_id=1, proposal=THEIRS))


def test_data_of_several_proposals_go_together_only_where_the_site_names_them_together(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SSX_SHARED_PROPOSALS", '[["mx1234", "mx9876"], ["mx1234", "mx5"]]')
    check_across(SiteSettings(), MINE, [MINE, THEIRS])
    with pytest.raises(NotAllowedError, match="SSX_SHARED_PROPOSALS") as error:
        check_across(SiteSettings(), MINE, [THEIRS, "mx5"])
    assert "mx5" not in str(error.value)


@pytest.mark.parametrize("words", ["process --group 1", "show 1", "merge 1", "recut 1", "export 1"])
def test_a_command_bound_to_another_proposal_does_not_see_a_group(
    words: str, tmp_path: Path, given: Given, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    monkeypatch.setenv("SSX_ISPYB_URL", f"sqlite:///{tmp_path}/ispyb.db")
    monkeypatch.setenv("SSX_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    engine = create_embedded_ispyb(tmp_path / "ispyb.db")
    assert write_collected_chip(engine, collected_chip(tmp_path)).group_id == 1
    ledger = Ledger(open_engine(tmp_path / "ledger.db", create=True))
    ledger.create_tables()
    group = ledger.ensure_group(THEIRS, "group 1", data_collection_group_id=1)
    ledger.begin(
        "key",
        folder=tmp_path,
        settings={},
        versions={},
        group_id=group.group_id,
        data_collection_group_id=1,
    )
    ledger.finish("key", WorkStatus.SUCCESS)
    monkeypatch.setenv("SSX_PROPOSAL", THEIRS)
    unbound = given(*words.split())
    monkeypatch.setenv("SSX_PROPOSAL", MINE)
    bound = given(*words.split())
    assert re.search("there is no group 1|group 1 has no result|was never processed", str(bound.exception))
    assert str(unbound.exception) != str(bound.exception)


@pytest.mark.parametrize("results_elsewhere", [False, True])
def test_a_group_whose_record_or_results_lead_elsewhere_is_refused(
    results_elsewhere: bool, visitor: Path, given: Given, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    monkeypatch.setenv("SSX_ISPYB_URL", f"sqlite:///{visitor}/ispyb.db")
    chip = collected_chip(visitor).model_copy(update={"proposal": MINE, "file_template": "data.h5"})
    if results_elsewhere:
        chip = chip.model_copy(update={"image_directory": visitor / MINE})
        monkeypatch.setenv("SSX_PROCESSING_FOLDER", f"{visitor}/{THEIRS}/results")
    write_collected_chip(create_embedded_ispyb(visitor / "ispyb.db"), chip)
    done = given("process", "--group", "1")
    assert isinstance(done.exception, NotAllowedError), done.output
    assert not (visitor / THEIRS / "results").exists()


def collected_chip(folder: Path) -> CollectedChip:
    return CollectedChip(
        proposal=THEIRS,
        beamline="ID29",
        session_start=START,
        protein_acronym="lyso",
        sample_name="chip",
        image_directory=folder / THEIRS,
        file_template="no.h5",
        n_images=2,
        wavelength=1.0,
        detector_distance_mm=100.0,
        beam_centre_mm=(1.0, 1.0),
        exposure_s=0.01,
        start_time=START,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("process", "{0}", "--out", "{1}/out"),
        ("process", "{1}/data.h5", "--out", "{0}/out"),
        ("view", "{0}"), ("tune", "{0}"), ("cells", "{0}"), ("statistics", "{0}.mtz"), ("show", "{0}"),
        ("merge", "{0}"), ("report", "{0}"), ("export", "{0}"), ("recut", "{0}"), ("geometry", "{0}"),
        ("status", "{0}"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_every_command_refuses_files_outside(
    words: tuple[str, ...], visitor: Path, given: Given, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_PROPOSAL", MINE)
    monkeypatch.setattr("flows.prefect_environment.prepare", lambda *_, **__: None)
    done = given(*(word.format(visitor / THEIRS, visitor / MINE) for word in words))
    assert isinstance(done.exception, NotAllowedError), done.output
