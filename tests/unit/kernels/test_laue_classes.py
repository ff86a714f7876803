import pytest

from ssx_processing.kernels.laue_classes import POINT_GROUPS, exact_space_group, group_of_class


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("4/mmm", "P 4 2 2"), ("422", "P 4 2 2"), ("I4/mmm", "I 4 2 2"), ("mmm", "P 2 2 2"),
        ("222", "P 2 2 2"),
        ("-3m", "P 3 2 1"), ("-31m", "P 3 1 2"), ("R-3m", "R 3 2:H"), ("m-3", "P 2 3"), ("m-3m", "P 4 3 2"),
        ("Fm-3m", "F 4 3 2"), ("2/m", "P 1 2 1"), ("C2/m", "C 1 2 1"), ("6/m", "P 6"), ("-1", "P 1"),
    ],
)  # fmt: skip
def test_a_class_is_stood_for_by_its_group_without_mirrors_and_screw_axes(text: str, symbol: str):
    assert exact_space_group(text) is None
    group = group_of_class(text)
    assert group is not None
    assert group.xhm() == symbol
    assert group.is_sohncke()
    assert group.is_symmorphic()


@pytest.mark.parametrize(
    ("text", "number"), [("P43212", 96), ("96", 96), ("P 1 21 1", 4), ("23", 23), ("C2", 5)]
)
def test_a_symbol_or_number_is_a_space_group(text: str, number: int):
    group = exact_space_group(text)
    assert group is not None
    assert group.number == number


def test_the_centring_of_the_lattice_is_taken_where_the_class_has_none():
    for point_group in POINT_GROUPS:
        group = group_of_class(point_group, "R" if point_group.startswith(("3", "-3")) else "P")
        assert group is not None
        assert group.is_sohncke()
    group = group_of_class("4/mmm", "I")
    assert group is not None
    assert group.hm == "I 4 2 2"


def test_what_is_no_symmetry_is_none():
    assert exact_space_group("hello") is None
    assert group_of_class("hello") is None
    assert group_of_class("") is None
