"""What the watcher sees in ISPyB: which groups are done, ready, to be waited for, or cannot be processed."""

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from flows.cancellation import CANCELLED
from flows.claim import check_unclaimed
from flows.databases import Databases
from flows.folder_lock import BusyError
from flows.job import Job, ProcessRequest, processing_settings
from flows.job_of_request import job_of_group
from flows.messages import one_line
from flows.permissions import is_own
from flows.readiness import readiness
from flows.settings import SiteSettings
from flows.unprocessable import record_unprocessable
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_records import Processing, WorkStatus
from ispyb_io.protocol import UnavailableError
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import SettingsError, SsxError

logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What the watcher thinks of a group."""

    PROCESSED = "processed"
    """By this look."""
    DONE = "done"
    """Before."""
    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(frozen=True)
class GroupLook:
    """One group as the watcher sees it."""

    group_id: int
    verdict: Verdict
    detail: str
    folder: Path | None = None
    is_live: bool = False
    """It is still being collected."""
    attempts: int = 0
    """So often it was tried before."""


class UnfinishedGroupsError(SsxError):
    """Some of the groups that the watcher took up did not end well."""

    def __init__(self, looks: list[GroupLook]) -> None:
        failed = [look for look in looks if look.verdict is Verdict.FAILED]
        super().__init__("; ".join(f"group {look.group_id}: {look.detail}" for look in failed))
        self.looks = looks


def raise_if_failed(looks: list[GroupLook]) -> None:
    """Nothing ends green while a group has failed."""
    if any(look.verdict is Verdict.FAILED for look in looks):
        raise UnfinishedGroupsError(looks)


def tally(looks: list[GroupLook]) -> str:
    """How many groups are in which state."""
    if not looks:
        return "no serial data collection groups in ISPyB"
    counts = {verdict: sum(look.verdict is verdict for look in looks) for verdict in Verdict}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def look_at_groups(site: SiteSettings, databases: Databases) -> Iterator[GroupLook]:
    """All groups of the site's experiment types above its mark, oldest first.

    Raises
    ------
    SettingsError
        The site's settings of the processing are wrong for whatever group.
    UnavailableError
        A database does not answer.
    """
    check_processing_settings(site)
    ispyb, newer_than = databases.require_ispyb(), site.newer_than
    while groups := ispyb.find_groups(newer_than, site.experiment_types):
        for group in groups:
            if is_own(site, group.proposal):
                yield look_at_group(group, site, databases)
        newer_than = groups[-1].newest_data_collection_id


def check_processing_settings(site: SiteSettings) -> None:
    """Raise now what would fail every group; any sample will do for that."""
    try:
        processing_settings(site, ProcessRequest(group_id=0), (10, 10, 10, 90, 90, 90), "P1")
    except ValidationError as error:
        raise SettingsError(
            f"the site's settings of the processing (SSX_PROCESSING) are wrong: {one_line(error)}"
        ) from error


def look_at_group(group: DataCollectionGroup, site: SiteSettings, databases: Databases) -> GroupLook:
    """Whether a group is done, ready, to be waited for, or cannot be processed."""
    try:
        return look_unguarded(group, site, databases)
    except UnavailableError:  # is the same for all groups
        raise
    except Exception as error:  # whatever it is, other groups wait
        logger.debug("group %d", group.group_id, exc_info=True)
        return GroupLook(group.group_id, Verdict.FAILED, f"cannot be looked at: {one_line(error)}")


def look_unguarded(group: DataCollectionGroup, site: SiteSettings, databases: Databases) -> GroupLook:
    """Look at a group; errors that nobody foresaw are raised."""
    try:
        group = databases.included(group)
    except SettingsError as error:
        return GroupLook(group.group_id, Verdict.DONE, str(error))
    try:
        job = job_of_group(ProcessRequest(group_id=group.group_id), group, site)
    except OSError as error:
        return waiting_or_failed(group, one_line(error), site, databases)
    except (SsxError, ValidationError) as error:
        return unprocessable(group, one_line(error), databases)
    known = databases.ledger.processing(job.key)
    folder = job.folder if known is None else known.folder
    if known is not None and known.status is WorkStatus.SUCCESS:
        return done(group, known)
    try:
        check_unclaimed(job.key, folder, databases.ledger, site, group.proposal)
    except BusyError as error:
        return GroupLook(group.group_id, Verdict.WAITING, str(error), folder)
    known = databases.ledger.processing(job.key)  # again: who held the claim a moment ago may just be done
    if known is not None and known.status is WorkStatus.SUCCESS:
        return done(group, known)
    try:
        frames = readiness(job, known, site, databases.ledger)
    except (SsxError, OSError) as error:
        return waiting_or_failed(group, one_line(error), site, databases)
    if frames.state == "nothing there":
        return waiting_or_failed(group, frames.detail, site, databases)
    if frames.state == "waiting":
        return GroupLook(group.group_id, Verdict.WAITING, frames.detail, folder)
    if known is not None and frames.state == "nothing new":
        reason = why_given_up(known, job, site, databases.ledger)
        if reason:
            return GroupLook(group.group_id, Verdict.FAILED, reason, folder)
    return GroupLook(
        group.group_id,
        Verdict.READY,
        frames.detail or "ready",
        job.folder,
        is_live=frames.is_live,
        attempts=0 if known is None else known.attempts,
    )


def done(group: DataCollectionGroup, known: Processing) -> GroupLook:
    """A group that has a whole result."""
    return GroupLook(group.group_id, Verdict.DONE, f"{known.status}, {known.message}", known.folder)


def why_given_up(known: Processing, job: Job, site: SiteSettings, ledger: Ledger) -> str:
    """Why a processing that did not end well is not tried again; empty if it is.

    Nobody works on it now: one recorded as running was killed.
    """
    if known.status is WorkStatus.PARTIAL and all_chunks_done(known, ledger):
        return f"partial result: {known.message}"  # what it lacks are images that never came
    if known.status is WorkStatus.FAILED and known.message.startswith(CANCELLED):
        return known.message
    if known.status is WorkStatus.FAILED and is_blank(known, job, ledger):
        return f"{known.message}; it is not tried again"
    if known.attempts < site.group_attempts:
        return ""
    if known.status is WorkStatus.PARTIAL:
        return f"partial result after {known.attempts} attempts: {known.message}"
    return f"given up after {known.attempts} attempts: {known.message or 'the last was killed'}"


def all_chunks_done(known: Processing, ledger: Ledger) -> bool:
    """Whether there are chunks and none has failed."""
    chunks = ledger.chunks(known.key)
    return bool(chunks) and all(chunk.status is WorkStatus.SUCCESS for chunk in chunks)


def is_blank(known: Processing, job: Job, ledger: Ledger) -> bool:
    """Whether all frames of all data sets were read and hold no lattice: so they will the next time."""
    chunks = ledger.chunks(known.key)
    # a processing stopped between two data sets knows only the chunks of the first
    n_data_sets = sum(chunk.start == 0 for chunk in chunks)
    return n_data_sets == len(job.data_sets) and all(
        chunk.status is WorkStatus.SUCCESS
        and chunk.counts["lattices_indexed"] == 0
        and chunk.counts["frames_unreadable"] == 0
        for chunk in chunks
    )


def waiting_or_failed(
    group: DataCollectionGroup, reason: str, site: SiteSettings, databases: Databases
) -> GroupLook:
    """Wait for files, but not for ever: then it is recorded that they never became complete."""
    last_sign = max(
        (c.end_time or c.start_time for c in group.data_collections if c.start_time), default=None
    )
    patience = datetime.timedelta(seconds=site.patience_s)
    if last_sign is None or datetime.datetime.now() - last_sign < patience:
        return GroupLook(group.group_id, Verdict.WAITING, reason)
    message = f"files are not complete {patience} after the collection: {reason}"
    return unprocessable(group, message, databases)


def unprocessable(group: DataCollectionGroup, message: str, databases: Databases) -> GroupLook:
    """A group that cannot be processed now; ISPyB is told unless it has a result, which stands."""
    processings = databases.ledger.processings(data_collection_group_id=group.group_id)
    if not any(processing.status.has_result for processing in processings):
        record_unprocessable(group, message, databases)
    return GroupLook(group.group_id, Verdict.FAILED, message)
