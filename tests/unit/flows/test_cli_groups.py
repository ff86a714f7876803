"""``ssx groups``: made, refused, changed; on an embedded ISPyB with records only, no images."""

import datetime
from pathlib import Path

import pytest

from flows.group_names import check_name
from flows.permissions import NotAllowedError
from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.embedded import create_embedded_ispyb
from ispyb_io.protocol import NotFoundError
from ssx_processing.errors import SettingsError

from .conftest import Given

START = datetime.datetime(2026, 11, 21, 9, 0, 0)
CHIPS = [("mx1", "a"), ("mx1", "b"), ("mx2", "theirs")]


@pytest.fixture
def give(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Commands on an ISPyB with two samples of a proposal and one of another; ids are 1, 2, 3."""
    engine = create_embedded_ispyb(tmp_path / "ispyb.sqlite")
    for proposal, name in CHIPS:
        chip = CollectedChip(
            proposal=proposal, beamline="ID29", session_start=START, protein_acronym="lyso", sample_name=name,
            image_directory=tmp_path / proposal, file_template=f"{name}.h5", n_images=10, wavelength=1.0,
            detector_distance_mm=100.0, beam_centre_mm=(1.0, 1.0), exposure_s=0.01, start_time=START,
        )  # fmt: skip
        write_collected_chip(engine, chip)
    engine.dispose()
    monkeypatch.setenv("SSX_ISPYB_URL", f"sqlite:///{tmp_path}/ispyb.sqlite")
    monkeypatch.setenv("COLUMNS", "160")
    return given


def refused(give: Given, *words: str) -> BaseException | None:
    done = give("groups", *words)
    assert done.exit_code != 0, done.output
    return done.exception


def test_a_group_is_made_changed_and_shown(give: Given):
    assert "ssx merge lyso" in give("groups", "create", "lyso", "--collection", "1", "--sample", "2").output
    assert "2 " in give("groups").output
    give("groups", "exclude", "lyso", "--sample", "2", "--reason", "dry")
    shown = give("groups", "show", "1").output
    assert ("excluded" in shown, "dry" in shown, "ID29" in shown) == (True, True, True)
    assert "1, 1 excluded" in give("groups").output
    give("groups", "include", "lyso", "--group", "2", "--reason", "was not")
    history = give("groups", "history", "lyso").output
    assert (history.count("included"), history.count("excluded"), "was not" in history) == (3, 1, True)


def test_a_rule_takes_in_what_is_of_the_same_proposal(give: Given):
    shown = give("groups", "create", "all lyso", "--rule", "same-protein", "--of", "1").output
    assert "rule: same-protein as group 1" in shown
    assert shown.count("included") == 2
    assert "ssx merge 'all lyso'" in shown


def test_members_of_other_proposals_need_the_sites_leave(give: Given, monkeypatch: pytest.MonkeyPatch):
    both = ("create", "both", "--group", "1", "--group", "3", "--for", "mx1")
    assert isinstance(refused(give, *both), NotAllowedError)
    assert "several proposals (mx1, mx2); give --for" in str(refused(give, *both[:-2]))
    monkeypatch.setenv("SSX_PROPOSAL", "mx1")
    assert isinstance(refused(give, "create", "x", "--collection", "3"), NotFoundError)
    monkeypatch.delenv("SSX_PROPOSAL")
    monkeypatch.setenv("SSX_SHARED_PROPOSALS", '[["mx1", "mx2"]]')
    assert give("groups", *both).exit_code == 0
    assert isinstance(refused(give, "include", "both", "--collection", "99"), NotFoundError)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "new"), "name the members"),
        (("create", "new", "--rule", "same-sample"), "--rule and --of go together"),
        (("create", "lyso", "--group", "1"), "has a group lyso already"),
        (("create", "new", "--sample", "9"), "no sample with data 9"),
        (("create", "new", "--rule", "same-sample-group", "--of", "1"), "is in no BLSampleGroup"),
        (("exclude", "lyso", "--collection", "2", "--reason", "dry"), "has no such member"),
        (("exclude", "lyso", "--collection", "1", "--reason", " "), "say why"),
        (("include", "lyso"), "say which"),
        (("show", "nothing"), "no processing group nothing"),
    ],
)
def test_what_cannot_be_is_said(give: Given, words: tuple[str, ...], message: str):
    give("groups", "create", "lyso", "--collection", "1")
    assert message in str(refused(give, *words))


@pytest.mark.parametrize("name", ["12", "group 12", "Group 3", "a/b", "", " a", "a ", "..", "x" * 101])
def test_names_that_would_mean_something_else_are_refused(name: str):
    with pytest.raises(SettingsError, match="give another"):
        check_name(name)
