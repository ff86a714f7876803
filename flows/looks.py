"""What the watcher sees in ISPyB: which groups are done, ready, to be waited for, or cannot be processed."""

import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from flows.databases import Databases
from flows.job import Job, ProcessRequest, job_of_group
from flows.messages import one_line
from flows.records import record_unprocessable
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import ImageReadError, SsxError
from ssx_processing.formats.frames import FrameSet


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
    """All groups of the site's experiment types above its mark, oldest first."""
    ispyb, newer_than = databases.require_ispyb(), site.newer_than
    while groups := ispyb.find_groups(newer_than, site.experiment_types):
        for group in groups:
            yield look_at_group(group, site, databases)
        newer_than = groups[-1].newest_data_collection_id


def look_at_group(group: DataCollectionGroup, site: SiteSettings, databases: Databases) -> GroupLook:
    """Whether a group is done, ready, to be waited for, or cannot be processed."""
    try:
        job = job_of_group(ProcessRequest(group_id=group.group_id), group, site)
    except ImageReadError as error:
        return waiting_or_failed(group, str(error), site, databases)
    except (SsxError, ValidationError) as error:
        record_unprocessable(group, one_line(error), databases)
        return GroupLook(group.group_id, Verdict.FAILED, one_line(error))
    known = databases.ledger.processing(job.key)
    if known is not None and known.status.has_result:
        return GroupLook(group.group_id, Verdict.DONE, f"{known.status}, {known.message}", known.folder)
    if known is not None and known.status is WorkStatus.FAILED and known.attempts >= site.group_attempts:
        detail = f"given up after {known.attempts} attempts: {known.message}"
        return GroupLook(group.group_id, Verdict.FAILED, detail, known.folder)
    reason = why_not_complete(job, site)
    if reason:
        return waiting_or_failed(group, reason, site, databases)
    return GroupLook(group.group_id, Verdict.READY, "ready", job.folder)


def why_not_complete(job: Job, site: SiteSettings) -> str:
    """What of the files is still missing; empty if nothing is."""
    for data_set in job.data_sets:
        collection = data_set.collection
        if collection is None:
            continue
        try:
            with FrameSet(data_set.paths) as frames:
                n_frames = frames.n_frames
                changed_ns = max(file["mtime_ns"] for file in frames.identity()["files"])
        except SsxError as error:
            return str(error)
        if collection.n_images is not None and n_frames < collection.n_images:
            return f"{data_set.name}: {n_frames} of {collection.n_images} frames are there"
        if not has_ended(collection) and time.time() - changed_ns / 1e9 < site.quiet_time_s:
            return f"{data_set.name}: files changed within the last {site.quiet_time_s:g} s"
    return ""


def has_ended(collection: DataCollection) -> bool:
    """Whether the record says that the detector is done."""
    return collection.end_time is not None or collection.run_status is not None


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
    record_unprocessable(group, message, databases)
    return GroupLook(group.group_id, Verdict.FAILED, message)
