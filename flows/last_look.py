"""What the watcher saw last, for those who watch the watcher."""

import datetime
from collections.abc import Sequence

from flows.looks import GroupLook, Verdict
from flows.settings import SiteSettings
from ispyb_io.records import Record
from ssx_processing.formats.chunk_folder import write_json

LAST_LOOK = "ssx-last-look.json"
"""In data_home."""


class LastLook(Record):
    """When the watcher looked, and how many groups it saw in which state."""

    at: float
    """Seconds since 1970."""
    groups: dict[str, int]


def keep_last_look(looks: Sequence[GroupLook], site: SiteSettings) -> None:
    """Remember what was seen."""
    groups = {verdict.value: sum(look.verdict is verdict for look in looks) for verdict in Verdict}
    look = LastLook(at=datetime.datetime.now().timestamp(), groups=groups)
    site.data_home.mkdir(parents=True, exist_ok=True)
    write_json(site.data_home / LAST_LOOK, look.model_dump())


def read_last_look(site: SiteSettings) -> LastLook | None:
    """What was seen last; None if nobody has looked yet."""
    try:
        return LastLook.model_validate_json((site.data_home / LAST_LOOK).read_text())
    except (OSError, ValueError):
        return None
