"""Whom a site tells of what."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Occasion = Literal["finished", "partial", "failed", "low hit rate", "laser never toggles"]


class Notifications(BaseModel):
    """On which occasions a line is sent to the addresses of ``notify_urls``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    occasions: tuple[Occasion, ...] = get_args(Occasion)
    """Leave out what nobody wants to hear of."""
    low_hit_rate: float = Field(default=0.01, ge=0, le=1)
    """A result with fewer hits than this fraction of its frames is worth a word of its own."""
