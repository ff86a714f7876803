"""The form of a merge in Prefect's UI: it has all settings, and refuses what the settings refuse."""

import pytest
from pydantic import ValidationError

from flows.merge_form import MergeForm
from ssx_processing.settings import MergingSettings

SHOWN = MergeForm.model_json_schema()["$defs"]["MergingForm"]["properties"]


def form(**values: object) -> MergeForm:
    return MergeForm.model_validate({"group": "57", "asked_by": "Ada Lovelace", **values})


@pytest.mark.parametrize("name", MergingSettings.model_fields)
def test_each_setting_is_a_field_that_may_be_empty_with_its_limits(name: str):
    shown, own = SHOWN[name], MergingSettings.model_json_schema()["properties"][name]
    assert shown["title"].split()[0] == name
    assert shown["description"]
    assert not {"anyOf", "default"} & shown.keys()
    limits = next((kind for kind in own.get("anyOf", []) if kind["type"] != "null"), own)
    same = ("type", "enum", "minimum", "maximum", "exclusiveMinimum", "format")
    assert {key: shown.get(key) for key in same} == {key: limits.get(key) for key in same}


def test_what_is_left_empty_stays():
    assert form().request().settings == {}
    request = form(settings={"d_min": 1.8}, back_to_usual=["subset_by"]).request()
    assert request.settings == {"merging": {"d_min": 1.8, "subset_by": None}}
    assert (request.group_id, request.group_name, request.asked_by) == (57, None, "Ada Lovelace")
    assert form(group="lyso dark").request().group_name == "lyso dark"


@pytest.mark.parametrize(
    "wrong", [{"d_min": -1}, {"model": "best"}, {"dmin": 2}, {"n_shells": 2.5}, {"cc_half_limit": 3}]
)
def test_wrong_values_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        form(settings=wrong)


def test_a_setting_is_given_or_as_usual_not_both():
    with pytest.raises(ValueError, match="d_min: given, and to be as usual"):
        form(settings={"d_min": 2}, back_to_usual=["d_min"]).request()
