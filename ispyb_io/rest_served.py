"""How a JSON object of py-ispyb is read: under its own names, whatever the version serves.

What is not there, or null, is None; what is there besides is passed over.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ispyb_io.protocol import RejectedError


class Served(BaseModel):
    """Reads what it knows of a JSON object."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_missing(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def of(cls, content: Any, where: str) -> Self:
        """Read a JSON object that came from ``where``.

        Raises
        ------
        RejectedError
            Something that is always there is not, or is of another kind.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, problem["loc"])) or "the answer"
            raise RejectedError(
                f"{where}: {place} is not as py-ispyb serves it: {problem['msg']}; is its version known here?"
            ) from error


class ServedName(Served):
    """A row of a table of words."""

    name: str = ""
