"""A line in plain words for people who do not look at pages: through Apprise to chat, mail or webhook."""

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apprise

from flows.file_links import url_of
from flows.job import Job
from flows.messages import one_line
from flows.notification_settings import Occasion
from flows.outcome import Outcome
from flows.secret_values import reveal
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import write_json

if TYPE_CHECKING:
    from prefect.blocks.abstract import NotificationBlock

logger = logging.getLogger(__name__)

SENT = "notices.json"
"""In the folder of a job: what was said of it last."""
NEVER_TOGGLES: Final = "laser never toggles"
"""Begins the line that the events have for it."""
TITLE = "SSX processing"
OF_PREFECT = re.compile(r"prefect-block:([^\s,]+)")
"""An address that is a notification block of Prefect, by type and name."""


@dataclass(frozen=True)
class Notice:
    """Something that people want to hear of."""

    occasion: Occasion
    text: str


def notices_of(outcome: Outcome, title: str, site: SiteSettings) -> list[Notice]:
    """What there is to say of a result; nothing while the collection goes on.

    Examples
    --------
    A finished result: "mx1234-2 group 57 chip 7: finished, 8 of 8 chunks; 40 hits (50.0 %), 40 indexed
    (100.0 % of hits); 2.10 Å, CC1/2 0.98, completeness 0.97; https://files/report.html"
    """
    if outcome.goes_on:
        return []
    overall, links = outcome.merge.overall, " ".join(url_of(p, site.file_url) for p in outcome.reports)
    figures = f"{overall.d_min:.2f} Å, CC1/2 {overall.cc_half:.2f}, completeness {overall.completeness:.2f}"
    is_whole = outcome.status is WorkStatus.SUCCESS
    how = "finished" if is_whole else "partial"
    found = [Notice(how, f"{title}: {how}, {outcome.message}; {figures}; {links}")]
    counts = outcome.counts
    if counts.hit_rate < site.notifications.low_hit_rate:
        rate = f"{counts.frame_hits} hits in {counts.frames_total} frames ({counts.hit_rate:.2%})"
        found.append(Notice("low hit rate", f"{title}: low hit rate, {rate}; {links}"))
    found += [
        Notice(NEVER_TOGGLES, f"{title}: {line}; {links}")
        for line in outcome.notices
        if line.startswith(NEVER_TOGGLES)
    ]
    return found


def failure_notices(error: BaseException, title: str) -> list[Notice]:
    """What there is to say of a job that was stopped."""
    return [Notice("failed", f"{title}: failed, {one_line(error)}")]


def tell_people(notices: list[Notice], job: Job, site: SiteSettings) -> None:
    """Send what the site wants to hear of; what was said of the job last is not said again.

    Nothing is raised: the result matters, and stands whether people hear of it or not.
    """
    if site.notify_urls is None:
        return
    wanted = [notice.text for notice in notices if notice.occasion in site.notifications.occasions]
    memory = job.folder / SENT
    if not wanted or wanted == _said_last(job):
        return
    try:
        failed = send(wanted, site)
        write_json(memory, {"said": wanted})
    except Exception as error:
        logger.warning("nobody was told: %s", one_line(error))
        return
    if failed:
        logger.warning("not everybody was told: %d of %d lines could not be sent", failed, len(wanted))


def send(lines: list[str], site: SiteSettings) -> int:
    """Send lines to all addresses; returns how many lines did not reach everybody.

    Raises
    ------
    SettingsError
        Apprise does not understand an address; it may hold a password, so it is not shown. Or Prefect has
        no such block.
    """
    if site.notify_urls is None:
        raise SettingsError("SSX_NOTIFY_URLS: not set, so there is nobody to tell")
    given = reveal(site.notify_urls)
    blocks = [_block(name) for name in OF_PREFECT.findall(given)]
    others, addresses = OF_PREFECT.sub("", given).strip(" ,"), apprise.Apprise()
    if (others and not addresses.add(others)) or not (blocks or len(addresses)):
        raise SettingsError(
            "SSX_NOTIFY_URLS: an address is not one that Apprise understands; expected e.g. "
            "mailtos://user:password@host, slack://..., json://host/path, prefect-block:TYPE/NAME, several "
            "with spaces between them"
        )
    return sum(not _reaches_everybody(line, addresses, blocks) for line in lines)


def _block(name: str) -> "NotificationBlock":
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    try:
        block = Block.load(name)
    except ValueError as error:
        raise SettingsError(
            f"SSX_NOTIFY_URLS: Prefect has no block {name!r}; expected TYPE/NAME, as its page of blocks shows"
        ) from error
    if not isinstance(block, NotificationBlock):
        raise SettingsError(f"SSX_NOTIFY_URLS: Prefect's block {name!r} cannot notify anybody")
    return block


def _reaches_everybody(line: str, addresses: apprise.Apprise, blocks: "list[NotificationBlock]") -> bool:
    reached = not len(addresses) or bool(addresses.notify(body=line, title=TITLE))
    for block in blocks:
        try:
            with block.raise_on_failure():
                block.notify(line, TITLE)  # pyright: ignore[reportUnusedCoroutine]  # it waits outside of a loop
        except Exception as error:
            logger.warning(
                "a block of Prefect did not send: %s", type(error).__name__
            )  # it may quote a secret
            reached = False
    return reached


def _said_last(job: Job) -> list[str]:
    try:
        return json.loads((job.folder / SENT).read_text())["said"]
    except (OSError, ValueError, KeyError):
        return []
