"""What a chunk may take before it is ended."""

import faulthandler
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveFloat

P = ParamSpec("P")
T = TypeVar("T")


class ChunkLimits(BaseModel):
    """Limits of one chunk; the process that computes it is killed beyond them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seconds: PositiveFloat | None = 3600.0
    """Wall time; none: not limited."""
    memory_gb: PositiveFloat | None = None
    """Resident memory of the worker process, local engine only; Dask and Slurm have limits of their own."""


def within(seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)``, or the end of this process, with a traceback, after so many seconds.

    For processes that somebody else replaces. Of several threads the one that began last is timed.
    """
    # sys.stderr may be one of Dask's without a file descriptor
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        return function(*args, **kwargs)
    finally:
        faulthandler.cancel_dump_traceback_later()
