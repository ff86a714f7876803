"""The form that Prefect's UI shows for merging again: settings of the merge, as they were unless given."""

from typing import Annotated, Any, Optional

from pydantic import BaseModel, ConfigDict, Field, create_model

from flows.merge import MergeRequest
from ssx_processing.settings import MergingSettings

UNITS = {
    "d_min": "Å",
    "max_obliquity_deg": "degrees",
    "b_restraint": "Å²",
    "max_push_res": "1/Å",
    "max_cell_deviation": "robust standard deviations",
}
NAMES = list(MergingSettings.model_fields)
OPTIONAL = tuple(name for name in NAMES if MergingSettings.model_fields[name].default is None)
"""Settings that are chosen from the data, or not used, unless they are given."""


def _shape(schema: dict[str, Any], position: int) -> None:
    """A field that may be empty, at its place.

    One kind, not "this or null", which Prefect shows as tabs; no default, which it would send; the order, as
    PostgreSQL keeps that of no object.
    """
    schema["position"] = position
    schema.pop("default", None)
    kinds = [kind for kind in schema.pop("anyOf", []) if kind.get("type") != "null"]
    schema.update(*kinds)


def _field(name: str) -> tuple[Any, Any]:
    field = MergingSettings.model_fields[name]
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation  # pyright: ignore[reportInvalidTypeForm]
    unit = f" ({UNITS[name]})" if name in UNITS else ""
    usual = "not given" if name in OPTIONAL else field.default
    made = Field(
        default=None,
        title=f"{name}{unit}",
        description=f"{' '.join((field.description or '').split())} Usual: {usual}.",
        json_schema_extra=lambda schema: _shape(schema, NAMES.index(name)),
    )
    return Optional[kind], made  # noqa: UP045 (a type that is made here)


FIELDS: dict[str, Any] = {name: _field(name) for name in NAMES}

MergingForm = create_model(
    "MergingForm",
    __config__=ConfigDict(extra="forbid", frozen=True, title="Settings of the merge"),
    __doc__="What is left empty stays as in the last result.",
    **FIELDS,
)


class MergeForm(BaseModel):
    """Merge a processed group again; no image is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Merge again")

    group: Annotated[str, Field(min_length=1, title="Group", json_schema_extra={"position": 0}, description=(
        "Number of the data collection group in ISPyB, or the name of a processing group (ssx groups)."
    ))]  # fmt: skip
    asked_by: Annotated[
        str,
        Field(
            min_length=1,
            title="Who asks",
            description="Your name; it stands in the result.",
            json_schema_extra={"position": 1},
        ),
    ]
    settings: Annotated[
        MergingForm,  # pyright: ignore[reportInvalidTypeForm]
        Field(
            title="Settings",
            json_schema_extra={"position": 2},
            description="What is left empty stays as in the last result.",
        ),
    ] = MergingForm()
    back_to_usual: Annotated[
        list[str],
        Field(
            title="Back to usual",
            description="Settings that the last result had given, and that the program is to choose again.",
            json_schema_extra={"position": 3, "items": {"type": "string", "enum": list(OPTIONAL)}},
        ),
    ] = []

    def request(self) -> MergeRequest:
        """The merge that is asked for.

        Raises
        ------
        ValueError
            A setting is both given and to be as usual.
        """
        given = {name: value for name, value in self.settings if value is not None}
        if both := sorted(given.keys() & set(self.back_to_usual)):
            raise ValueError(f"{', '.join(both)}: given, and to be as usual; choose one of these")
        merging = given | dict.fromkeys(self.back_to_usual)
        number = int(self.group) if self.group.isdigit() else None
        return MergeRequest(
            group_id=number,
            group_name=None if number is not None else self.group,
            settings={"merging": merging} if merging else {},
            asked_by=self.asked_by,
        )
