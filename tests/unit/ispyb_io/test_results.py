"""What results refuse and what they shorten before anything reaches a database."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ispyb_io.results import (
    Attachment,
    CollectionResult,
    MergedMember,
    MergedResult,
    MergingStatistics,
    ResolutionShell,
    ResultStatus,
)

OVERALL = MergingStatistics(
    resolution_shell=ResolutionShell.OVERALL, d_max=40.0, d_min=1.8, n_observations=90000, n_reflections=11000
)
MEMBERS = (MergedMember(data_collection_id=1, last_image=100),)
CELL = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)


def collection(**changes: Any) -> CollectionResult:
    values: dict[str, Any] = {
        "data_collection_id": 1,
        "key": "k1",
        "program": "ssx",
        "status": ResultStatus.SUCCESS,
        "last_image": 100,
    }
    return CollectionResult(**(values | changes))


def merged(**changes: Any) -> MergedResult:
    values: dict[str, Any] = {
        "name": "all",
        "key": "k1",
        "program": "ssx",
        "status": ResultStatus.SUCCESS,
        "members": MEMBERS,
        "space_group": "P43212",
        "unit_cell": CELL,
        "statistics": (OVERALL,),
    }
    return MergedResult(**(values | changes))


def test_a_long_message_is_shortened_visibly():
    message = collection(message="x" * 300).message
    assert len(message) == 255
    assert message.endswith("x…")


def test_a_message_that_fits_is_left_alone():
    assert collection(message="x" * 255).message == "x" * 255


@pytest.mark.parametrize("path", ["/" + "d" * 255 + "/a.mtz", "/d/" + "a" * 256])
def test_a_path_that_ispyb_cannot_hold_is_an_error(path: str):
    with pytest.raises(ValidationError, match=r"has 256 characters, ISPyB holds 255"):
        Attachment(path=Path(path))


def test_a_path_of_the_greatest_length_is_taken():
    path = Path("/" + "d" * 254 + "/" + "a" * 255)
    assert Attachment(path=path).path == path


def test_a_relative_path_is_an_error():
    with pytest.raises(ValidationError, match="is relative"):
        Attachment(path=Path("merged.mtz"))


def test_two_attachments_of_one_name_are_an_error():
    two = (Attachment(path=Path("/a/x.log")), Attachment(path=Path("/b/x.log")))
    with pytest.raises(ValidationError, match="two attachments of one name"):
        collection(attachments=two)


@pytest.mark.parametrize(
    "changes", [{"unit_cell": None}, {"space_group": None}, {"statistics": ()}, {"space_group": ""}]
)
def test_a_merge_that_succeeded_has_cell_space_group_and_statistics(changes: dict[str, Any]):
    with pytest.raises(ValidationError):
        merged(**changes)


def test_a_merge_that_failed_needs_none_of_them():
    failed = merged(unit_cell=None, space_group=None, statistics=(), status=ResultStatus.FAILED)
    assert failed.unit_cell is None


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cell_is_six_positive_numbers(bad: float):
    with pytest.raises(ValidationError):
        merged(unit_cell=(bad, *CELL[1:]))


def test_a_member_is_listed_once():
    with pytest.raises(ValidationError, match="listed twice"):
        merged(members=MEMBERS + MEMBERS)


def test_a_shell_is_listed_once():
    with pytest.raises(ValidationError, match="statistics of a shell are given twice"):
        merged(statistics=(OVERALL, OVERALL))


def test_interchanged_resolution_limits_are_an_error():
    with pytest.raises(ValidationError, match="interchanged"):
        MergingStatistics.model_validate(OVERALL.model_dump() | {"d_max": 1.8, "d_min": 40.0})


def test_what_is_not_a_number_becomes_null():
    assert MergingStatistics.model_validate(OVERALL.model_dump() | {"cc_half": float("nan")}).cc_half is None


def test_a_time_with_a_zone_becomes_local_time_in_whole_seconds():
    time = datetime.datetime(2026, 11, 21, 9, 0, 0, 999999, tzinfo=datetime.UTC)
    expected = time.astimezone().replace(tzinfo=None, microsecond=0)
    assert collection(started=time).started == expected


def test_a_key_with_a_blank_is_an_error():
    with pytest.raises(ValidationError):
        collection(key="a b")
