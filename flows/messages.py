"""Errors in one line, for terminals, lists and databases."""

import errno

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ispyb_io.protocol import IspybError
from ssx_processing.errors import SsxError

FULL = (errno.ENOSPC, errno.EDQUOT)


def one_line(error: BaseException) -> str:
    """What is wrong, without line breaks; an error that nobody foresaw with its type.

    Examples
    --------
    >>> from ssx_processing.errors import ImageReadError
    >>> one_line(ImageReadError("a.h5: truncated"))
    'a.h5: truncated'
    >>> one_line(KeyError("frame"))
    "KeyError: 'frame'"
    """
    if isinstance(error, ValidationError):
        return "; ".join(_of_field(detail) for detail in error.errors())
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{text}; make room on the disk of the results: what is done is kept, the same command goes on"
    return text if isinstance(error, SsxError | IspybError | OSError) else f"{type(error).__name__}: {text}"


def _of_field(detail: ErrorDetails) -> str:
    """Pydantic's words for one field, with the field's name as users write it."""
    name = ".".join(str(part) for part in detail["loc"])
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    if detail["type"].startswith("value_error"):
        return text
    return f"{name}: {text}, got {detail['input']!r}"
